// AbortController and AbortSignal (WHATWG DOM section 3).

import { timeoutError } from "./failures.js";
import { now, setTimeout } from "./idle.js";

/** Makes a signal; only this file can. */
const KEY = Symbol("signal");

export class AbortSignal {
  #aborted = false;
  #reason = undefined;
  #listeners = [];
  /** When it aborts by itself, in milliseconds since the handler began. */
  #due = null;
  onabort = null;

  constructor(key) {
    if (key !== KEY) throw new TypeError("Illegal constructor");
  }

  static abort(reason) {
    const signal = new AbortSignal(KEY);
    AbortSignal.trigger(signal, reason);
    return signal;
  }

  static timeout(milliseconds) {
    const signal = new AbortSignal(KEY);
    const wait = Math.max(Number(milliseconds) || 0, 0);
    signal.#due = now() + wait;
    setTimeout(() => AbortSignal.trigger(signal, timeoutError()), wait);
    return signal;
  }

  static any(signals) {
    const all = [...signals];
    const any = new AbortSignal(KEY);
    const aborted = all.find((signal) => signal.aborted);
    if (aborted !== undefined) {
      AbortSignal.trigger(any, aborted.reason);
      return any;
    }
    const dues = all.map((signal) => signal.#due).filter((due) => due !== null);
    if (dues.length > 0) any.#due = Math.min(...dues);
    for (const signal of all) signal.addEventListener("abort", () => AbortSignal.trigger(any, signal.reason));
    return any;
  }

  /** Not for handlers: makes a signal that something else triggers. */
  static make() {
    return new AbortSignal(KEY);
  }

  /** Not for handlers: aborts it. */
  static trigger(signal, reason) {
    if (signal.#aborted) return;
    signal.#aborted = true;
    signal.#reason = reason === undefined ? new DOMException("it was aborted", "AbortError") : reason;
    const event = { type: "abort", target: signal, currentTarget: signal };
    const listeners = signal.#listeners.splice(0);
    if (typeof signal.onabort === "function") signal.onabort(event);
    for (const listener of listeners) {
      if (typeof listener === "function") listener.call(signal, event);
      else listener.handleEvent(event);
    }
  }

  /** Not for handlers: when it aborts by itself, or null. */
  static due(signal) {
    return signal.#due;
  }

  get aborted() {
    return this.#aborted;
  }

  get reason() {
    return this.#reason;
  }

  throwIfAborted() {
    if (this.#aborted) throw this.#reason;
  }

  addEventListener(type, listener) {
    if (type === "abort" && listener && !this.#listeners.includes(listener)) this.#listeners.push(listener);
  }

  removeEventListener(type, listener) {
    if (type === "abort") this.#listeners = this.#listeners.filter((other) => other !== listener);
  }
}

export class AbortController {
  #signal = AbortSignal.make();

  get signal() {
    return this.#signal;
  }

  abort(reason) {
    AbortSignal.trigger(this.#signal, reason);
  }
}
