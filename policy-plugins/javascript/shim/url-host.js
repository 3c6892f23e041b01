// Hosts in URLs (WHATWG URL section 3): the one form that each is written in.

import { C0_CONTROL, percentDecode, percentEncode } from "./percent.js";

/** What cannot stand in a host at all, and in a domain. */
const FORBIDDEN_IN_HOST = /[\0\t\n\r #/:<>?@[\\\]^|]/;
const FORBIDDEN_IN_DOMAIN = /[\0-\x20#%/:<>?@[\\\]^|\x7f]/;

/**
 * A host in its one form, or null if it is none. Names that are not ASCII are not converted: they have
 * to be written as they are asked for (`xn--`).
 */
export function parseHost(text, isSpecial) {
  if (text.startsWith("[")) {
    const pieces = text.endsWith("]") ? parseIpv6(text.slice(1, -1)) : null;
    return pieces === null ? null : `[${showIpv6(pieces)}]`;
  }
  if (!isSpecial) return FORBIDDEN_IN_HOST.test(text) ? null : percentEncode(text, C0_CONTROL);
  const domain = percentDecode(text).toLowerCase();
  if (domain === "" || /[^\0-\x7f]/.test(domain) || FORBIDDEN_IN_DOMAIN.test(domain)) return null;
  if (!endsInNumber(domain)) return domain;
  const address = parseIpv4(domain);
  return address === null ? null : showIpv4(address);
}

function endsInNumber(domain) {
  const parts = domain.split(".");
  if (parts.at(-1) === "") {
    if (parts.length === 1) return false;
    parts.pop();
  }
  return /^(?:[0-9]+|0[xX][0-9A-Fa-f]*)$/.test(parts.at(-1));
}

/** An address as a number: of one to four parts, each decimal, octal or hexadecimal. */
function parseIpv4(domain) {
  const parts = domain.split(".");
  if (parts.at(-1) === "" && parts.length > 1) parts.pop();
  if (parts.length > 4) return null;
  const numbers = parts.map(parseIpv4Part);
  if (numbers.some((number) => number === null)) return null;
  const last = numbers.pop();
  if (numbers.some((number) => number > 255) || last >= 256 ** (4 - numbers.length)) return null;
  return numbers.reduce((sum, number, index) => sum + number * 256 ** (3 - index), last);
}

function parseIpv4Part(text) {
  if (/^0x[0-9a-f]*$/.test(text)) return text === "0x" ? 0 : parseInt(text.slice(2), 16);
  if (/^0[0-7]+$/.test(text)) return parseInt(text, 8);
  return /^(?:0|[1-9][0-9]*)$/.test(text) ? parseInt(text, 10) : null;
}

function showIpv4(address) {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join(".");
}

/** The eight pieces of an address, or null. */
function parseIpv6(text) {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const [before, after] = halves.map((half) => (half === "" ? [] : half.split(":")));
  const front = parseIpv6Pieces(before, after === undefined);
  const back = after === undefined ? [] : parseIpv6Pieces(after, true);
  if (front === null || back === null) return null;
  const missing = 8 - front.length - back.length;
  if (after === undefined ? missing !== 0 : missing < 1) return null;
  return [...front, ...Array(missing).fill(0), ...back];
}

/** The last piece of an address can be an IPv4 address, which makes two. */
function parseIpv6Pieces(texts, isEnd) {
  const pieces = [];
  for (const [index, text] of texts.entries()) {
    if (isEnd && index === texts.length - 1 && text.includes(".")) {
      if (!/^(?:(?:0|[1-9][0-9]{0,2})(?:\.|$)){4}$/.test(text) || text.endsWith(".")) return null;
      const bytes = text.split(".").map(Number);
      if (bytes.some((byte) => byte > 255)) return null;
      pieces.push(bytes[0] * 256 + bytes[1], bytes[2] * 256 + bytes[3]);
    } else if (/^[0-9A-Fa-f]{1,4}$/.test(text)) {
      pieces.push(parseInt(text, 16));
    } else {
      return null;
    }
  }
  return pieces;
}

/** Without leading zeros, and `::` for the first of the longest runs of two zeros or more. */
function showIpv6(pieces) {
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (pieces[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
    if (length > 0) at += length - 1;
  }
  const show = (part) => part.map((piece) => piece.toString(16)).join(":");
  if (best.at < 0) return show(pieces);
  return `${show(pieces.slice(0, best.at))}::${show(pieces.slice(best.at + best.length))}`;
}
