// Lets Node load the shim: what it imports of the host comes from `host/`. Use: node --import ./tests/register.js

import { register } from "node:module";

register("./resolve.js", import.meta.url);

// What the engine waits on: everything that is ready has run when it is read.
globalThis.wit = {
  Future: () => ({
    readable: { read: () => new Promise((resolve) => setImmediate(resolve)) },
    writable: { write: () => {} },
  }),
};

// Which this Node may not have yet; the engine does.
Promise.withResolvers ??= function () {
  const made = {};
  made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
};
