// URLSearchParams (WHATWG URL section 6).

import { FORM, percentDecode, percentEncode } from "./percent.js";

function decode(text) {
  return percentDecode(text.replaceAll("+", " "));
}

function encode(text) {
  return percentEncode(text, FORM).replaceAll(" ", "+");
}

function parse(text) {
  const list = [];
  for (const pair of text.split("&")) {
    if (pair === "") continue;
    const at = pair.indexOf("=");
    list.push(at < 0 ? [decode(pair), ""] : [decode(pair.slice(0, at)), decode(pair.slice(at + 1))]);
  }
  return list;
}

function textOf(value) {
  return String(value).toWellFormed();
}

function listOf(init) {
  if (typeof init !== "object" || init === null) return parse(textOf(init).replace(/^\?/, ""));
  if (typeof init[Symbol.iterator] !== "function") {
    return Object.entries(init).map(([name, value]) => [textOf(name), textOf(value)]);
  }
  return [...init].map((pair) => {
    const [name, value, ...more] = pair;
    if (value === undefined || more.length > 0) {
      throw new TypeError("a search parameter is a pair of a name and a value");
    }
    return [textOf(name), textOf(value)];
  });
}

export class URLSearchParams {
  #list = [];
  /** Told the new query whenever it changes, where this belongs to a URL. */
  #changed = null;

  constructor(init = "") {
    this.#list = listOf(init);
  }

  /** Those of a URL, whose query follows them. */
  static of(query, changed) {
    const parameters = new URLSearchParams();
    parameters.#list = parse(query);
    parameters.#changed = changed;
    return parameters;
  }

  /** Follows the query of its URL. */
  static reset(parameters, query) {
    parameters.#list = parse(query);
  }

  #update() {
    this.#changed?.(this.toString());
  }

  get size() {
    return this.#list.length;
  }

  append(name, value) {
    this.#list.push([textOf(name), textOf(value)]);
    this.#update();
  }

  delete(name, value) {
    const matches = matcher(name, value);
    this.#list = this.#list.filter((entry) => !matches(entry));
    this.#update();
  }

  get(name) {
    return this.#list.find(matcher(name))?.[1] ?? null;
  }

  getAll(name) {
    return this.#list.filter(matcher(name)).map((entry) => entry[1]);
  }

  has(name, value) {
    return this.#list.some(matcher(name, value));
  }

  set(name, value) {
    const matches = matcher(name);
    const at = this.#list.findIndex(matches);
    const entry = [textOf(name), textOf(value)];
    if (at < 0) this.#list.push(entry);
    else
      this.#list = this.#list
        .toSpliced(at, 1, entry)
        .filter((other, index) => index <= at || !matches(other));
    this.#update();
  }

  sort() {
    this.#list.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
    this.#update();
  }

  toString() {
    return this.#list.map(([name, value]) => `${encode(name)}=${encode(value)}`).join("&");
  }

  *entries() {
    for (let index = 0; index < this.#list.length; index++) yield [...this.#list[index]];
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
}

function matcher(name, value) {
  const wanted = textOf(name);
  if (value === undefined) return (entry) => entry[0] === wanted;
  const alsoWanted = textOf(value);
  return (entry) => entry[0] === wanted && entry[1] === alsoWanted;
}
