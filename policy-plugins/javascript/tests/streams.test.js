// Bodies as streams: read, passed on, shared.

import assert from "node:assert/strict";
import { test } from "node:test";

import { run } from "./engine.js";

/** An upstream whose body comes in these chunks. */
const chunks =
  (...texts) =>
  ({ Body, Response }) =>
  () =>
    new Response(200, [["content-type", "text/plain"]], Body.chunked(texts));

async function ok(text, options) {
  const result = await run(text, options);
  assert.equal(result.error, undefined, result.error?.val);
  return result;
}

test("a body is read chunk by chunk", async () => {
  const { text } = await ok(
    `export default { async outbound(request) {
      const { body } = await fetch(request);
      const seen = [];
      for await (const chunk of body) seen.push(new TextDecoder().decode(chunk));
      return Response.json(seen);
    } };`,
    { answer: chunks("one", "two", "three") },
  );
  assert.deepEqual(JSON.parse(text), ["one", "two", "three"]);
});

test("a reader tells the end, and a stream is locked by it", async () => {
  const { text } = await ok(
    `export default { async outbound(request) {
      const { body } = await fetch(request);
      const reader = body.getReader();
      let locked = body.locked, thrown;
      try { body.getReader(); } catch (error) { thrown = error.name; }
      const first = await reader.read();
      const second = await reader.read();
      await reader.closed;
      return Response.json([locked, thrown, first.done, second]);
    } };`,
    { answer: chunks("one") },
  );
  assert.deepEqual(JSON.parse(text), [true, "TypeError", false, { done: true }]);
});

test("the other half of a response is read while the first is sent", async () => {
  const { world, lines } = await ok(
    `export default { async outbound(request, env, ctx) {
      const response = await fetch(request);
      const [a, b] = response.body.tee();
      const count = async () => {
        let length = 0;
        for await (const chunk of b) length += chunk.length;
        console.log("counted", { length });
      };
      ctx.waitUntil(count());
      return new Response(a, response);
    } };`,
    { answer: chunks("one", "two") },
  );
  const [sent] = world.responded;
  assert.equal(sent.code, 200);
  assert.equal(sent.content.copies, 1, "the host makes the copy: nothing was read before it was sent");
  assert.equal(sent.content.text(), "onetwo");
  assert.deepEqual(sent.list, [["content-type", "text/plain"]]);
  assert.equal(lines[0].fields, '{"length":6}');
});

test("the same by clone, and the response can still be looked at", async () => {
  const { world, lines } = await ok(
    `export default { async outbound(request, env, ctx) {
      const response = await fetch(request);
      const copy = response.clone();
      ctx.waitUntil((async () => console.log(await copy.text(), response.status, response.headers.get("content-type"), copy.status))());
      return response;
    } };`,
    { answer: chunks("one", "two") },
  );
  assert.equal(world.responded[0].content.copies, 1);
  assert.equal(lines[0].message, "onetwo 200 text/plain 200");
});

test("a response that was sent can still be looked at, and its body is gone", async () => {
  const { lines, world } = await ok(
    `export default { async outbound(request, env, ctx) {
      const response = await fetch(request);
      ctx.waitUntil((async () => {
        await new Promise((resolve) => setTimeout(resolve, 5));
        const gone = await response.text().catch((error) => error.name);
        console.log(response.status, response.ok, response.headers.get("content-type"), response.url, response.bodyUsed, gone);
      })());
      return response;
    } };`,
    { answer: chunks("one") },
  );
  assert.equal(world.responded[0].content.text(), "one");
  assert.equal(lines[0].message, "200 true text/plain https://a.test/x true TypeError");
});

test("a body that moved is gone where it was", async () => {
  const { error } = await run(
    `export default { async outbound(request) {
      const moved = new Request(request);
      const { done } = await request.body.getReader().read();
      return fetch(moved);
    } };`,
    { method: "POST", body: "x" },
  );
  assert.match(error.val, /used before/);
});

test("a half that is awaited before the other is sent is read from memory, and the other is sent too", async () => {
  for (const half of ["response.clone()", "new Response(b)"]) {
    const { text, lines, world } = await ok(
      `export default { async outbound(request) {
        let response = await fetch(request);
        ${half === "new Response(b)" ? "const [a, b] = response.body.tee(); response = new Response(a, response);" : ""}
        console.log(await (${half}).text());
        return response;
      } };`,
      { answer: chunks("one", "two") },
    );
    assert.equal(lines[0].message, "onetwo");
    assert.equal(text, "onetwo");
    assert.equal(world.responded.length, 0);
  }
});

test("what is too long to be read twice says so", async () => {
  const { error } = await run(
    `export default { async outbound(request) {
      const response = await fetch(request);
      await response.clone().text();
      return response;
    } };`,
    { answer: chunks("x".repeat(1025)) },
  );
  assert.match(error.val, /longer than 1024 bytes/);
});

test("a half that nobody reads costs nothing", async () => {
  const { text, world, response } = await ok(
    `export default { async outbound(request) {
      const response = await fetch(request);
      response.clone();
      return response;
    } };`,
    { answer: chunks("one", "two") },
  );
  assert.equal(text, "onetwo");
  assert.equal(world.responded.length, 0);
  assert.equal(response.content.copies, 0);
});

test("halves of halves", async () => {
  const { world, lines } = await ok(
    `export default { async outbound(request, env, ctx) {
      const response = await fetch(request);
      const one = response.clone(), two = response.clone();
      ctx.waitUntil(one.text().then((text) => console.log("one", text)));
      ctx.waitUntil(two.text().then((text) => console.log("two", text)));
      return response;
    } };`,
    { answer: chunks("a", "b") },
  );
  assert.equal(world.responded[0].content.text(), "ab");
  assert.deepEqual(lines.map((line) => line.message).sort(), ["one ab", "two ab"]);
});

test("what was shared moves along", async () => {
  const { world, lines } = await ok(
    `export default { async outbound(request, env, ctx) {
      const copy = request.clone();
      const changed = new Request(request, { headers: { a: "1" } });
      ctx.waitUntil(copy.text().then((text) => console.log("copy", text)));
      return fetch(changed);
    } };`,
    { method: "POST", body: "payload" },
  );
  assert.equal(world.sent[0].body, "payload");
  assert.equal(lines[0].message, "copy payload");
});

test("what waitUntil waits for may fail, and is told", async () => {
  const { world, lines } = await ok(
    `export default { outbound(request, env, ctx) {
      ctx.waitUntil(Promise.reject(new RangeError("late")));
      ctx.waitUntil((async () => { await null; ctx.waitUntil((async () => console.log("later"))()); })());
      return new Response("ok");
    } };`,
  );
  assert.equal(world.responded.length, 1);
  const [later, failed] = lines;
  assert.equal(later.message, "later");
  assert.equal(failed.level, "error");
  assert.match(failed.message, /waitUntil: RangeError: late/);
});

test("an object is stored while it is sent", async () => {
  const { world, host } = await ok(
    `export default { async outbound(request, env, ctx) {
      const response = await fetch(request);
      const [a, b] = response.body.tee();
      ctx.waitUntil(env.OBJECTS.put("copy", b));
      return new Response(a);
    } };`,
    { answer: chunks("one", "two") },
  );
  assert.equal(world.responded[0].content.copies, 1);
  assert.deepEqual((await host("objects")).stored.get("copy"), { body: "onetwo", type: null });
});

test("streams of the handler's own", async () => {
  const { text } = await ok(
    `export default { outbound() {
      let n = 0;
      return new Response(new ReadableStream({
        start(controller) { controller.enqueue(new TextEncoder().encode("begin ")); },
        pull(controller) {
          if (n === 3) controller.close();
          else controller.enqueue(new TextEncoder().encode(String(n++)));
        },
      }));
    } };`,
  );
  assert.equal(text, "begin 012");
  const late = await ok(
    `export default { outbound() {
      return new Response(new ReadableStream({
        start(controller) { setTimeout(() => { controller.enqueue("late"); controller.close(); }, 10); },
      }));
    } };`,
  );
  assert.equal(late.text, "late");
  const failed = await run(
    `export default { outbound() {
      return new Response(new ReadableStream({ pull() { throw new RangeError("dry"); } }));
    } };`,
  );
  assert.match(failed.error.val, /RangeError: dry/);
});

test("a body is piped through what changes it", async () => {
  const { text } = await ok(
    `export default { async outbound(request) {
      const response = await fetch(request);
      const upper = new TransformStream({
        transform: (text, controller) => controller.enqueue(text.toUpperCase()),
        flush: (controller) => controller.enqueue("!"),
      });
      const changed = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(upper).pipeThrough(new TextEncoderStream());
      return new Response(changed, response);
    } };`,
    { answer: chunks("one \u00fc", "two") },
  );
  assert.equal(text, "ONE \u00dcTWO!");
});

test("the beginning of a body is looked at, and the whole of it sent", async () => {
  const { world, lines } = await ok(
    `export default { async outbound(request) {
      console.log(new TextDecoder().decode(await request.peek(3)), request.bodyUsed);
      return fetch(request);
    } };`,
    { method: "POST", body: "payload" },
  );
  assert.equal(lines[0].message, "pay false");
  assert.equal(world.sent[0].body, "payload");
});

test("a half that nobody wants any more is let go of by the host", async () => {
  for (const leave of [
    "await b.cancel();",
    "const reader = b.getReader(); await reader.read(); await reader.cancel();",
    "for await (const chunk of b) break;",
  ]) {
    const { world, lines } = await ok(
      `export default { async outbound(request, env, ctx) {
        const response = await fetch(request);
        const [a, b] = response.body.tee();
        ctx.waitUntil((async () => {
          ${leave.startsWith("await") ? "await b.getReader().read(); console.log('read');" : ""}
          ${leave}
          console.log("left");
        })());
        return new Response(a, response);
      } };`,
      { answer: chunks("one", "two") },
    );
    const [answered] = world.responded;
    assert.equal(answered.content.copies, 1, leave);
    assert.ok(answered.content.copy.isDropped, leave);
    assert.equal(lines.at(-1).message, "left", leave);
  }
});

test("a half that was let go of before is not made by the host", async () => {
  const { response, text } = await ok(
    `export default { async outbound(request) {
      const response = await fetch(request);
      const [a, b] = response.body.tee();
      await b.cancel();
      return new Response(a, response);
    } };`,
    { answer: chunks("one", "two") },
  );
  assert.equal(text, "onetwo");
  assert.equal(response.content.copies, 0);
});
