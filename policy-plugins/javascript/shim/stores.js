// Stores in `env`: values by key, and objects by key, in the shapes of the platform's.

import kv from "sluicegate:policy/kv@0.1.0";
import objects from "sluicegate:policy/objects@0.1.0";

import { Content } from "./content.js";
import { call, checkUndecided } from "./failures.js";
import { ReadableStream } from "./streams.js";
import { bytesOf, decode, encode, isBytes } from "./text.js";

function textOf(value) {
  return String(value).toWellFormed();
}

/** What can be stored, as its content. */
function contentOf(value) {
  if (value instanceof ReadableStream) return ReadableStream.take(value);
  return Content.ofBytes(isBytes(value) ? bytesOf(value) : encode(value));
}

/** Whole seconds, or null for what is kept for good. */
function secondsOf(seconds) {
  if (seconds === undefined || seconds === null) return null;
  const whole = Math.trunc(Number(seconds));
  if (!(whole >= 1 && whole <= 0xffff_ffff)) throw new RangeError("a time to live is 1 second or more");
  return whole;
}

export class KeyValueStore {
  #name;

  constructor(name) {
    this.#name = name;
  }

  /** The value as text; as `type` says, of JSON, an ArrayBuffer or a stream; or null. */
  async get(key, options) {
    checkUndecided();
    const value = call(() => kv.get(this.#name, textOf(key)));
    if (value === null) return null;
    const type = (typeof options === "string" ? options : options?.type) ?? "text";
    if (type === "text") return decode(value);
    if (type === "json") return JSON.parse(decode(value));
    if (type === "arrayBuffer")
      return value.buffer.slice(value.byteOffset, value.byteOffset + value.byteLength);
    if (type === "stream") return ReadableStream.of(Content.ofBytes(value));
    throw new TypeError(`a value is read as text, json, arrayBuffer or stream, and not as ${type}`);
  }

  async put(key, value, { expirationTtl } = {}) {
    checkUndecided();
    const seconds = secondsOf(expirationTtl);
    const bytes = await contentOf(value).bytes();
    call(() => kv.put(this.#name, textOf(key), bytes, seconds));
  }

  async delete(key) {
    checkUndecided();
    call(() => kv.delete(this.#name, textOf(key)));
  }

  async list({ prefix = "" } = {}) {
    checkUndecided();
    const keys = call(() => kv.listKeys(this.#name, textOf(prefix)));
    return { keys: keys.map((name) => ({ name })), list_complete: true };
  }

  /** Adds to a number, which begins at 0, and gives the sum; nothing comes between. */
  async increment(key, by = 1, { expirationTtl } = {}) {
    checkUndecided();
    if (!Number.isSafeInteger(by)) throw new TypeError("what is added is a whole number");
    return call(() => kv.increment(this.#name, textOf(key), by, secondsOf(expirationTtl)));
  }
}

/** What is known of an object. */
class StoredObject {
  constructor(key, { length, contentType, etag }) {
    this.key = key;
    this.size = length;
    this.httpMetadata = contentType === null ? {} : { contentType };
    this.httpEtag = etag;
    this.etag = etag?.replace(/^(?:W\/)?"(.*)"$/, "$1") ?? null;
  }
}

/** An object with its content, unread. */
class StoredObjectBody extends StoredObject {
  #body;

  constructor(key, metadata, body) {
    super(key, metadata);
    this.#body = ReadableStream.of(Content.ofBody(body));
  }

  get body() {
    return this.#body;
  }

  get bodyUsed() {
    return this.#body.locked;
  }

  async bytes() {
    return ReadableStream.take(this.#body).bytes();
  }

  async arrayBuffer() {
    const bytes = await this.bytes();
    return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  }

  async text() {
    return decode(await this.bytes());
  }

  async json() {
    return JSON.parse(await this.text());
  }
}

export class ObjectStore {
  #name;

  constructor(name) {
    this.#name = name;
  }

  async get(key) {
    checkUndecided();
    const found = call(() => objects.get(this.#name, textOf(key)));
    return found === null ? null : new StoredObjectBody(textOf(key), found[0], found[1]);
  }

  async head(key) {
    checkUndecided();
    const found = call(() => objects.head(this.#name, textOf(key)));
    return found === null ? null : new StoredObject(textOf(key), found);
  }

  /** Writes an object; what the host holds unread streams into it. */
  async put(key, value, { httpMetadata } = {}) {
    checkUndecided();
    const content = contentOf(value);
    await content.ready();
    const type = httpMetadata?.contentType;
    const body = content.take();
    call(() => objects.put(this.#name, textOf(key), body, type === undefined ? null : textOf(type)));
  }

  async delete(key) {
    checkUndecided();
    call(() => objects.delete(this.#name, textOf(key)));
  }

  async list({ prefix = "" } = {}) {
    checkUndecided();
    const keys = call(() => objects.listKeys(this.#name, textOf(prefix)));
    return { objects: keys.map((key) => ({ key })), truncated: false };
  }
}
