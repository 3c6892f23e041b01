/**
 * What a handler in JavaScript finds. Put `/// <reference path="sluicegate-policy.d.ts" />` at the top of the
 * file (and `// @ts-check` for an editor that checks JavaScript), with `"lib": ["ES2023"]` and without `"DOM"`.
 *
 * A handler is one file, a module. For every request the file is loaded afresh: what it keeps in a variable
 * is gone with the request. While the host does something for a handler (a fetch, a read), the handler
 * stands still: two fetches in `Promise.all` are done one after the other, and a timer fires only when
 * nothing else is left to do.
 */

// ---- What a file offers --------------------------------------------------------------------------------

/**
 * Decides about one request. What it returns is what the workload gets; an error that it throws becomes
 * 502 for the workload and a line in the log. See {@link deny} for a refusal with a reason.
 *
 * @typeParam Params - `ctx.params`, as the document or the command that set the handler gives it
 * @typeParam Bindings - `env`
 */
type OutboundHandler<Bindings = Env, Params = any> = (
  request: Request,
  env: Bindings,
  ctx: Context<Params>,
) => Response | Promise<Response>;

/** A connection that the workload has opened, before there is a request. */
interface Flow {
  /**
   * Whom it is for, in the one normal form: the server name in its TLS, else the name that its address was
   * given out for, else the address.
   */
  readonly host: string;
  readonly port: number;
  /** Where the workload dialled, such as `198.18.0.2:443`. */
  readonly originalDestination: string;
  /** Whether it begins with TLS. */
  readonly tls: boolean;
  /** The server name in its TLS. The workload wrote it. */
  readonly sni: string | null;
  /** The protocols that its TLS offers, in the order of the workload's. */
  readonly alpn: readonly string[];
}

/** What becomes of a connection: what the document says, or it is passed on unopened where the lists admit it. */
type Decision = "judge" | "pass";

/**
 * Decides about one connection; nothing means `"judge"`. See {@link deny} for a refusal. An error refuses it too,
 * and is a line in the log.
 *
 * @typeParam Params - `ctx.params`
 * @typeParam Bindings - `env`
 */
type ConnectionHandler<Bindings = Env, Params = any> = (
  flow: Flow,
  env: Bindings,
  ctx: Context<Params>,
) => Decision | void | Promise<Decision | void>;

/** A message of a WebSocket that `outbound` let through; whole, however many frames it came in. */
interface Message {
  /** `"sent"` by the workload, or by the upstream, to be `"received"` by the workload. */
  readonly direction: "sent" | "received";
  /** Its text; null where it is binary. */
  readonly text: string | null;
  /** Its bytes; null where it is text. */
  readonly bytes: Uint8Array | null;
  /** The URL of the request that opened the WebSocket, with `https` or `http`. */
  readonly url: string;
  /** Whom that was for, in the one normal form. */
  readonly host: string;
  readonly port: number;
  /** Its path as it is written, without the query. */
  readonly path: string;
  /** The subprotocol that the two sides agreed on. */
  readonly subprotocol: string | null;
}

/** What becomes of a message: it goes on (`true`, or nothing), is left out (`false`), or this goes on instead. */
type MessageVerdict = boolean | string | BufferSource;

/**
 * Decides about one message. See {@link deny} for a refusal, which closes the WebSocket with 1008; an error closes
 * it with 1011, and is a line in the log.
 *
 * @typeParam Params - `ctx.params`
 * @typeParam Bindings - `env`
 */
type MessageHandler<Bindings = Env, Params = any> = (
  message: Message,
  env: Bindings,
  ctx: Context<Params>,
) => MessageVerdict | void | Promise<MessageVerdict | void>;

/**
 * The parts that a file can offer: as its default export, as exports of these names, or as static members
 * of an exported class. A default export that is a function is `outbound`.
 */
interface Handlers<Bindings = Env> {
  /** For every request that no other handler is bound to. */
  outbound?: OutboundHandler<Bindings>;
  /** By host: a name, `*.example.com`, an address. The most specific counts. */
  outboundByHost?: Record<string, OutboundHandler<Bindings>>;
  /** By name, bound by the document or by `sluicegate handler set NAME`. */
  outboundHandlers?: Record<string, OutboundHandler<Bindings>>;
  /** For connections, before there is a request. */
  onConnect?: ConnectionHandler<Bindings>;
  /** For the messages of each WebSocket that one of the file's other handlers lets through. */
  onMessage?: MessageHandler<Bindings>;
}

/** Who asks, and by which handler. All of it comes from the gate, and nothing from the workload. */
interface Context<Params = any> {
  /** The container, or what stands for it. */
  readonly containerId: string;
  /** The exported class that the handler is a static member of, or `""`. */
  readonly className: string;
  /** The name of the instance. */
  readonly instanceId: string;
  /** Labels that the operator gave. */
  readonly labels: Readonly<Record<string, string>>;
  /** What the document, or the command that set the handler, gave it. */
  readonly params: Params;
  /** The request's id in the log. */
  readonly requestId: string;
  /** Where the workload dialled, such as `198.18.0.2:443`. */
  readonly originalDestination: string;
  /** The server name in the workload's TLS. */
  readonly sni: string | null;
  /** The workload's TLS version, such as `TLSv1_3`. */
  readonly tls: string | null;
  /** `HTTP/1.1` or `HTTP/2`; `""` in `onConnect`. */
  readonly protocol: string;
  /** The name of the handler. */
  readonly handler: string;
  /** The first 12 hexadecimal digits of the SHA-256 of the file. */
  readonly handlerVersion: string;
  /**
   * The workload is answered as soon as the handler has returned, and the handler goes on until the promise
   * has settled. A promise that is rejected is a line in the log.
   */
  waitUntil(promise: Promise<unknown>): void;
  /** Does nothing: a handler that fails refuses. */
  passThroughOnException(): void;
}

// ---- env -----------------------------------------------------------------------------------------------

/** What the document gives to handlers. Say which names: `interface Env { TOKEN: Secret; KV: KeyValueStore }`. */
interface Env {
  readonly [name: string]: any;
}

/**
 * A secret: usable, and not readable. As a text it is a placeholder, in which the gate puts the value where
 * the request leaves: in a header, in the query, or in a body that the handler wrote, and only towards a
 * host that the secret is bound to. In the log it is `<secret NAME>`.
 *
 * @example headers.set("authorization", `Bearer ${env.TOKEN}`);
 * @example headers.set("authorization", "Basic " + btoa(`robot:${env.TOKEN}`));
 * @example fetch(url, { method: "POST", body: JSON.stringify({ key: env.TOKEN }), headers: { "content-type": "application/json" } });
 */
interface Secret {
  /** Its name. */
  readonly name: string;
  /** The placeholder. It differs for every request. */
  toString(): string;
  toJSON(): string;
  /** HMAC-SHA-256 (RFC 2104) with the secret as the key. */
  hmacSha256(data: string | BufferSource): Promise<Uint8Array>;
  /** The value itself. Throws unless the document grants `reveal` to the handler. */
  reveal(): Promise<string>;
}

/** Values by key. */
interface KeyValueStore {
  /** The value as text, or null. */
  get(key: string, type?: "text" | { type?: "text" }): Promise<string | null>;
  get<T = any>(key: string, type: "json" | { type: "json" }): Promise<T | null>;
  get(key: string, type: "arrayBuffer" | { type: "arrayBuffer" }): Promise<ArrayBuffer | null>;
  get(key: string, type: "stream" | { type: "stream" }): Promise<ReadableStream | null>;
  /** Writes a value, for `expirationTtl` seconds or for good. */
  put(
    key: string,
    value: string | BufferSource | ReadableStream,
    options?: { expirationTtl?: number },
  ): Promise<void>;
  /** Removes a value, there or not. */
  delete(key: string): Promise<void>;
  /** The keys that begin with `prefix`, in order: always all of them. */
  list(options?: { prefix?: string }): Promise<{ keys: { name: string }[]; list_complete: true }>;
  /**
   * Adds a whole number (1) to a number that begins at 0, and gives the sum; nothing comes between. With
   * `expirationTtl` it is kept for so many seconds from its first increment.
   */
  increment(key: string, by?: number, options?: { expirationTtl?: number }): Promise<number>;
}

/** What is known of an object. */
interface StoredObject {
  readonly key: string;
  /** In bytes. */
  readonly size: number;
  readonly httpMetadata: { contentType?: string };
  /** The entity tag, as in a header. */
  readonly httpEtag: string | null;
  /** The same without quotes. */
  readonly etag: string | null;
}

/** An object and its content, which stays unread until it is asked for. */
interface StoredObjectBody extends StoredObject {
  readonly body: ReadableStream;
  readonly bodyUsed: boolean;
  arrayBuffer(): Promise<ArrayBuffer>;
  bytes(): Promise<Uint8Array>;
  json<T = any>(): Promise<T>;
  text(): Promise<string>;
}

/** Objects by key: for what is large, because it streams. */
interface ObjectStore {
  get(key: string): Promise<StoredObjectBody | null>;
  head(key: string): Promise<StoredObject | null>;
  /** Writes an object; the body of a message streams into it. */
  put(
    key: string,
    value: string | BufferSource | ReadableStream,
    options?: { httpMetadata?: { contentType?: string } },
  ): Promise<void>;
  /** Removes an object, there or not. */
  delete(key: string): Promise<void>;
  list(options?: { prefix?: string }): Promise<{ objects: { key: string }[]; truncated: false }>;
}

// ---- Deciding ------------------------------------------------------------------------------------------

/**
 * Refuses the request and tells the workload why. Throws; a handler that catches it refuses all the same,
 * and sends nothing any more.
 */
declare function deny(reason: string): never;

/**
 * Holds the request until a person has agreed, 1 to 600 `seconds` (60). Without a yes the request is
 * refused, and nothing after this runs.
 */
declare function ask(reason: string, options?: { seconds?: number }): Promise<void>;

/**
 * Sends a request and waits for the head of its response. Redirects are not followed. The lists of the
 * policy and its checks of addresses apply: what they refuse ends the handler.
 *
 * `fetch(request)` passes the workload's request on as it is, and its body as it streams.
 *
 * @throws TypeError where there is no answer, or the request is not well-formed
 * @throws DOMException `TimeoutError` after the time of `signal`: {@link AbortSignal.timeout}
 */
declare function fetch(input: Request | URL | string, init?: RequestInit | Request): Promise<Response>;

// ---- Messages ------------------------------------------------------------------------------------------

type BufferSource = ArrayBuffer | ArrayBufferView;
type BodyInit = string | BufferSource | URLSearchParams | ReadableStream | Secret;
type HeadersInit =
  Headers | Record<string, string | number | Secret> | Iterable<readonly [string, string | Secret]>;

/** Names in any case; values without line breaks and nothing above U+00FF. */
declare class Headers implements Iterable<[string, string]> {
  constructor(init?: HeadersInit);
  append(name: string, value: string | number | Secret): void;
  delete(name: string): void;
  /** All values, with `, ` between them, or null. */
  get(name: string): string | null;
  getSetCookie(): string[];
  has(name: string): boolean;
  /** Headers of the connection (host, content-length and the like) of a request are the gate's: a TypeError. */
  set(name: string, value: string | number | Secret): void;
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  forEach(callback: (value: string, name: string, headers: Headers) => void, self?: any): void;
  [Symbol.iterator](): IterableIterator<[string, string]>;
}

interface Body {
  /**
   * The body, unread. Given to another message it streams, whatever its length; it can be read or given
   * away once. What is read whole counts against `body_bytes`. It is as it came: where a handler reads a
   * response, it had better delete the request's `accept-encoding` before.
   */
  readonly body: ReadableStream | null;
  readonly bodyUsed: boolean;
  arrayBuffer(): Promise<ArrayBuffer>;
  bytes(): Promise<Uint8Array>;
  json<T = any>(): Promise<T>;
  text(): Promise<string>;
  /** The first bytes of the body: `limit` of them, or all of a shorter one. It can still be read or sent. */
  peek(limit: number): Promise<Uint8Array>;
  /** Puts the first bytes of the body, 65536 at most, into the log while it streams past. */
  tapBody(limit: number): void;
}

interface RequestInit {
  /** `GET`. */
  method?: string;
  /** In place of all headers, but for those of the connection. */
  headers?: HeadersInit;
  body?: BodyInit | null;
  signal?: AbortSignal | null;
}

declare class Request implements Body {
  /**
   * Made of a request, with what `init` changes: it stays the workload's, and takes the body along. Made of
   * a URL it is the handler's own; made of a URL and a request, it is that request towards the URL.
   */
  constructor(input: Request | URL | string, init?: RequestInit | Request);
  readonly method: string;
  /** The whole URL. The path is as the workload wrote it; `new URL(request.url)` resolves dots in it. */
  readonly url: string;
  readonly headers: Headers;
  readonly signal: AbortSignal | null;
  readonly redirect: "manual";
  /** Another with the same body. Where one is sent before the other is read, the body is held in memory. */
  clone(): Request;
  readonly body: ReadableStream | null;
  readonly bodyUsed: boolean;
  arrayBuffer(): Promise<ArrayBuffer>;
  bytes(): Promise<Uint8Array>;
  json<T = any>(): Promise<T>;
  text(): Promise<string>;
  peek(limit: number): Promise<Uint8Array>;
  tapBody(limit: number): void;
}

interface ResponseInit {
  /** 200 to 599; 200 if left out. */
  status?: number;
  /** Kept for the handler; the gate sends none. */
  statusText?: string;
  headers?: HeadersInit;
}

declare class Response implements Body {
  /** `new Response(response.body, response)` has the status and the headers of another. */
  constructor(body?: BodyInit | null, init?: ResponseInit | Response);
  static json(data: any, init?: ResponseInit): Response;
  static redirect(url: string | URL, status?: 301 | 302 | 303 | 307 | 308): Response;
  /** An error: to return it is a fault of the handler. */
  static error(): Response;
  readonly status: number;
  readonly ok: boolean;
  readonly statusText: string;
  /** Unlike elsewhere, those of a fetched response can be changed. */
  readonly headers: Headers;
  readonly url: string;
  readonly redirected: false;
  readonly type: "default" | "error";
  /**
   * Another with the same body. Where this one is returned and the other is read by
   * {@link Context.waitUntil}, the body streams to both; a body that is awaited before is held in memory.
   */
  clone(): Response;
  readonly body: ReadableStream | null;
  readonly bodyUsed: boolean;
  arrayBuffer(): Promise<ArrayBuffer>;
  bytes(): Promise<Uint8Array>;
  json<T = any>(): Promise<T>;
  text(): Promise<string>;
  peek(limit: number): Promise<Uint8Array>;
  tapBody(limit: number): void;
}

// ---- URLs ----------------------------------------------------------------------------------------------

/** As in the WHATWG standard, but that hosts are ASCII: an international name is written as `xn--…`. */
declare class URL {
  constructor(url: string | URL, base?: string | URL);
  static canParse(url: string | URL, base?: string | URL): boolean;
  static parse(url: string | URL, base?: string | URL): URL | null;
  href: string;
  readonly origin: string;
  protocol: string;
  username: string;
  password: string;
  host: string;
  hostname: string;
  port: string;
  pathname: string;
  search: string;
  readonly searchParams: URLSearchParams;
  hash: string;
  toString(): string;
  toJSON(): string;
}

declare class URLSearchParams implements Iterable<[string, string]> {
  constructor(
    init?: string | Record<string, string | number | Secret> | Iterable<readonly [string, string | Secret]>,
  );
  readonly size: number;
  append(name: string, value: string | number | Secret): void;
  delete(name: string, value?: string): void;
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string, value?: string): boolean;
  set(name: string, value: string | number | Secret): void;
  sort(): void;
  toString(): string;
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  forEach(callback: (value: string, name: string, parameters: URLSearchParams) => void, self?: any): void;
  [Symbol.iterator](): IterableIterator<[string, string]>;
}

// ---- Streams -------------------------------------------------------------------------------------------

interface ReadableStreamDefaultReader<T = any> {
  readonly closed: Promise<void>;
  read(): Promise<{ done: false; value: T } | { done: true; value: undefined }>;
  cancel(reason?: any): Promise<void>;
  releaseLock(): void;
}

interface ReadableStreamController<T = any> {
  readonly desiredSize: number;
  enqueue(chunk: T): void;
  close(): void;
  error(reason?: any): void;
}

/** A body, or a stream of the handler's own, which is taken into memory where it is sent. */
declare class ReadableStream<T = Uint8Array> implements AsyncIterable<T> {
  constructor(source?: {
    start?(controller: ReadableStreamController<T>): void | Promise<void>;
    pull?(controller: ReadableStreamController<T>): void | Promise<void>;
    cancel?(reason?: any): void | Promise<void>;
  });
  static from<T>(iterable: Iterable<T> | AsyncIterable<T>): ReadableStream<T>;
  readonly locked: boolean;
  getReader(): ReadableStreamDefaultReader<T>;
  cancel(reason?: any): Promise<void>;
  /** Two with the same bytes: see {@link Response.clone}. */
  tee(): [ReadableStream<T>, ReadableStream<T>];
  pipeThrough<U>(transform: { readable: ReadableStream<U>; writable: WritableStream<T> }): ReadableStream<U>;
  pipeTo(target: WritableStream<T>): Promise<void>;
  values(): AsyncIterableIterator<T>;
  [Symbol.asyncIterator](): AsyncIterableIterator<T>;
}

interface WritableStreamDefaultWriter<T = any> {
  readonly closed: Promise<void>;
  readonly ready: Promise<void>;
  readonly desiredSize: number;
  write(chunk: T): Promise<void>;
  close(): Promise<void>;
  abort(reason?: any): Promise<void>;
  releaseLock(): void;
}

declare class WritableStream<T = any> {
  constructor(sink?: {
    start?(): void;
    write?(chunk: T): void | Promise<void>;
    close?(): void | Promise<void>;
    abort?(reason?: any): void | Promise<void>;
  });
  readonly locked: boolean;
  getWriter(): WritableStreamDefaultWriter<T>;
  abort(reason?: any): Promise<void>;
  close(): Promise<void>;
}

interface TransformStreamController<T = any> extends ReadableStreamController<T> {
  terminate(): void;
}

declare class TransformStream<I = any, O = any> {
  constructor(transformer?: {
    start?(controller: TransformStreamController<O>): void | Promise<void>;
    transform?(chunk: I, controller: TransformStreamController<O>): void | Promise<void>;
    flush?(controller: TransformStreamController<O>): void | Promise<void>;
  });
  readonly readable: ReadableStream<O>;
  readonly writable: WritableStream<I>;
}

declare class TextDecoderStream extends TransformStream<BufferSource, string> {
  constructor(label?: "utf-8", options?: { fatal?: boolean; ignoreBOM?: boolean });
}

declare class TextEncoderStream extends TransformStream<string, Uint8Array> {
  constructor();
}

// ---- Text ----------------------------------------------------------------------------------------------

declare class TextEncoder {
  readonly encoding: "utf-8";
  encode(text?: string): Uint8Array;
  encodeInto(text: string, target: Uint8Array): { read: number; written: number };
}

/** UTF-8 only. */
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  readonly encoding: "utf-8";
  readonly fatal: boolean;
  readonly ignoreBOM: boolean;
  decode(input?: BufferSource, options?: { stream?: boolean }): string;
}

/** The text of Base64. */
declare function atob(text: string): string;
/** Base64 of a text of Latin-1 characters. */
declare function btoa(text: string): string;

// ---- Time ----------------------------------------------------------------------------------------------

declare function setTimeout<A extends any[]>(
  callback: (...values: A) => void,
  delay?: number,
  ...values: A
): number;
declare function setInterval<A extends any[]>(
  callback: (...values: A) => void,
  delay?: number,
  ...values: A
): number;
declare function clearTimeout(id: number | undefined): void;
declare function clearInterval(id: number | undefined): void;
declare function queueMicrotask(callback: () => void): void;

/** Milliseconds since the handler began. */
declare const performance: { now(): number; readonly timeOrigin: number };

interface AbortEvent {
  readonly type: "abort";
  readonly target: AbortSignal;
}

declare class AbortSignal {
  private constructor();
  static abort(reason?: any): AbortSignal;
  /** Aborts after so many milliseconds. A fetch with it waits that long at most. */
  static timeout(milliseconds: number): AbortSignal;
  static any(signals: Iterable<AbortSignal>): AbortSignal;
  readonly aborted: boolean;
  readonly reason: any;
  onabort: ((event: AbortEvent) => void) | null;
  throwIfAborted(): void;
  addEventListener(type: "abort", listener: (event: AbortEvent) => void): void;
  removeEventListener(type: "abort", listener: (event: AbortEvent) => void): void;
}

/** While a fetch waits, no timer fires: with this signal it waits until the last timer is due. */
declare class AbortController {
  readonly signal: AbortSignal;
  abort(reason?: any): void;
}

declare class DOMException extends Error {
  constructor(message?: string, name?: string);
}

// ---- The rest ------------------------------------------------------------------------------------------

/**
 * The audit log: each call is a line with the request's id. A plain object after a message becomes the
 * fields of the line: `console.warn("too much", { length })`.
 */
declare const console: Record<
  "debug" | "error" | "info" | "log" | "trace" | "warn",
  (...values: any[]) => void
> & { assert(condition: any, ...values: any[]): void };

/** A copy of data: of plain objects, arrays, maps, sets, dates, bytes. */
declare function structuredClone<T>(value: T): T;

interface CryptoKey {
  readonly type: "secret";
  readonly usages: ("sign" | "verify")[];
}

type HmacParameters = { name: "HMAC"; hash: "SHA-256" | { name: "SHA-256" } };

/** Chance of the operating system's, SHA-256, and HMAC-SHA-256 with a key that the handler has. */
declare const crypto: {
  getRandomValues<T extends ArrayBufferView>(array: T): T;
  randomUUID(): string;
  readonly subtle: {
    digest(algorithm: "SHA-256" | { name: "SHA-256" }, data: BufferSource): Promise<ArrayBuffer>;
    importKey(
      format: "raw",
      key: BufferSource,
      algorithm: HmacParameters,
      extractable: boolean,
      usages: ("sign" | "verify")[],
    ): Promise<CryptoKey>;
    sign(algorithm: "HMAC" | { name: "HMAC" }, key: CryptoKey, data: BufferSource): Promise<ArrayBuffer>;
    verify(
      algorithm: "HMAC" | { name: "HMAC" },
      key: CryptoKey,
      signature: BufferSource,
      data: BufferSource,
    ): Promise<boolean>;
  };
};
