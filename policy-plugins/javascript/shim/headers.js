// Headers (WHATWG Fetch), over a list of their own or over a message that the host holds.

import { call } from "./failures.js";

const NAME = /^[!#$%&'*+\-.^_\x60|~0-9A-Za-z]+$/;

function nameOf(value) {
  const name = String(value);
  if (!NAME.test(name)) throw new TypeError(`${JSON.stringify(name)} is not a name of a header`);
  return name.toLowerCase();
}

function valueOf(value, name) {
  const text = String(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, "");
  if (/[\0\r\n]|[^\0-\xff]/.test(text)) {
    throw new TypeError(`header ${name} cannot have this value: no line breaks, nothing above U+00FF`);
  }
  return text;
}

/** Names and values of what a `Headers` can be made of, checked. */
export function entriesOf(init) {
  if (init === undefined || init === null) return [];
  if (init instanceof Headers) return Headers.list(init);
  if (typeof init !== "object" && typeof init !== "function") {
    throw new TypeError("headers are a Headers, an object, or a list of pairs");
  }
  const pairs = typeof init[Symbol.iterator] === "function" ? [...init] : Object.entries(init);
  return pairs.map((pair) => {
    const [name, value, ...more] = pair;
    if (more.length > 0 || value === undefined) {
      throw new TypeError("a header is a pair of a name and a value");
    }
    const checked = nameOf(name);
    return [checked, valueOf(value, checked)];
  });
}

export class Headers {
  /** A request or response of the host's that is written to directly, so that what is not touched never moves. */
  #message = null;
  /** Names in lower case with values, in order, where there is no message. */
  #list = [];

  constructor(init) {
    this.#list = entriesOf(init);
  }

  /** The headers of a message that the host holds. */
  static of(message) {
    const headers = new Headers();
    headers.#message = message;
    return headers;
  }

  /** Goes over to another message that has the same headers. */
  static move(headers, message) {
    if (headers.#message !== null) headers.#message = message;
  }

  /** Keeps what the message has, which is about to go. */
  static keep(headers) {
    if (headers.#message === null) return;
    headers.#list = headers.#message.headers();
    headers.#message = null;
  }

  /** Names and values in order. */
  static list(headers) {
    return headers.#message === null ? headers.#list.map((entry) => [...entry]) : headers.#message.headers();
  }

  #values(name) {
    if (this.#message !== null) return this.#message.header(name);
    return this.#list.filter((entry) => entry[0] === name).map((entry) => entry[1]);
  }

  append(name, value) {
    const checked = nameOf(name);
    const text = valueOf(value, checked);
    if (this.#message !== null) call(() => this.#message.appendHeader(checked, text));
    else this.#list.push([checked, text]);
  }

  set(name, value) {
    const checked = nameOf(name);
    const text = valueOf(value, checked);
    if (this.#message !== null) {
      call(() => this.#message.setHeader(checked, text));
      return;
    }
    const at = this.#list.findIndex((entry) => entry[0] === checked);
    if (at < 0) {
      this.#list.push([checked, text]);
    } else {
      this.#list[at] = [checked, text];
      this.#list = this.#list.filter((entry, index) => index <= at || entry[0] !== checked);
    }
  }

  delete(name) {
    const checked = nameOf(name);
    if (this.#message !== null) call(() => this.#message.deleteHeader(checked));
    else this.#list = this.#list.filter((entry) => entry[0] !== checked);
  }

  get(name) {
    const values = this.#values(nameOf(name));
    return values.length === 0 ? null : values.join(", ");
  }

  getSetCookie() {
    return this.#values("set-cookie");
  }

  has(name) {
    return this.#values(nameOf(name)).length > 0;
  }

  *entries() {
    const combined = new Map();
    const cookies = [];
    for (const [name, value] of Headers.list(this)) {
      if (name === "set-cookie") cookies.push([name, value]);
      else combined.set(name, combined.has(name) ? `${combined.get(name)}, ${value}` : value);
    }
    const all = [...combined, ...cookies];
    yield* all.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  }

  *keys() {
    for (const [name] of this.entries()) yield name;
  }

  *values() {
    for (const [, value] of this.entries()) yield value;
  }

  forEach(callback, self) {
    for (const [name, value] of this.entries()) callback.call(self, value, name, this);
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  /** For `JSON.stringify` and the log. */
  toJSON() {
    return Object.fromEntries(this.entries());
  }
}
