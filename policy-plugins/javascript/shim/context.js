// `env` and `ctx`. Neither asks the host for anything before the handler does.

import context from "sluicegate:policy/context@0.1.0";

import { Secret } from "./secrets.js";
import { KeyValueStore, ObjectStore } from "./stores.js";

function bound(name, { tag, val }) {
  switch (tag) {
    case "secret":
      return new Secret(name);
    case "kv":
      return new KeyValueStore(name);
    case "objects":
      return new ObjectStore(name);
    default:
      return JSON.parse(val);
  }
}

/** An object that is filled the first time that something is asked of it. */
function lazily(fill) {
  let isFilled = false;
  const filled = (target) => {
    if (!isFilled) {
      isFilled = true;
      fill(target);
    }
    return target;
  };
  return new Proxy(
    {},
    {
      get: (target, name) => filled(target)[name],
      set: (target, name, value) => Reflect.set(filled(target), name, value),
      has: (target, name) => name in filled(target),
      ownKeys: (target) => Reflect.ownKeys(filled(target)),
      getOwnPropertyDescriptor: (target, name) => Object.getOwnPropertyDescriptor(filled(target), name),
    },
  );
}

export const env = lazily((target) => {
  for (const [name, binding] of context.environment()) target[name] = bound(name, binding);
});

let known = null;
let params;
let className = "";
/** What the request's end waits for. */
const promises = [];

function current() {
  known ??= context.current();
  return known;
}

function parsedParams() {
  params ??= { value: JSON.parse(current().params || "{}") };
  return params.value;
}

export const ctx = Object.defineProperties(
  {
    waitUntil(promise) {
      promises.push(promise);
    },
    /** There is nothing to pass through to: a handler that fails refuses. */
    passThroughOnException() {},
  },
  Object.fromEntries(
    [
      ["className", () => className],
      ["containerId", () => current().containerId],
      ["instanceId", () => current().instanceId],
      ["labels", () => Object.fromEntries(current().labels)],
      ["params", parsedParams],
      ["requestId", () => current().requestId],
      ["originalDestination", () => current().originalDestination],
      ["sni", () => current().sni],
      ["tls", () => current().tls],
      ["protocol", () => current().protocol],
      ["handler", () => current().handler],
      ["handlerVersion", () => current().handlerVersion],
    ].map(([name, get]) => [name, { get, enumerable: true, configurable: true }]),
  ),
);

/** Says of which class the handler is. */
export function setClassName(name) {
  className = name;
}

/** Whether `waitUntil` was given something since the last call of `takePromises`. */
export function hasPromises() {
  return promises.length > 0;
}

/** What `waitUntil` was given since the last call. */
export function takePromises() {
  return promises.splice(0);
}
