// An engine with a handler, and a host of its own.

let count = 0;

/** Imports the engine for a handler's text. `host` finds the interfaces of its host. */
export async function engineOf(text) {
  const search = `?policy=${encodeURIComponent(text)}&count=${count++}`;
  const engine = await import(`../shim/engine.js${search}`);
  const host = (name) => import(`./host/${name}.js${search}`);
  const { Body, Request, reset, utf8, world } = await host("http");
  reset();
  return { engine, host, world, Body, Request, utf8 };
}

/** What a handler says of a connection, and what its host saw. */
export async function connect(text, flow = {}) {
  const { engine, host, world } = await engineOf(text);
  const seen = { world, lines: (await host("log")).lines };
  const facts = {
    host: "a.test",
    port: 443,
    originalDestination: "198.18.0.2:443",
    tls: true,
    sni: "a.test",
    alpn: ["h2", "http/1.1"],
  };
  try {
    return { ...seen, decision: await engine.onConnect({ ...facts, ...flow }) };
  } catch (error) {
    return { ...seen, error };
  }
}

/** What a handler makes of a message, and what its host saw. */
export async function receive(text, message = {}) {
  const { engine, host, world } = await engineOf(text);
  const seen = { world, lines: (await host("log")).lines };
  const facts = {
    direction: "sent",
    content: { tag: "text", val: "hello" },
    url: "https://a.test/chat?room=1",
    host: "a.test",
    port: 443,
    path: "/chat",
    subprotocol: "chat.v2",
  };
  try {
    return { ...seen, verdict: await engine.onMessage({ ...facts, ...message }) };
  } catch (error) {
    return { ...seen, error };
  }
}

/** What a handler answers to one request, and what the host saw of it. */
export async function run(text, options = {}) {
  const { engine, host, world, Body, Request, utf8 } = await engineOf(text);
  const {
    entry = "outbound",
    method = "GET",
    url = "https://a.test/x",
    headers = [],
    body,
    answer,
  } = options;
  if (answer) world.answer = await answer(await host("http"));
  const content = body === undefined ? null : new Body(utf8(body));
  const list = [["host", new URL(url).host], ["user-agent", "test"], ...headers];
  const request = Request.ofWorkload(method, url, list, content);
  const seen = { world, lines: (await host("log")).lines, host };
  try {
    const response = await engine.outbound(entry, request);
    return { ...seen, response, status: response.code, text: response.content?.text() ?? null };
  } catch (error) {
    return { ...seen, error };
  }
}
