// Failures: what the host says turned into what the platform throws, and errors into words for the log.

/** What a handler is called by in stack traces. */
const HANDLER = "./policy.js";
/** The longest text of an error that is told, in characters. */
const LENGTH_MAX = 1000;

/** What `deny` throws. */
class Denied extends Error {
  name = "Denied";
}

/** The reason that `deny` was called with, once it was. */
let refusal = null;

/**
 * Refuses the request and tells the workload why. Does not return: nothing after it is done, even where
 * what it throws is caught.
 */
export function deny(reason) {
  refusal ??= String(reason ?? "").toWellFormed();
  throw new Denied(refusal);
}

/** Why the handler has refused, or null. */
export function refused() {
  return refusal;
}

/** To be called by everything that acts on the world: a handler that has refused does nothing any more. */
export function checkUndecided() {
  if (refusal !== null) throw new Denied(refusal);
}

/** Calls the host, and throws what the platform would throw where it fails. */
export function call(question) {
  try {
    return question();
  } catch (error) {
    throw told(error);
  }
}

export function timeoutError() {
  return new DOMException("it took longer than it was given", "TimeoutError");
}

function told(error) {
  const { tag, val } = error?.payload ?? {};
  switch (tag) {
    case "timed-out":
      return timeoutError();
    case "invalid":
    case "failed":
      return new TypeError(val);
    default:
      return error;
  }
}

/** An error in words: `Name: message at LINE:COLUMN`, the place where the handler's file has a part in it. */
export function describe(error) {
  const place = placeOf(error);
  return place ? `${words(error)} at ${place}` : words(error);
}

/** The same with the place before it, for what cannot be loaded. */
export function describeLoading(error) {
  const place = placeOf(error);
  const text = words(error).replace(/^ReferenceError: Error resolving module .*? from '.*?': /s, "");
  return place ? `${place}: ${text}` : text;
}

function words(error) {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : `thrown: ${shown(error)}`;
  return text.toWellFormed().slice(0, LENGTH_MAX);
}

function shown(value) {
  try {
    return String(value);
  } catch {
    return typeof value;
  }
}

function placeOf(error) {
  const stack = error instanceof Error ? String(error.stack) : "";
  const at = stack.indexOf(`${HANDLER}:`);
  return at < 0 ? null : (/^\d+:\d+/.exec(stack.slice(at + HANDLER.length + 1))?.[0] ?? null);
}
