// Timers and signals. The engine waits together with what it asks for, so that nothing runs beside.

import assert from "node:assert/strict";
import { test } from "node:test";

import { run } from "./engine.js";

async function log(body, options) {
  const { lines, error, world, host } = await run(
    `export default { async outbound(request) { ${body}; return new Response("ok"); } };`,
    options,
  );
  assert.equal(error, undefined, error?.val);
  return { messages: lines.map((line) => line.message), world, slept: (await host("clock")).slept };
}

test("timers fire in order, after everything that is ready", async () => {
  const { messages, slept } = await log(`
    const later = (name, delay) => new Promise((resolve) => setTimeout(() => { console.log(name); resolve(); }, delay));
    const all = [later("b", 20), later("a", 10), later("now", 0)];
    const chain = (async () => { for (let i = 0; i < 100; i++) await null; console.log("chain"); })();
    await Promise.all([...all, chain]);
  `);
  assert.deepEqual(messages, ["chain", "now", "a", "b"]);
  assert.deepEqual(slept, [10, 10]);
});

test("timers are cleared, repeat, get values, and fail alone", async () => {
  const { messages } = await log(`
    const dead = setTimeout(() => console.log("never"), 1);
    clearTimeout(dead);
    setTimeout(() => { throw new RangeError("of a timer"); }, 1);
    let n = 0;
    await new Promise((resolve) => {
      const id = setInterval((step) => { n += step; if (n === 6) { clearInterval(id); resolve(); } }, 5, 2);
    });
    console.log("n", n);
  `);
  assert.match(messages[0], /a timer failed: RangeError: of a timer/);
  assert.deepEqual(messages.slice(1), ["n 6"]);
});

test("what is left when the handler has answered does not fire", async () => {
  const { slept } = await log("setInterval(() => console.log('again'), 1000)");
  assert.deepEqual(slept, []);
});

const SLOW = {
  answer:
    ({ fail }) =>
    (request, timeout) =>
      fail("timed-out", timeout),
};

test("a fetch is given the time that its signal has", async () => {
  const { messages, world } = await log(
    `try { await fetch("https://a.test/", { signal: AbortSignal.timeout(250) }); } catch (error) { console.log(error.name, error instanceof DOMException); }`,
    SLOW,
  );
  assert.deepEqual(messages, ["TimeoutError true"]);
  assert.equal(world.sent[0].timeout, 250);
  const any = await log(
    `const controller = new AbortController();
     const signal = AbortSignal.any([AbortSignal.timeout(500), AbortSignal.timeout(100), controller.signal]);
     try { await fetch("https://a.test/", { signal }); } catch (error) { console.log(error.name); }`,
    SLOW,
  );
  assert.equal(any.world.sent[0].timeout, 100);
  assert.deepEqual(any.messages, ["TimeoutError"]);
});

test("a timer that aborts counts as the time of a fetch", async () => {
  const { messages, world } = await log(
    `const controller = new AbortController();
     const timer = setTimeout(() => controller.abort(), 300);
     try { await fetch(request, { signal: controller.signal }); } catch (error) { console.log(error.name); }
     clearTimeout(timer);`,
    {
      answer:
        ({ fail }) =>
        (request, timeout) =>
          fail("timed-out", timeout),
    },
  );
  assert.equal(world.sent[0].timeout, 300);
  // The mock's time does not pass while it fails.
  assert.deepEqual(messages, ["TimeoutError"]);
});

test("a signal that is aborted stops a fetch before it begins, with its reason", async () => {
  const { messages, world } = await log(`
    const controller = new AbortController();
    controller.signal.addEventListener("abort", (event) => console.log(event.type, controller.signal.aborted));
    controller.abort(new RangeError("enough"));
    for (const signal of [controller.signal, AbortSignal.abort(), AbortSignal.any([AbortSignal.abort("x")])]) {
      try { await fetch(request, { signal }); } catch (error) { console.log(error.name ?? error); }
    }
  `);
  assert.deepEqual(messages, ["abort true", "RangeError", "AbortError", "x"]);
  assert.equal(world.sent.length, 0);
});

test("an upstream that fails is a TypeError", async () => {
  const { messages } = await log(
    `try { await fetch(request); } catch (error) { console.log(error.name, error.message); }`,
    {
      answer:
        ({ fail }) =>
        () =>
          fail("failed", "no connection"),
    },
  );
  assert.deepEqual(messages, ["TypeError no connection"]);
});

test("time passes", async () => {
  const { messages } = await log(`
    const before = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 40));
    console.log(performance.now() - before);
  `);
  assert.deepEqual(messages, ["40"]);
});
