// Percent-encoding (WHATWG URL section 1.3). Each set is the characters that are encoded.

import { encode } from "./text.js";
import host from "sluicegate:javascript/text@0.1.0";

export const C0_CONTROL = /[^\x20-\x7e]/gu;
export const FRAGMENT = /[^\x21\x23-\x3b\x3d\x3f-\x5f\x61-\x7e]/gu;
export const QUERY = /[^\x21\x24-\x3b\x3d\x3f-\x7e]/gu;
export const SPECIAL_QUERY = /[^\x21\x24-\x26\x28-\x3b\x3d\x3f-\x7e]/gu;
export const PATH = /[^\x21\x24-\x3b\x3d\x40-\x5d\x5f\x61-\x7a\x7c\x7e]/gu;
export const USERINFO = /[^\x21\x24-\x2e\x30-\x39\x41-\x5a\x5f\x61-\x7a\x7e]/gu;
/** `application/x-www-form-urlencoded`: a space is written as `+`, by the caller. */
export const FORM = /[^*\-.0-9A-Z_a-z ]/gu;

function escaped(character) {
  let text = "";
  for (const byte of encode(character)) text += `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  return text;
}

/** A text in which the characters of a set are encoded. */
export function percentEncode(text, set) {
  return text.toWellFormed().replace(set, escaped);
}

/** The text that encoded bytes stand for. What is not well-formed stays, or becomes U+FFFD. */
export function percentDecode(text) {
  if (!text.includes("%")) return text.toWellFormed();
  try {
    return decodeURIComponent(text.toWellFormed());
  } catch {
    return decodeBytes(text);
  }
}

function decodeBytes(text) {
  const bytes = encode(text);
  const decoded = new Uint8Array(bytes.length);
  let length = 0;
  for (let at = 0; at < bytes.length; at++) {
    const pair = bytes[at] === 0x25 ? String.fromCharCode(bytes[at + 1], bytes[at + 2]) : "";
    if (/^[0-9A-Fa-f]{2}$/.test(pair)) {
      decoded[length++] = parseInt(pair, 16);
      at += 2;
    } else {
      decoded[length++] = bytes[at];
    }
  }
  return host.decode(decoded.subarray(0, length), false);
}
