// The host's interface `objects`: it keeps the host's bodies.

import { Body, utf8 } from "./http.js";

export const stored = new Map();

const METADATA = { length: 7, contentType: "text/plain", etag: '"e1"' };

export default {
  get: (_binding, key) => (key === "none" ? null : [METADATA, new Body(utf8(`content of ${key}`))]),
  head: (_binding, key) => (key === "none" ? null : METADATA),
  put: (_binding, key, body, type) => void stored.set(key, { body: body.text(), type }),
  delete: () => {},
  listKeys: (_binding, prefix) => [`${prefix}1`, `${prefix}2`],
};
