// The conformance handler in JavaScript: one function for each path of docs/conformance.md.

const scenarios = {
  "/allow": (request) => fetch(request),
  "/deny": () => deny("denied by the conformance handler"),
  "/answer": () =>
    new Response("answered\n", {
      status: 201,
      headers: { "x-answer": "yes", "content-type": "text/plain; charset=utf-8" },
    }),
  "/json": (request, env, ctx) =>
    Response.json({
      method: request.method,
      url: request.url,
      container: ctx.containerId,
      instance: ctx.instanceId,
      greeting: ctx.params.greeting ?? null,
      team: ctx.labels.team ?? null,
    }),
  "/url": (request) => new Response(request.url),
  "/modify": modify,
  "/callout": callout,
  "/caught": () => fetch("https://down.test/").catch(() => new Response("caught")),
  "/uncaught": () => fetch("https://down.test/"),

  async "/kv"(request, env) {
    const count = await env.kv.increment("count", 1);
    await env.kv.put("last", new URL(request.url).pathname);
    const { keys } = await env.kv.list();
    return Response.json({ count, last: await env.kv.get("last"), keys: keys.map((key) => key.name) });
  },
  async "/objects"(request, env) {
    await env.objects.put("greeting", request.body, { httpMetadata: { contentType: "text/plain" } });
    const object = await env.objects.get("greeting");
    return new Response(object.body);
  },
  "/body": async (request) => new Response((await request.text()).toUpperCase()),
  async "/peek"(request) {
    const start = new TextDecoder().decode(await request.peek(4));
    return start === "deny" ? deny("peeked") : fetch(request);
  },
  "/tap"(request) {
    request.tapBody(8);
    return fetch(request);
  },

  "/token": (request, env) => authorized(request, `Bearer ${env.TOKEN}`),
  "/basic": (request, env) => authorized(request, `Basic ${btoa(`robot:${env.TOKEN}`)}`),
  "/query-secret"(request, env) {
    const url = new URL(request.url);
    url.searchParams.set("key", env.TOKEN);
    return fetch(new Request(url, request));
  },
  "/body-secret"(request, env) {
    const headers = new Headers(request.headers);
    headers.set("content-type", "application/json");
    return fetch(new Request(request, { headers, body: JSON.stringify({ token: env.TOKEN }) }));
  },
  "/wrong-host": (request, env) =>
    fetch("https://other.test/", { headers: { authorization: `Bearer ${env.TOKEN}` } }),
  "/show-secret": (request, env) => new Response(`${env.TOKEN}`),
  async "/reveal"(request, env) {
    const value = new TextEncoder().encode(await env.TOKEN.reveal());
    return new Response(hex(await crypto.subtle.digest("SHA-256", value)));
  },
  "/hmac": async (request, env) => new Response(hex(await env.TOKEN.hmacSha256("data"))),

  "/log"() {
    console.log("hello", { n: 1 });
    return new Response(null, { status: 204 });
  },
  "/random": () => new Response(crypto.randomUUID()),
  async "/ask"(request) {
    await ask("really?", { seconds: 10 });
    return fetch(request);
  },

  "/throw"() {
    throw new Error("broken");
  },
  "/panic"() {
    throw null;
  },
  // Nothing in JavaScript ends the program itself.
  "/trap": () => new Response(String(1n / 0n)),
  "/loop"() {
    for (;;);
  },
  "/grow"() {
    const kept = [];
    for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
  },
  async "/flood"(request, env) {
    for (;;) await env.kv.get("count");
  },
  "/output": () => new Response("0123456789".repeat(10_000_000)),
  "/logs"() {
    for (;;) console.log("again");
  },
  "/recurse": () => new Response(String(deeper(1))),
};

async function modify(request) {
  const headers = new Headers(request.headers);
  headers.set("x-added", "one");
  headers.delete("x-remove-me");
  const url = new URL("/modified?by=handler", request.url);
  const response = await fetch(new Request(url, new Request(request, { headers })));
  const changed = new Response(response.body, { status: 202, headers: response.headers });
  changed.headers.set("x-response", "changed");
  return changed;
}

async function callout(request) {
  const check = await fetch("https://callout.test/check");
  return (await check.text()) === "yes" ? fetch(request) : new Response("no", { status: 403 });
}

function authorized(request, authorization) {
  const headers = new Headers(request.headers);
  headers.set("authorization", authorization);
  return fetch(new Request(request, { headers }));
}

function deeper(depth) {
  return 1 + deeper(depth + 1);
}

function hex(bytes) {
  return Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export default {
  async outbound(request, env, ctx) {
    const scenario = scenarios[new URL(request.url).pathname];
    return scenario ? scenario(request, env, ctx) : new Response("no such scenario\n", { status: 404 });
  },
};
