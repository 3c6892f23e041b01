/// <reference path="../../sluicegate-policy.d.ts" />
// What authors write has types, and what does not exist has none. Checked by `npm run types`.

interface Bindings {
  TOKEN: Secret;
  KEYS: KeyValueStore;
  OBJECTS: ObjectStore;
  LIMIT: { most: number };
}

export default {
  async outbound(request, env, ctx) {
    if (request.method === "GET") return fetch(request);
    if (!ctx.params.allowed.includes(new URL(request.url).hostname)) deny("not in allowed");
    const headers = new Headers(request.headers);
    headers.set("authorization", `Bearer ${env.TOKEN}`);
    headers.set("x-token", env.TOKEN);
    const signal = AbortSignal.timeout(1000);
    const response = await fetch(new Request(request, { headers, signal }));
    const [sent, counted] = response.body!.tee();
    ctx.waitUntil(count(counted, env));
    return new Response(sent, response);
  },
  outboundByHost: {
    "my.kv": async (request, env, { containerId }) => {
      const value = await env.KEYS.get<{ n: number }>(containerId, "json");
      if (value !== null && value.n > env.LIMIT.most) await ask("over the limit?", { seconds: 30 });
      const object = await env.OBJECTS.get(request.url);
      return object ? new Response(object.body) : Response.json({ found: false }, { status: 404 });
    },
  },
  async onConnect(flow, env, ctx) {
    if (flow.tls && flow.alpn.includes("h2") && flow.sni === "pinned.test") return "pass";
    if (flow.port === 22) deny("no SSH");
    await env.KEYS.increment(`flows/${ctx.containerId}`);
  },
  onMessage(message, env, ctx) {
    if (message.text === null) return message.direction === "sent" ? deny("text only") : (message.bytes ?? undefined);
    if (message.path === "/quiet") return false;
    return message.text.replaceAll("secret", "******");
  },
} satisfies Handlers<Bindings>;

async function count(stream: ReadableStream, env: Bindings) {
  let length = 0;
  for await (const chunk of stream) length += chunk.length;
  await env.KEYS.increment("bytes", length, { expirationTtl: 3600 });
  console.log("counted", { length });
}

export const outboundHandlers: Record<string, OutboundHandler<Bindings, { most: number }>> = {
  async named(request, _env, { params }) {
    const first = await request.peek(params.most);
    return new Response(first, { headers: { "x-length": first.length } });
  },
};

export function wrong(request: Request, env: Bindings) {
  // @ts-expect-error: the value of a secret is not there
  env.TOKEN.value;
  // @ts-expect-error: a request is not written to
  request.method = "GET";
  // @ts-expect-error: there is no DOM
  document.title;
  // @ts-expect-error: an object is no body
  return new Response({ a: 1 });
}
