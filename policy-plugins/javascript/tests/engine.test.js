// Handlers as a whole: what they answer, what is sent, and what the log says.

import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, engineOf, receive, run } from "./engine.js";

const PASS = "export default { outbound: (request) => fetch(request) };";

test("a request that is passed on moves nothing", async () => {
  const { world, status, text } = await run(PASS, {
    method: "POST",
    body: "payload",
    headers: [["x-a", "1"]],
  });
  assert.deepEqual([status, text], [200, "upstream"]);
  assert.deepEqual(world.sent, [
    {
      method: "POST",
      url: "https://a.test/x",
      headers: { host: "a.test", "user-agent": "test", "x-a": "1" },
      body: "payload",
      isWorkloads: true,
      timeout: null,
    },
  ]);
  // A copy of the head to be read later, whether there is a body, fetch, and whether the answer has one.
  assert.ok(world.calls <= 4, `${world.calls} calls`);
});

test("what was sent can still be looked at", async () => {
  const { lines, world } = await run(
    `export default { async outbound(request) {
      const { headers } = request;
      const response = await fetch(request);
      console.log(request.method, request.url, headers.get("user-agent"), request.bodyUsed, response.url, response.status);
      return response;
    } };`,
    { method: "POST", body: "x" },
  );
  assert.equal(lines[0].message, "POST https://a.test/x test true https://a.test/x 200");
  assert.equal(world.sent.length, 1);
});

test("a request that was changed is still the workload's, and takes the body along", async () => {
  const { world } = await run(
    `export default { async outbound(request, env) {
      const headers = new Headers(request.headers);
      headers.set("x-auth-token", env.TOKEN);
      headers.delete("user-agent");
      return fetch(new Request(request, { headers, method: "put" }));
    } };`,
    { method: "POST", body: "payload" },
  );
  assert.deepEqual(world.sent[0], {
    method: "PUT",
    url: "https://a.test/x",
    headers: { host: "a.test", "x-auth-token": "sluicegate_secret_00ff_TOKEN_" },
    body: "payload",
    isWorkloads: true,
    timeout: null,
  });
});

test("a request with another URL", async () => {
  const { world } = await run(
    `export default { async outbound(request) {
      const url = new URL(request.url);
      url.hostname = "b.test";
      url.hash = "x";
      await fetch(url, { headers: { a: "1" } });
      return fetch(new Request(url, request));
    } };`,
    { method: "POST", body: "payload" },
  );
  const [own, changed] = world.sent;
  assert.deepEqual(
    [own.method, own.url, own.headers, own.isWorkloads],
    ["GET", "https://b.test/x", { a: "1" }, false],
  );
  assert.deepEqual(
    [changed.method, changed.url, changed.body, changed.isWorkloads],
    ["POST", "https://b.test/x", "payload", true],
  );
});

test("a body is read or sent once", async () => {
  const text = (rest) => `export default { async outbound(request) { ${rest} return new Response("ok"); } };`;
  for (const [rest, message] of [
    ["await fetch(request); await fetch(request);", /used before/],
    ["await request.text(); await fetch(request);", /used before/],
    ["await request.text(); await request.text();", /used before|used/],
    ["new Request(request); await request.text();", /used/],
    ["request.body.getReader(); await fetch(request);", /read/],
    ["return new Request(request.url, { body: 'x' });", /GET request has no body/],
  ]) {
    const { error } = await run(text(rest), { method: "POST", body: "x" });
    assert.match(error.val, message, rest);
  }
  for (const rest of [
    "await fetch(request.clone()); await fetch(request);",
    "await request.clone().text(); await fetch(request);",
  ]) {
    const { status, world } = await run(text(rest), { method: "POST", body: "x" });
    assert.equal(status, 200, rest);
    assert.equal(world.sent.at(-1).body, "x");
  }
});

test("responses of the handler's own", async () => {
  const response = async (expression) => {
    const { response, text, error } = await run(`export default { outbound: () => ${expression} };`);
    return error ?? [response.code, Object.fromEntries(response.list), text];
  };
  const plain = { "content-type": "text/plain;charset=UTF-8" };
  assert.deepEqual(await response("new Response('a', { status: 418 })"), [418, plain, "a"]);
  assert.deepEqual(await response("new Response(null, { status: 204 })"), [204, {}, null]);
  assert.deepEqual(await response("new Response(new Uint8Array([65]))"), [200, {}, "A"]);
  assert.deepEqual(await response("Response.json({ a: 1 }, { headers: { x: 'y' } })"), [
    200,
    { "content-type": "application/json", x: "y" },
    '{"a":1}',
  ]);
  assert.deepEqual(await response("Response.redirect('https://b.test')"), [
    302,
    { location: "https://b.test/" },
    null,
  ]);
  assert.match((await response("new Response('a', { status: 204 })")).val, /204 has no body/);
  assert.match((await response("new Response('a', { status: 600 })")).val, /RangeError: 600/);
  assert.match((await response("Response.error()")).val, /Response.error/);
  assert.match((await response("undefined")).val, /outbound returned undefined and not a Response/);
  assert.match((await response("({})")).val, /an object \(Object\)/);
});

test("a response is changed and its body streams", async () => {
  const { status, response, text } = await run(
    `export default { async outbound(request) {
      const response = await fetch(request);
      response.headers.set("x-seen", "1");
      return new Response(response.body, { ...response, status: 203, headers: response.headers });
    } };`,
  );
  assert.deepEqual([status, text], [203, "upstream"]);
  assert.deepEqual(Object.fromEntries(response.list), { "content-type": "text/plain", "x-seen": "1" });
});

test("deny counts wherever it is called, and ends what the handler does", async () => {
  const { error, world } = await run(
    `export default { async outbound(request) {
      try { deny("not today"); } catch {}
      try { await fetch(request); } catch {}
      return new Response("ok");
    } };`,
  );
  assert.deepEqual(error, { tag: "denied", val: "not today" });
  assert.equal(world.sent.length, 0);
  const returned = await run(`export default { outbound: () => deny("no") };`);
  assert.deepEqual(returned.error, { tag: "denied", val: "no" });
});

test("ask asks a person", async () => {
  const { status, host } = await run(
    `export default { async outbound() { await ask("really?"); await ask("again?", { seconds: 5 }); return new Response(); } };`,
  );
  assert.equal(status, 200);
  assert.deepEqual((await host("approval")).asked, [
    ["really?", 60],
    ["again?", 5],
  ]);
  const { error } = await run(`export default { outbound: () => ask("x", { seconds: 601 }) };`);
  assert.match(error.val, /RangeError/);
});

test("errors are told by name", async () => {
  const { error } = await run(`export default { outbound() { throw new RangeError("too far"); } };`);
  assert.equal(error.tag, "failed");
  assert.match(error.val, /^RangeError: too far/);
  const thrown = await run(`export default { outbound() { throw "text"; } };`);
  assert.equal(thrown.error.val, "thrown: text");
  const missing = await run(PASS, { entry: "named:x" });
  assert.match(missing.error.val, /the file has no named:x/);
});

test("the log", async () => {
  const { lines } = await run(
    `export default { outbound(request, env) {
      console.warn("saw", { a: 1 }, [1, 2], null, new Error("e"), 1n);
      console.log("fields", { host: "a.test", n: 1 });
      console.error({ only: true });
      const circle = {}; circle.circle = circle;
      console.debug(circle, "x");
      console.log("secret", String(env.TOKEN), JSON.stringify({ token: env.TOKEN }));
      return new Response();
    } };`,
  );
  assert.deepEqual(
    lines.map(({ level, message, fields }) => [level, message, fields]),
    [
      ["warn", lines[0].message, ""],
      ["info", "fields", '{"host":"a.test","n":1}'],
      ["error", '{"only":true}', ""],
      ["debug", "[object Object] x", ""],
      ["info", 'secret sluicegate_secret_00ff_TOKEN_ {"token":"sluicegate_secret_00ff_TOKEN_"}', ""],
    ],
  );
  assert.match(lines[0].message, /^saw {"a":1} \[1,2\] null Error: e/);
});

test("env and ctx ask the host only for what is used", async () => {
  const { host, world } = await run(PASS);
  assert.deepEqual((await host("context")).counted, { current: 0, environment: 0 });
  const { text } = await run(
    `export class Box { static outbound(request, env, { containerId, className, params, labels }) {
      return Response.json({ containerId, className, params, labels, keys: Object.keys(env), most: env.LIMIT.most, none: env.NONE === undefined, has: "KV" in env });
    } }`,
  );
  assert.deepEqual(JSON.parse(text), {
    containerId: "c0ffee",
    className: "Box",
    params: { allowed: ["a.test"] },
    labels: { tier: "dev" },
    keys: ["TOKEN", "KV", "OBJECTS", "LIMIT"],
    most: [1, 2],
    none: true,
    has: true,
  });
  assert.equal(world.sent.length, 1);
});

test("stores", async () => {
  const { text, error } = await run(
    `export default { async outbound(request, env) {
      await env.KV.put("a/1", "one");
      await env.KV.put("a/2", JSON.stringify({ x: 1 }), { expirationTtl: 60 });
      const stream = await env.KV.get("a/1", "stream");
      const object = await env.OBJECTS.get("key");
      await env.OBJECTS.put("copy", (await env.OBJECTS.get("key")).body, { httpMetadata: { contentType: "text/x" } });
      return Response.json([
        await env.KV.get("a/1"), await env.KV.get("a/2", "json"), await env.KV.get("a/2", { type: "json" }),
        (await env.KV.get("a/1", "arrayBuffer")).byteLength, await new Response(stream).text(), await env.KV.get("none"),
        await env.KV.list({ prefix: "a/" }), await env.KV.increment("n", 2),
        object.size, object.httpMetadata, object.etag, await object.text(),
        await env.OBJECTS.get("none"), await env.OBJECTS.list({ prefix: "p" }), (await env.OBJECTS.head("key")).key,
        await env.KV.delete("a/1"), await env.KV.get("a/1"),
      ]);
    } };`,
  );
  assert.equal(error, undefined, error?.val);
  assert.deepEqual(JSON.parse(text), [
    "one",
    { x: 1 },
    { x: 1 },
    3,
    "one",
    null,
    { keys: [{ name: "a/1" }, { name: "a/2" }], list_complete: true },
    2,
    7,
    { contentType: "text/plain" },
    "e1",
    "content of key",
    null,
    { objects: [{ key: "p1" }, { key: "p2" }], truncated: false },
    "key",
    null,
    null,
  ]);
});

test("every entry that is told can be run", async () => {
  const text = `
    const answer = (name) => function (request, env, { className }) {
      return new Response([name, className, this === undefined].join(" "));
    };
    export default { outboundByHost: { "a:b": answer("by host") } };
    export class Box { static outbound = answer("class"); static outboundHandlers = { "x:y": answer("named") }; }
    export const helper = answer("helper");
    export const outboundHandlers = { toString: answer("own") };
  `;
  for (const [entry, wanted] of [
    ["outbound", "class Box false"],
    ["byHost:a:b", "by host  false"],
    ["named:x:y", "named Box false"],
    ["named:toString", "own  false"],
  ]) {
    assert.equal((await run(text, { entry })).text, wanted, entry);
  }
  for (const entry of ["named:hasOwnProperty", "named:", "byHost:x", "other", "default", "helper"]) {
    assert.match((await run(text, { entry })).error.val, /the file has no/, entry);
  }
});

test("a connection is judged, passed on or refused", async () => {
  const text = (body) => `export default { async onConnect(flow, env, ctx) { ${body} } };`;
  assert.equal((await connect(text(""))).decision, "judge");
  assert.equal((await connect(text(`return "judge";`))).decision, "judge");
  assert.equal((await connect(text(`return "pass";`))).decision, "pass");
  assert.equal((await connect("export const onConnect = () => 'pass';")).decision, "pass");
  const { error } = await connect(text(`try { deny("not this one"); } catch {} return "pass";`));
  assert.deepEqual(error, { tag: "denied", val: "not this one" });
});

test("what a handler is told of a connection", async () => {
  const { lines } = await connect(
    `export class Gate { static async onConnect(flow, env, ctx) {
      console.log(JSON.stringify(flow), ctx.className, env.LIMIT.most.length, (await fetch("https://b.test/")).status);
    } }`,
  );
  const facts =
    '{"host":"a.test","port":443,"originalDestination":"198.18.0.2:443","tls":true,"sni":"a.test","alpn":["h2","http/1.1"]}';
  assert.equal(lines[0].message, `${facts} Gate 2 200`);
});

test("whatever else is said of a connection is a fault", async () => {
  for (const [body, message] of [
    [`return null;`, /onConnect returned null: return "judge" or "pass"/],
    [`return true;`, /onConnect returned a boolean/],
    [`return "Pass";`, /onConnect returned a string/],
    [`return new Response("x");`, /onConnect returned an object \(Response\)/],
    [`throw new RangeError("dry");`, /RangeError: dry/],
  ]) {
    const { error } = await connect(`export function onConnect() { ${body} }`);
    assert.equal(error.tag, "failed");
    assert.match(error.val, message, body);
  }
  assert.match((await connect(PASS)).error.val, /the file has no connect/);
});

test("what a decision about a connection leaves going on is waited for first", async () => {
  const { decision, lines, world } = await connect(
    `export function onConnect(flow, env, ctx) {
      ctx.waitUntil((async () => { await env.KV.put("seen", flow.host); console.log("kept"); })());
      ctx.waitUntil(Promise.reject(new Error("lost")));
      return "pass";
    }`,
  );
  assert.equal(decision, "pass");
  assert.match(lines.map(({ message }) => message).join("|"), /kept\|.*lost|lost.*\|kept/);
  assert.equal(world.responded.length, 0);
  const late = await connect(
    `export function onConnect(flow, env, ctx) {
      ctx.waitUntil(new Promise((done) => setTimeout(done, 1)).then(() => deny("after all")));
      return "pass";
    }`,
  );
  assert.deepEqual(late.error, { tag: "denied", val: "after all" });
});

test("a message goes on, is left out, replaced or refused", async () => {
  const text = (body) => `export default { async onMessage(message, env, ctx) { ${body} } };`;
  const verdict = async (body) => (await receive(text(body))).verdict;
  assert.deepEqual(await verdict(""), { tag: "pass" });
  assert.deepEqual(await verdict("return true;"), { tag: "pass" });
  assert.deepEqual(await verdict("return false;"), { tag: "drop" });
  assert.deepEqual(await verdict("return message.text.toUpperCase();"), {
    tag: "replace",
    val: { tag: "text", val: "HELLO" },
  });
  assert.deepEqual(await verdict(`return "";`), { tag: "replace", val: { tag: "text", val: "" } });
  assert.deepEqual(await verdict(`return "\\ud800";`), { tag: "replace", val: { tag: "text", val: "\ufffd" } });
  for (const bytes of ["new Uint8Array([1, 2])", "new Uint8Array([1, 2]).buffer", "new DataView(new Uint8Array([1, 2]).buffer)"]) {
    const { tag, val } = await verdict(`return ${bytes};`);
    assert.deepEqual([tag, val.tag, [...val.val]], ["replace", "binary", [1, 2]], bytes);
  }
  const { error } = await receive(text(`try { deny("not this one"); } catch {} return true;`));
  assert.deepEqual(error, { tag: "denied", val: "not this one" });
});

test("what a handler is told of a message", async () => {
  const text = `export class Chat { static async onMessage(message, env, ctx) {
    console.log(JSON.stringify({ ...message, bytes: message.bytes && [...message.bytes] }), ctx.className);
  } }`;
  const rest =
    '"url":"https://a.test/chat?room=1","host":"a.test","port":443,"path":"/chat","subprotocol":"chat.v2"';
  const { lines } = await receive(text);
  assert.equal(lines[0].message, `{"direction":"sent",${rest},"text":"hello","bytes":null} Chat`);
  const content = { tag: "binary", val: new Uint8Array([7, 8]) };
  const other = await receive(text, { direction: "received", content, subprotocol: null });
  assert.match(other.lines[0].message, /"received".*"subprotocol":null,"text":null,"bytes":\[7,8\]/);
});

test("whatever else is said of a message is a fault", async () => {
  for (const [body, message] of [
    [`return null;`, /onMessage returned null: return true, false, a text or bytes/],
    [`return 1;`, /onMessage returned a number/],
    [`return env.TOKEN;`, /onMessage returned an object \(Secret\)/],
    [`return new Response("x");`, /onMessage returned an object \(Response\)/],
    [`throw new RangeError("dry");`, /RangeError: dry/],
  ]) {
    const { error } = await receive(`export function onMessage(message, env) { ${body} }`);
    assert.equal(error.tag, "failed");
    assert.match(error.val, message, body);
  }
  assert.match((await receive(PASS)).error.val, /the file has no message/);
  const late = await receive(
    `export function onMessage(message, env, ctx) {
      ctx.waitUntil(new Promise((done) => setTimeout(done, 1)).then(() => deny("after all")));
    }`,
  );
  assert.deepEqual(late.error, { tag: "denied", val: "after all" });
});

test("what is a text by itself is logged without quotes", async () => {
  const { lines } = await run(
    `export default { outbound(request, env) {
      console.log(env.TOKEN, new URL("https://a.test/x"));
      console.log({ token: env.TOKEN });
      return new Response("ok");
    } };`,
  );
  assert.equal(lines[0].message, "sluicegate_secret_00ff_TOKEN_ https://a.test/x");
  assert.equal(lines[1].message, '{"token":"sluicegate_secret_00ff_TOKEN_"}');
});

test("what is loaded: entries", async () => {
  const entries = async (text) => {
    const { engine } = await engineOf(text);
    return engine.entries().catch((error) => error);
  };
  assert.deepEqual(await entries(PASS), ["outbound"]);
  assert.deepEqual(await entries("export default (request) => fetch(request);"), ["outbound"]);
  assert.deepEqual(await entries("export async function outbound(request) { return fetch(request); }"), [
    "outbound",
  ]);
  assert.deepEqual(
    await entries(
      `export class Box { static outboundByHost = { "*.a.test": () => {} }; static outbound() {} }
       Box.outboundHandlers = { one() {} };
       export const outboundHandlers = { two() {} };`,
    ),
    ["named:two", "outbound", "byHost:*.a.test", "named:one"],
  );
  assert.deepEqual(await entries("export default class Box { static outbound() {} }"), ["outbound"]);
  assert.deepEqual(await entries("export class Box { static outbound() {} } export default Box;"), [
    "outbound",
  ]);
  assert.deepEqual(await entries("export const helper = 5;"), []);
  assert.deepEqual(await entries("export function onConnect() {}"), ["connect"]);
  assert.deepEqual(await entries("export default { outbound() {}, onConnect() {} }"), ["outbound", "connect"]);
  assert.deepEqual(await entries("export default { outbound() {}, onMessage() {} }"), ["outbound", "message"]);
  assert.match(await entries("export const onMessage = 5;"), /onMessage of the file is not a function/);
  assert.deepEqual(await entries("export class Box { static onConnect() {} static outbound() {} }"), [
    "outbound",
    "connect",
  ]);
  assert.match(await entries("export const onConnect = 5;"), /onConnect of the file is not a function/);
  assert.match(
    await entries("export const outboundByHost = { a: 5 };"),
    /byHost:a of the file is not a function/,
  );
  assert.match(
    await entries("export class A { static outbound() {} } export class B { static outbound() {} }"),
    /outbound is there twice, in A and in B/,
  );
  assert.match(await entries("throw new Error('at once');"), /Error: at once/);
  assert.match(await entries("export const outbound = 5;"), /outbound of the file is not a function/);
});
