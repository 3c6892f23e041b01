// The host's interface `http`, over bytes in memory.

/** What was sent, and what is answered. */
export const world = { sent: [], responded: [], calls: 0, answer: () => new Response(200, [], null) };

export function reset() {
  world.sent = [];
  world.responded = [];
  world.calls = 0;
  world.answer = () => new Response(200, [["content-type", "text/plain"]], new Body(utf8("upstream")));
}

export function utf8(text) {
  return new Uint8Array(Buffer.from(text));
}

/** Fails as the runtime does where the host returns an error. */
export function fail(tag, val) {
  throw Object.assign(new Error(`[object Object] (see error.payload)`), { payload: { tag, val } });
}

/** The names of headers that the host writes itself. */
const OF_THE_HOP = ["host", "content-length", "connection", "transfer-encoding"];

export class Body {
  #chunks;
  #isBegun = false;
  copies = 0;

  constructor(content) {
    this.#chunks = [content];
  }

  static chunked(chunks) {
    const body = new Body(utf8(""));
    body.#chunks = chunks.map(utf8);
    return body;
  }

  #whole() {
    if (this.#isBegun) fail("invalid", "this body was begun chunk by chunk");
    return new Uint8Array(this.#chunks.flatMap((chunk) => [...chunk]));
  }

  read(limit) {
    world.calls++;
    const bytes = this.#whole();
    if (bytes.length > Math.min(limit, 1024)) fail("invalid", "the body is longer than 1024 bytes");
    return bytes;
  }

  peek(limit) {
    world.calls++;
    return this.#whole().slice(0, limit);
  }

  nextChunk() {
    this.#isBegun = true;
    return this.#chunks.shift() ?? null;
  }

  tee() {
    this.copies++;
    const copy = new Body(utf8(""));
    copy.#chunks = [...this.#chunks];
    this.copy = copy;
    return copy;
  }

  [Symbol.dispose]() {
    this.isDropped = true;
  }

  text() {
    return Buffer.from(this.#whole()).toString();
  }
}

class Message {
  list = [];
  content = null;

  headers() {
    world.calls++;
    return this.list.map((entry) => [...entry]);
  }

  header(name) {
    world.calls++;
    return this.list.filter((entry) => entry[0] === name).map((entry) => entry[1]);
  }

  setHeaders(list) {
    world.calls++;
    const kept = this.list.filter(([name]) => OF_THE_HOP.includes(name));
    this.list = [...kept, ...list.filter(([name]) => !OF_THE_HOP.includes(name))];
  }

  setHeader(name, value) {
    world.calls++;
    if (OF_THE_HOP.includes(name)) fail("invalid", `header ${name} cannot be written`);
    this.list = [...this.list.filter((entry) => entry[0] !== name), [name, value]];
  }

  appendHeader(name, value) {
    world.calls++;
    this.list.push([name, value]);
  }

  deleteHeader(name) {
    world.calls++;
    this.list = this.list.filter((entry) => entry[0] !== name);
  }

  hasBody() {
    world.calls++;
    return this.content !== null;
  }

  takeBody() {
    world.calls++;
    const content = this.content;
    this.content = null;
    return content;
  }

  setBody(body) {
    world.calls++;
    this.content = body;
  }

  tapBody(limit) {
    this.tapped = limit;
  }
}

export class Request extends Message {
  isWorkloads = false;

  static create(method, url) {
    world.calls++;
    if (!/^https?:/.test(url)) fail("invalid", "the scheme of a URL is https or http");
    const request = new Request();
    request.verb = method;
    request.target = url;
    return request;
  }

  static ofWorkload(method, url, list, body) {
    const request = new Request();
    Object.assign(request, { verb: method, target: url, list, content: body, isWorkloads: true });
    return request;
  }

  copy() {
    world.calls++;
    const copy = new Request();
    Object.assign(copy, { verb: this.verb, target: this.target, isWorkloads: this.isWorkloads });
    copy.list = this.list.map((entry) => [...entry]);
    return copy;
  }

  method() {
    world.calls++;
    return this.verb;
  }

  setMethod(method) {
    world.calls++;
    this.verb = method;
  }

  url() {
    world.calls++;
    return this.target;
  }

  setUrl(url) {
    world.calls++;
    this.target = url;
  }
}

export class Response extends Message {
  constructor(status, list, body) {
    super();
    Object.assign(this, { code: status, list, content: body });
  }

  static create(status, list, body) {
    world.calls++;
    return new Response(status, list, body);
  }

  status() {
    world.calls++;
    return this.code;
  }
}

function fetch(request, timeout) {
  world.calls++;
  world.sent.push({
    method: request.verb,
    url: request.target,
    headers: Object.fromEntries(request.list),
    body: request.content?.text() ?? null,
    isWorkloads: request.isWorkloads,
    timeout,
  });
  return world.answer(request, timeout);
}

function respond(response) {
  world.responded.push(response);
}

export default { Body, Request, Response, fetch, respond };
