// URL (WHATWG URL section 6.1).

import { FRAGMENT, percentEncode, USERINFO } from "./percent.js";
import {
  isSpecial,
  parseHostAndPort,
  parsePath,
  parsePort,
  parseQuery,
  parseUrl,
  showPath,
  showUrl,
} from "./url-parse.js";
import { URLSearchParams } from "./url-search-params.js";

/** The longest part of a URL in an error, in characters. */
const SHOWN_MAX = 200;

function parse(text, base) {
  const from = base === undefined ? null : parseUrl(String(base), null);
  return base !== undefined && from === null ? null : parseUrl(String(text), from);
}

export class URL {
  #parts;
  #parameters = null;

  constructor(url, base) {
    this.#parts = parse(url, base);
    if (this.#parts === null) {
      throw new TypeError(`Invalid URL: ${String(url).slice(0, SHOWN_MAX)}`);
    }
  }

  static canParse(url, base) {
    return parse(url, base) !== null;
  }

  static parse(url, base) {
    return URL.canParse(url, base) ? new URL(url, base) : null;
  }

  get href() {
    return showUrl(this.#parts);
  }

  set href(text) {
    this.#parts = new URL(text).#parts;
    this.#resetParameters();
  }

  get origin() {
    return isSpecial(this.#parts.scheme) ? `${this.protocol}//${this.host}` : "null";
  }

  get protocol() {
    return `${this.#parts.scheme}:`;
  }

  set protocol(text) {
    const scheme = /^([A-Za-z][A-Za-z0-9+\-.]*)(?::|$)/.exec(String(text))?.[1].toLowerCase();
    if (scheme === undefined || isSpecial(scheme) !== isSpecial(this.#parts.scheme)) return;
    this.#parts.scheme = scheme;
    if (this.#parts.port !== null) this.#parts.port = parsePort(String(this.#parts.port), scheme);
  }

  get username() {
    return this.#parts.username;
  }

  set username(text) {
    if (this.#hasHost()) this.#parts.username = percentEncode(String(text), USERINFO);
  }

  get password() {
    return this.#parts.password;
  }

  set password(text) {
    if (this.#hasHost()) this.#parts.password = percentEncode(String(text), USERINFO);
  }

  get host() {
    return this.port === "" ? this.hostname : `${this.hostname}:${this.port}`;
  }

  set host(text) {
    if (this.#isOpaque()) return;
    const [name, digits] = this.#hostText(text);
    const place = parseHostAndPort(name, this.#parts.scheme);
    if (place === null || (place.host === "" && this.#hasCredentialsOrPort())) return;
    this.#parts.host = place.host;
    const port = digits === "" ? undefined : parsePort(digits, this.#parts.scheme);
    if (port !== undefined) this.#parts.port = port;
  }

  get hostname() {
    return this.#parts.host ?? "";
  }

  set hostname(text) {
    if (this.#isOpaque()) return;
    const [name, , hasPort] = this.#hostText(text);
    const place = hasPort ? null : parseHostAndPort(name, this.#parts.scheme);
    if (place === null || (place.host === "" && this.#hasCredentialsOrPort())) return;
    this.#parts.host = place.host;
  }

  get port() {
    return this.#parts.port === null ? "" : String(this.#parts.port);
  }

  set port(text) {
    if (!this.#hasHost()) return;
    const digits = String(text).replace(/[\t\n\r]/g, "");
    const port = digits === "" ? null : parsePort(/^[0-9]*/.exec(digits)[0] || "-", this.#parts.scheme);
    if (port !== undefined) this.#parts.port = port;
  }

  get pathname() {
    return showPath(this.#parts);
  }

  set pathname(text) {
    if (this.#isOpaque()) return;
    const special = isSpecial(this.#parts.scheme);
    const path = String(text)
      .replace(/[\t\n\r]/g, "")
      .replaceAll("?", "%3F")
      .replaceAll("#", "%23");
    const begins = special ? /^[/\\]/ : /^\//;
    const isEmpty = path === "" && !special && this.#parts.host !== null;
    this.#parts.path = isEmpty ? [] : parsePath(path.replace(begins, ""), [], special);
  }

  get search() {
    return this.#parts.query ? `?${this.#parts.query}` : "";
  }

  set search(text) {
    const query = String(text)
      .replace(/[\t\n\r]/g, "")
      .replace(/^\?/, "");
    const isAbsent = String(text) === "";
    this.#parts.query = isAbsent ? null : parseQuery(query.replaceAll("#", "%23"), this.#parts.scheme);
    this.#resetParameters();
  }

  get searchParams() {
    this.#parameters ??= URLSearchParams.of(this.#parts.query ?? "", (query) => {
      this.#parts.query = query === "" ? null : query;
    });
    return this.#parameters;
  }

  get hash() {
    return this.#parts.fragment ? `#${this.#parts.fragment}` : "";
  }

  set hash(text) {
    const fragment = String(text)
      .replace(/[\t\n\r]/g, "")
      .replace(/^#/, "");
    this.#parts.fragment = String(text) === "" ? null : percentEncode(fragment, FRAGMENT);
  }

  toString() {
    return this.href;
  }

  toJSON() {
    return this.href;
  }

  #isOpaque() {
    return typeof this.#parts.path === "string";
  }

  #hasHost() {
    return Boolean(this.#parts.host);
  }

  #hasCredentialsOrPort() {
    return this.#parts.username !== "" || this.#parts.password !== "" || this.#parts.port !== null;
  }

  /** The host in what a setter got, the digits of the port after it, and whether a port is begun. */
  #hostText(text) {
    const cut = String(text)
      .replace(/[\t\n\r]/g, "")
      .split(isSpecial(this.#parts.scheme) ? /[/\\?#]/ : /[/?#]/)[0];
    const [, name, port] = /^((?:\[[^\]]*\]?|[^:[])*)(:.*)?$/s.exec(cut) ?? [undefined, cut, ""];
    return [name, /^[0-9]*/.exec((port ?? "").slice(1))[0], port !== undefined];
  }

  #resetParameters() {
    if (this.#parameters !== null) URLSearchParams.reset(this.#parameters, this.#parts.query ?? "");
  }
}
