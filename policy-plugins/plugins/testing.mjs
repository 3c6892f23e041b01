// What the tests of the handlers in JavaScript share: the handler's file as a module of Node's, and
// stand-ins for what the gate gives it.

import { readFile } from "node:fs/promises";

// The handler of a file beside the test, which is a module whatever Node makes of its name.
export async function handlerOf(url) {
  const text = await readFile(url, "utf8");
  const module = await import(`data:text/javascript,${encodeURIComponent(text)}`);
  return module.default;
}

export class Denied extends Error {}

// Numbers by key, as `env.kv` has them.
export class Kv {
  values = new Map();
  async increment(key, by) {
    // Another request may come between a question and its answer.
    await null;
    this.values.set(key, (this.values.get(key) ?? 0) + by);
    return this.values.get(key);
  }
  // Those keys that end so.
  get(ending) {
    return [...this.values].filter(([key]) => key.endsWith(ending)).map(([, value]) => value);
  }
}

// Sets up what a handler finds globally; `answer` is what `fetch` does. Returns what it was asked and what
// was logged.
export function world(answer) {
  const seen = { requests: [], log: [] };
  globalThis.deny = (reason) => {
    throw new Denied(reason);
  };
  globalThis.fetch = async (request) => {
    seen.requests.push(request);
    return answer(request);
  };
  for (const level of ["info", "warn", "error"]) {
    console[level] = (message, fields) => seen.log.push({ level, message, fields });
  }
  return seen;
}

// The context of one request, and the end of what it goes on with after its answer.
export function context(params) {
  const waiting = [];
  const ctx = {
    containerId: "box",
    instanceId: "gate",
    params,
    waitUntil: (promise) => waiting.push(promise),
  };
  return { ctx, done: () => Promise.all(waiting) };
}
