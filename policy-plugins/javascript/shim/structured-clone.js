// structuredClone (HTML section 2.7), for data.

function failure(value) {
  const what =
    typeof value === "function" ? "a function" : typeof value === "symbol" ? "a symbol" : "this object";
  return new DOMException(`${what} cannot be cloned`, "DataCloneError");
}

function cloned(value, known) {
  if (typeof value === "function" || typeof value === "symbol") throw failure(value);
  if (typeof value !== "object" || value === null) return value;
  if (known.has(value)) return known.get(value);
  const clone = shell(value);
  known.set(value, clone);
  if (value instanceof Map) {
    for (const [key, inner] of value) clone.set(cloned(key, known), cloned(inner, known));
  } else if (value instanceof Set) {
    for (const inner of value) clone.add(cloned(inner, known));
  } else if (Array.isArray(value) || isPlain(value)) {
    for (const key of Object.keys(value)) clone[key] = cloned(value[key], known);
  }
  return clone;
}

/** A value of the same kind; of what holds others, an empty one. */
function shell(value) {
  if (value instanceof Map) return new Map();
  if (value instanceof Set) return new Set();
  if (Array.isArray(value)) return new Array(value.length);
  if (value instanceof Date) return new Date(value);
  if (value instanceof RegExp) return new RegExp(value.source, value.flags);
  if (value instanceof ArrayBuffer) return value.slice();
  if (value instanceof DataView)
    return new DataView(value.buffer.slice(), value.byteOffset, value.byteLength);
  if (ArrayBuffer.isView(value)) return value.slice();
  if (value instanceof Error) return Object.assign(new Error(value.message), { name: value.name });
  if (value instanceof Boolean || value instanceof Number || value instanceof String)
    return Object(value.valueOf());
  if (isPlain(value)) return {};
  throw failure(value);
}

function isPlain(value) {
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

export function structuredClone(value) {
  return cloned(value, new Map());
}
