// TextEncoder and TextDecoder (WHATWG Encoding), for UTF-8. The host converts: an interpreter is slow at it.

import host from "sluicegate:javascript/text@0.1.0";

/** A text in UTF-8. */
export function encode(text) {
  return host.encode(String(text).toWellFormed());
}

/** What is malformed becomes U+FFFD. */
export function decode(bytes) {
  return withoutMark(host.decode(bytes, false));
}

/** The bytes of an ArrayBuffer or a view of one, without copying them. */
export function bytesOf(source) {
  if (source instanceof Uint8Array) return source;
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (source instanceof ArrayBuffer || source instanceof SharedArrayBuffer) return new Uint8Array(source);
  throw new TypeError("bytes are a Uint8Array, another view of an ArrayBuffer, or an ArrayBuffer");
}

/** Whether bytesOf takes it. */
export function isBytes(value) {
  return ArrayBuffer.isView(value) || value instanceof ArrayBuffer;
}

/** Byte sequences, one after the other. */
export function join(chunks) {
  if (chunks.length === 1) return chunks[0];
  const all = new Uint8Array(chunks.reduce((length, chunk) => length + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

function withoutMark(text) {
  return text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
}

export class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(text = "") {
    return encode(text);
  }

  encodeInto(text, target) {
    let read = 0;
    let written = 0;
    for (const character of String(text).toWellFormed()) {
      const bytes = encode(character);
      if (written + bytes.length > target.length) break;
      target.set(bytes, written);
      read += character.length;
      written += bytes.length;
    }
    return { read, written };
  }
}

const LABELS = ["utf-8", "utf8", "unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "x-unicode20utf8"];

export class TextDecoder {
  #fatal;
  #ignoreBOM;
  /** The beginning of a character whose end has not come yet. */
  #rest = new Uint8Array(0);
  /** Whether something was decoded since the last end: a byte order mark stands at the beginning only. */
  #begun = false;

  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    if (!LABELS.includes(String(label).trim().toLowerCase())) {
      throw new RangeError(`the encoding ${label} is not supported: only utf-8 is`);
    }
    this.#fatal = Boolean(fatal);
    this.#ignoreBOM = Boolean(ignoreBOM);
  }

  get encoding() {
    return "utf-8";
  }

  get fatal() {
    return this.#fatal;
  }

  get ignoreBOM() {
    return this.#ignoreBOM;
  }

  decode(input, { stream = false } = {}) {
    let bytes = input === undefined ? new Uint8Array(0) : bytesOf(input);
    if (this.#rest.length > 0) bytes = join([this.#rest, bytes]);
    const complete = stream ? bytes.length - lengthOfUnfinished(bytes) : bytes.length;
    this.#rest = bytes.slice(complete);
    const text = host.decode(bytes.subarray(0, complete), this.#fatal);
    if (text === null) {
      this.#rest = new Uint8Array(0);
      throw new TypeError("the bytes are not UTF-8");
    }
    const isFirst = !this.#begun;
    this.#begun = stream && (this.#begun || text !== "");
    return isFirst && !this.#ignoreBOM ? withoutMark(text) : text;
  }
}

/** How many bytes at the end begin a character and do not end it. */
function lengthOfUnfinished(bytes) {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back];
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) {
      const needed = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return needed > back && byte < 0xf5 ? back : 0;
    }
  }
  return 0;
}
