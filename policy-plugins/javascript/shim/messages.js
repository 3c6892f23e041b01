// Request and Response (WHATWG Fetch). Each stands for a message that the host holds: what is not touched
// stays there, and what is changed is changed there.

import http from "sluicegate:policy/http@0.1.0";

import { Content } from "./content.js";
import { call } from "./failures.js";
import { entriesOf, Headers } from "./headers.js";
import { ReadableStream } from "./streams.js";
import { bytesOf, decode, encode, isBytes } from "./text.js";
import { URL } from "./url.js";
import { URLSearchParams } from "./url-search-params.js";

/** The only thing that tells the constructors to take a message of the host's. */
const HELD = Symbol("held");
/** Statuses that have no body. */
const WITHOUT_BODY = [101, 204, 205, 304];
const USED = "the body was used before: it can be read or sent once (see clone)";
/** Methods that are written in upper case however they come. */
const METHODS = /^(?:delete|get|head|options|post|put|patch)$/i;

/** What a body was given as: its content, and the type that it has unless the headers say another. */
function contentOf(body) {
  if (body instanceof ReadableStream) return { content: ReadableStream.take(body), type: null };
  if (isBytes(body)) return { content: Content.ofBytes(bytesOf(body).slice()), type: null };
  const type =
    body instanceof URLSearchParams
      ? "application/x-www-form-urlencoded;charset=UTF-8"
      : "text/plain;charset=UTF-8";
  return { content: Content.ofBytes(encode(body)), type };
}

class Message {
  _message;
  _headers = null;
  /** Undefined while nobody has looked: it is then where the host has it. */
  _content;
  #stream = null;

  get headers() {
    this._headers ??= Headers.of(this._message);
    return this._headers;
  }

  get body() {
    const content = this._looked();
    if (content === null) return null;
    this.#stream ??= ReadableStream.of(content);
    return this.#stream;
  }

  get bodyUsed() {
    return Boolean(this._content?.isUsed);
  }

  async bytes() {
    const content = this._looked();
    if (content === null) return new Uint8Array(0);
    if (this.#stream !== null) ReadableStream.take(this.#stream);
    return content.bytes();
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

  /** The first bytes of the body, `limit` of them or all of a shorter one. It can still be read or sent. */
  async peek(limit) {
    const content = this._looked();
    return content === null ? new Uint8Array(0) : content.peek(Math.max(Math.trunc(Number(limit)) || 0, 0));
  }

  /** Puts the first bytes of the body into the log while it streams past. */
  tapBody(limit) {
    this._message.tapBody(Math.max(Math.trunc(Number(limit)) || 0, 0));
  }

  /** What the body consists of, or null. */
  _looked() {
    if (this._content === undefined) {
      this._content = this._message.hasBody() ? Content.ofMessage(this._message) : null;
    }
    return this._content;
  }

  /** The body of another, which has none left. */
  _takeContent() {
    const content = this._looked();
    if (content === null) return null;
    if (this.#stream !== null) ReadableStream.take(this.#stream);
    else if (content.isUsed) throw new TypeError(USED);
    content.detach();
    this._content = Content.spent();
    return content;
  }

  _teeContent() {
    const content = this._looked();
    if (content === null) return null;
    if (this.#stream?.locked) throw new TypeError("the body is being read");
    const [mine, other] = content.tee();
    this._content = mine;
    this.#stream = null;
    return other;
  }

  /** Puts `body` in, and says of what type it is where the headers do not. */
  _putContent(body) {
    const { content, type } = contentOf(body);
    this._content = content;
    if (type !== null && this._message.header("content-type").length === 0) {
      this._message.setHeader("content-type", type);
    }
  }

  /** A promise that ends once the body can be sent, or null where it can be. */
  _waiting() {
    if (this.#stream?.locked && !this._content.isUsed) throw new TypeError("the body is being read");
    return this._content?.isReady === false ? this._content.ready() : null;
  }

  /** The host's message with its body in it. `isShared`: the other of two bodies goes on getting the same. */
  _filled(isShared) {
    if (this._content) this._content.attachTo(this._message, isShared);
    return this._message;
  }
}

export class Request extends Message {
  #signal;

  constructor(input, init) {
    super();
    if (input === HELD) {
      this._message = init;
      this.#signal = null;
      return;
    }
    const options = init ?? {};
    const origin = input instanceof Request ? input : options instanceof Request ? options : null;
    const isCopy = options === origin;
    this._message = origin === null ? create(input) : copyOf(origin, input);
    this.#signal = options.signal ?? origin?.signal ?? null;
    if (!isCopy && options.method !== undefined) {
      call(() => this._message.setMethod(methodOf(options.method)));
    }
    if (!isCopy && options.headers !== undefined && options.headers !== null) {
      call(() => this._message.setHeaders(entriesOf(options.headers)));
    }
    const body = isCopy ? null : (options.body ?? null);
    this._content = null;
    if (body !== null) this._putContent(body);
    else if (origin !== null) this._content = origin._takeContent();
    if (
      this._content !== null &&
      /^(?:GET|HEAD)$/.test(this.method) &&
      (body !== null || !isUnchanged(options))
    ) {
      throw new TypeError(`a ${this.method} request has no body`);
    }
  }

  /** Not for handlers: a request that the host holds. */
  static of(message) {
    return new Request(HELD, message);
  }

  /** Not for handlers: a promise that ends once the request can be sent, or null where it can be. */
  static waiting(request) {
    return request._waiting();
  }

  /** Not for handlers: the host's message, to be sent. The request keeps its head. */
  static send(request) {
    if (request.bodyUsed) throw new TypeError(USED);
    const head = request._message.copy();
    request._looked();
    const message = request._filled(false);
    if (request._headers !== null) Headers.move(request._headers, head);
    request._message = head;
    return message;
  }

  get method() {
    return this._message.method();
  }

  get url() {
    return this._message.url();
  }

  get signal() {
    return this.#signal;
  }

  get redirect() {
    return "manual";
  }

  clone() {
    if (this.bodyUsed) throw new TypeError(USED);
    const clone = Request.of(this._message.copy());
    clone.#signal = this.#signal;
    clone._content = this._teeContent();
    return clone;
  }
}

function isUnchanged(options) {
  return options.method === undefined;
}

function hrefOf(url) {
  const parsed = new URL(url);
  if (parsed.username !== "" || parsed.password !== "") {
    throw new TypeError("a URL that is fetched has no user and no password: set a header");
  }
  parsed.hash = "";
  return parsed.href;
}

function create(url) {
  return call(() => http.Request.create("GET", hrefOf(url)));
}

/** A copy of `origin`, towards `input` where that is a URL. */
function copyOf(origin, input) {
  const message = origin._message.copy();
  if (input !== origin) call(() => message.setUrl(hrefOf(input)));
  return message;
}

function methodOf(method) {
  const text = String(method).toWellFormed();
  return METHODS.test(text) ? text.toUpperCase() : text;
}

export class Response extends Message {
  #statusText = "";
  #isError = false;
  #url = null;
  /** The status, once the host's message is gone. */
  #status = null;

  constructor(body, init) {
    super();
    if (body === HELD) {
      this._message = init;
      return;
    }
    const { status = 200, statusText = "", headers } = init ?? {};
    const code = Math.trunc(Number(status));
    if (!(code >= 200 && code <= 599))
      throw new RangeError(`${status} is no status of a response: 200 to 599`);
    this._message = call(() => http.Response.create(code, entriesOf(headers), null));
    this.#statusText = String(statusText);
    this._content = null;
    if (body === null || body === undefined) return;
    if (WITHOUT_BODY.includes(code)) throw new TypeError(`a response with status ${code} has no body`);
    this._putContent(body);
  }

  /** Not for handlers: a response that the host holds, and what it answers. */
  static of(message, request) {
    const response = new Response(HELD, message);
    response.#url = request;
    return response;
  }

  /** Not for handlers: waits until the response can be sent. */
  static async ready(response) {
    if (response.#isError) throw new TypeError("the handler returned Response.error()");
    if (response.bodyUsed) {
      throw new TypeError(
        "the body of the response was used before: it can be read or sent once (see clone)",
      );
    }
    await response._content?.readyToRespond();
  }

  /** Not for handlers: whether something reads along while the response is sent. */
  static isAwaited(response) {
    return Boolean(response._content?.isAwaited);
  }

  /** Not for handlers: the host's message, to be sent. With `isShared`, the handler goes on after it. */
  static send(response, isShared) {
    if (isShared) {
      response.#status = response.status;
      Headers.keep(response.headers);
      response._looked();
    }
    return response._filled(isShared);
  }

  static json(data, init = {}) {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError("the value has no form in JSON");
    const response = new Response(text, { ...init, headers: undefined });
    const message = response._message;
    call(() => message.setHeaders([["content-type", "application/json"]]));
    for (const [name, value] of entriesOf(init.headers)) {
      call(() =>
        name === "content-type" ? message.setHeader(name, value) : message.appendHeader(name, value),
      );
    }
    return response;
  }

  static redirect(url, status = 302) {
    if (![301, 302, 303, 307, 308].includes(status))
      throw new RangeError(`${status} is no status of a redirect`);
    return new Response(null, { status, headers: { location: new URL(url).href } });
  }

  static error() {
    const response = new Response();
    response.#isError = true;
    return response;
  }

  get status() {
    if (this.#isError) return 0;
    return this.#status ?? this._message.status();
  }

  get ok() {
    return this.status >= 200 && this.status <= 299;
  }

  get statusText() {
    return this.#statusText;
  }

  get url() {
    return this.#url === null ? "" : this.#url.url;
  }

  get redirected() {
    return false;
  }

  get type() {
    return this.#isError ? "error" : "default";
  }

  clone() {
    if (this.bodyUsed) throw new TypeError(USED);
    const message = call(() => http.Response.create(this.status, Headers.list(this.headers), null));
    const clone = Response.of(message, this.#url);
    clone.#statusText = this.#statusText;
    clone._content = this._teeContent();
    return clone;
  }
}
