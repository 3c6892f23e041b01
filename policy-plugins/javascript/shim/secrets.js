// Secrets in `env`: usable and not readable.

import reveal from "sluicegate:policy/reveal@0.1.0";
import secrets from "sluicegate:policy/secrets@0.1.0";

import { call } from "./failures.js";
import { bytesOf, decode, encode } from "./text.js";

export class Secret {
  #name;
  #placeholder = null;

  constructor(name) {
    this.#name = name;
  }

  get name() {
    return this.#name;
  }

  /** A text that stands for the value: the host puts the value in where the request leaves. */
  toString() {
    this.#placeholder ??= call(() => secrets.placeholder(this.#name));
    return this.#placeholder;
  }

  toJSON() {
    return this.toString();
  }

  [Symbol.toPrimitive]() {
    return this.toString();
  }

  /** HMAC-SHA-256 with the secret as the key. */
  async hmacSha256(data) {
    const bytes = typeof data === "string" ? encode(data) : bytesOf(data);
    return call(() => secrets.hmacSha256(this.#name, bytes));
  }

  /** The value itself, where the document grants it. */
  async reveal() {
    return decode(call(() => reveal.reveal(this.#name)));
  }
}
