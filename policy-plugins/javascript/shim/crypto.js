// crypto, as far as handlers need it: chance, SHA-256, and HMAC-SHA-256 with a key that the handler has.

import digest from "sluicegate:policy/digest@0.1.0";
import random from "sluicegate:policy/random@0.1.0";

import { bytesOf } from "./text.js";

/** The most bytes that `getRandomValues` gives at once. */
const RANDOM_MAX = 65_536;
/** The length of a block of SHA-256, in bytes. */
const BLOCK = 64;

function getRandomValues(array) {
  if (!ArrayBuffer.isView(array) || /^Float|^DataView/.test(array.constructor.name)) {
    throw new DOMException("getRandomValues fills an array of integers", "TypeMismatchError");
  }
  if (array.byteLength > RANDOM_MAX) {
    throw new DOMException(`at most ${RANDOM_MAX} bytes at once`, "QuotaExceededError");
  }
  bytesOf(array).set(random.bytes(array.byteLength));
  return array;
}

function randomUUID() {
  const bytes = random.bytes(16);
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"))
    .join("")
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** What stands in for `Math.random`, whose state is the same in every instance. 53 bits. */
export function randomNumber() {
  const [high, low] = new Uint32Array(random.bytes(8).buffer);
  return ((high >>> 5) * 2 ** 26 + (low >>> 6)) / 2 ** 53;
}

function named(algorithm) {
  return String(algorithm?.name ?? algorithm).toUpperCase();
}

function unsupported(what) {
  return new DOMException(`${what} is not supported: only SHA-256 and HMAC with it are`, "NotSupportedError");
}

function bufferOf(bytes) {
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}

/** RFC 2104. */
function hmac(key, data) {
  const block = new Uint8Array(BLOCK);
  block.set(key.length > BLOCK ? digest.sha256(key) : key);
  const padded = (mask, rest) => {
    const bytes = new Uint8Array(BLOCK + rest.length);
    bytes.set(block.map((byte) => byte ^ mask));
    bytes.set(rest, BLOCK);
    return bytes;
  };
  return digest.sha256(padded(0x5c, digest.sha256(padded(0x36, data))));
}

class CryptoKey {
  #bytes;
  type = "secret";
  algorithm = { name: "HMAC", hash: { name: "SHA-256" } };

  constructor(bytes, usages) {
    this.#bytes = bytes;
    this.usages = [...usages];
  }

  static bytes(key, use) {
    if (!key.usages.includes(use)) throw new DOMException(`the key is not for ${use}`, "InvalidAccessError");
    return key.#bytes;
  }
}

function checkHmac(algorithm) {
  if (named(algorithm) !== "HMAC") throw unsupported(named(algorithm));
}

const subtle = {
  async digest(algorithm, data) {
    if (named(algorithm) !== "SHA-256") throw unsupported(named(algorithm));
    return bufferOf(digest.sha256(bytesOf(data)));
  },

  async importKey(format, key, algorithm, _extractable, usages) {
    checkHmac(algorithm);
    if (format !== "raw") throw unsupported(`a key in the format ${format}`);
    if (named(algorithm.hash) !== "SHA-256") throw unsupported(`HMAC with ${named(algorithm.hash)}`);
    return new CryptoKey(bytesOf(key).slice(), usages);
  },

  async sign(algorithm, key, data) {
    checkHmac(algorithm);
    return bufferOf(hmac(CryptoKey.bytes(key, "sign"), bytesOf(data)));
  },

  async verify(algorithm, key, signature, data) {
    checkHmac(algorithm);
    return isSame(hmac(CryptoKey.bytes(key, "verify"), bytesOf(data)), bytesOf(signature));
  },
};

/** Compares without telling by the time it takes where the first difference is. */
function isSame(a, b) {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let at = 0; at < a.length; at++) difference |= a[at] ^ b[at];
  return difference === 0;
}

export const crypto = { getRandomValues, randomUUID, subtle };
