// The conformance handler of connections, in JavaScript.
export async function onConnect(flow, env, ctx) {
  await env.kv.increment("flows", 1);
  console.log("connection", { host: flow.host, port: flow.port, tls: flow.tls });
  if (flow.host === "pinned.test") return "pass";
  if (flow.host === "refused.test") deny("not this one");
  return "judge";
}
