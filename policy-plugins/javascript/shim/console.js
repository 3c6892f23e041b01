// console, whose lines go into the audit log with the request's id.

import log from "sluicegate:policy/log@0.1.0";

import { describe } from "./failures.js";

function show(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return describe(value);
  if (typeof value === "function") return `[function ${value.name}]`;
  if (typeof value !== "object" || value === null) return String(value);
  const text = json(value);
  if (text === undefined) return String(value);
  // What stands for itself as a text, such as a secret or a URL, has no quotes.
  return text.startsWith('"') ? JSON.parse(text) : text;
}

function json(value) {
  try {
    return JSON.stringify(value, (_key, inner) => {
      if (typeof inner === "bigint") return String(inner);
      if (inner instanceof Error) return describe(inner);
      if (inner instanceof Map) return Object.fromEntries(inner);
      return inner instanceof Set ? [...inner] : inner;
    });
  } catch {
    // It holds itself.
    return undefined;
  }
}

function isPlain(value) {
  if (typeof value !== "object" || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** A plain object after a message becomes the fields of the line. */
function write(level, values) {
  const last = values.length > 1 && isPlain(values.at(-1)) ? json(values.at(-1)) : undefined;
  const message = (last === undefined ? values : values.slice(0, -1)).map(show).join(" ");
  log.write(level, message.toWellFormed(), (last ?? "").toWellFormed());
}

export function logError(message) {
  log.write("error", message.toWellFormed(), "");
}

export const console = {
  debug: (...values) => write("debug", values),
  log: (...values) => write("info", values),
  info: (...values) => write("info", values),
  warn: (...values) => write("warn", values),
  error: (...values) => write("error", values),
  trace: (...values) => write("debug", values),
  assert: (condition, ...values) => {
    if (!condition) write("error", ["assertion failed:", ...values]);
  },
};
