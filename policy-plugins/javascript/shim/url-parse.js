// The URL parser (WHATWG URL section 4.4), from text to parts. `file:` is read as any scheme that is not special.

import { C0_CONTROL, FRAGMENT, PATH, percentEncode, QUERY, SPECIAL_QUERY, USERINFO } from "./percent.js";
import { parseHost } from "./url-host.js";

/** The schemes whose URLs have a host and a path of segments, with their default ports. */
const DEFAULT_PORTS = new Map([
  ["http", 80],
  ["https", 443],
  ["ws", 80],
  ["wss", 443],
  ["ftp", 21],
]);

export function isSpecial(scheme) {
  return DEFAULT_PORTS.has(scheme);
}

/**
 * The parts of a URL: `host` is null where there is none, `path` is a text where it is opaque and else a
 * list of segments, `query` and `fragment` are null where they are absent. Null for what is no URL.
 */
export function parseUrl(input, base) {
  const text = input
    .toWellFormed()
    .replace(/^[\0-\x20]+|[\0-\x20]+$/g, "")
    .replace(/[\t\n\r]/g, "");
  const scheme = /^([A-Za-z][A-Za-z0-9+\-.]*):/.exec(text)?.[1];
  if (scheme === undefined) return base === null ? null : parseRelative(text, base);
  return parseAbsolute(scheme.toLowerCase(), text.slice(scheme.length + 1), base);
}

function parseAbsolute(scheme, rest, base) {
  if (isSpecial(scheme)) {
    // `https:path` is relative to a base of the same scheme.
    if (base?.scheme === scheme && !/^\/\//.test(rest)) return parseRelative(rest, base);
    return parseAuthorityAndMore(scheme, rest.replace(/^[/\\]+/, ""));
  }
  if (rest.startsWith("//")) return parseAuthorityAndMore(scheme, rest.slice(2));
  const parts = split(rest);
  const url = { ...EMPTY, scheme };
  if (parts.path.startsWith("/")) url.path = parsePath(parts.path.slice(1), [], false);
  else url.path = percentEncode(parts.path.replace(/ +$/, parts.tail === "" ? "" : "$&"), C0_CONTROL);
  return finish(url, parts);
}

const EMPTY = { username: "", password: "", host: null, port: null, path: [], query: null, fragment: null };

function parseRelative(text, base) {
  const special = isSpecial(base.scheme);
  if (typeof base.path === "string") {
    if (!text.startsWith("#")) return null;
    return { ...base, fragment: percentEncode(text.slice(1), FRAGMENT) };
  }
  const slashes = special ? /^[/\\]*/ : /^\/{0,2}/;
  const leading = slashes.exec(text)[0].length;
  if (leading >= 2) return parseAuthorityAndMore(base.scheme, text.slice(leading));
  const parts = split(text);
  const url = { ...base, path: [...base.path], fragment: null };
  if (leading === 1) {
    url.path = parsePath(parts.path.slice(1), [], special);
    url.query = null;
  } else if (parts.path !== "") {
    url.path = parsePath(parts.path, url.path.slice(0, -1), special);
    url.query = null;
  } else if (parts.query !== null) {
    url.query = null;
  }
  return finish(url, parts);
}

/** `text` follows the slashes. */
function parseAuthorityAndMore(scheme, text) {
  const special = isSpecial(scheme);
  const end = text.search(special ? /[/\\?#]/ : /[/?#]/);
  const authority = end < 0 ? text : text.slice(0, end);
  const url = { ...EMPTY, scheme };
  const at = authority.lastIndexOf("@");
  if (at >= 0) {
    const [user, ...password] = authority.slice(0, at).split(":");
    url.username = percentEncode(user, USERINFO);
    url.password = percentEncode(password.join(":"), USERINFO);
  }
  const place = parseHostAndPort(authority.slice(at + 1), scheme);
  if (place === null || (place.host === "" && (at >= 0 || place.port !== null))) return null;
  const parts = split(end < 0 ? "" : text.slice(end));
  Object.assign(url, place);
  // A special URL has a path; any other has one where it is written.
  if (special || parts.path !== "") url.path = parsePath(parts.path.slice(1), [], special);
  return finish(url, parts);
}

/** Host and port of `text`, or null. The port is null where it is the default, or left out. */
export function parseHostAndPort(text, scheme) {
  const [, name, , digits] = /^((?:\[[^\]]*\]?|[^:[])*)(:(.*))?$/s.exec(text) ?? [];
  if (name === undefined) return null;
  const special = isSpecial(scheme);
  if (name === "") return special || digits !== undefined ? null : { host: "", port: null };
  const host = parseHost(name, special);
  const port = parsePort(digits ?? "", scheme);
  return host === null || port === undefined ? null : { host, port };
}

/** A number, null for the default, undefined for what is no port. */
export function parsePort(digits, scheme) {
  if (digits === "") return null;
  if (!/^[0-9]+$/.test(digits)) return undefined;
  const port = Number(digits);
  if (port > 65_535) return undefined;
  return port === DEFAULT_PORTS.get(scheme) ? null : port;
}

/** The segments of a path after its first slash, put after `path`. */
export function parsePath(text, path, special) {
  const segments = text.split(special ? /[/\\]/ : "/");
  for (const [index, segment] of segments.entries()) {
    const isLast = index === segments.length - 1;
    const dots = segment.replace(/%2e/gi, ".");
    if (dots === "..") path.pop();
    if (dots === "." || dots === "..") {
      if (isLast) path.push("");
    } else {
      path.push(percentEncode(segment, PATH));
    }
  }
  return path;
}

export function parseQuery(text, scheme) {
  return percentEncode(text, isSpecial(scheme) ? SPECIAL_QUERY : QUERY);
}

/** Path, query and fragment. `tail` is what follows the path. */
function split(text) {
  const [, path, tail, query, fragment] = /^([^?#]*)((?:\?([^#]*))?(?:#(.*))?)$/s.exec(text);
  return { path, tail, query: query ?? null, fragment: fragment ?? null };
}

function finish(url, parts) {
  if (parts.query !== null) url.query = parseQuery(parts.query, url.scheme);
  if (parts.fragment !== null) url.fragment = percentEncode(parts.fragment, FRAGMENT);
  return url;
}

export function showPath(url) {
  return typeof url.path === "string" ? url.path : url.path.map((segment) => `/${segment}`).join("");
}

export function showUrl(url) {
  let text = `${url.scheme}:`;
  if (url.host !== null) {
    const password = url.password === "" ? "" : `:${url.password}`;
    const user = url.username !== "" || password !== "" ? `${url.username}${password}@` : "";
    text += `//${user}${url.host}${url.port === null ? "" : `:${url.port}`}`;
  } else if (typeof url.path !== "string" && url.path.length > 1 && url.path[0] === "") {
    // Else the path would be read as a host.
    text += "/.";
  }
  text += showPath(url);
  if (url.query !== null) text += `?${url.query}`;
  return url.fragment === null ? text : `${text}#${url.fragment}`;
}
