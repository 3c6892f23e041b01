// Types of sluicegate.mjs. The shapes of answers are those of docs/control.md and of /v1/openapi.json.

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** Each operation with its method and path. */
export const ROUTES: Readonly<Record<string, readonly [method: string, path: string]>>;

/** What every change answers with: the policy that is in force now. */
export interface Published {
  generation: string;
  previous: string;
  changed: boolean;
  warnings: Json[];
}

/** A question that waits for a person. `target` and `reason` hold what the workload and handlers chose. */
export interface Approval {
  id: string;
  instance: string;
  method: string;
  scheme: string;
  authority: string;
  target: string;
  reason: string;
  asked_by: string;
  request_id: string;
  waiting: number;
  asked: string;
  expires: string;
}

/** A name of `[outbound_handlers]`, alone or with what it finds in `ctx.params`. */
export type Handler = string | [name: string, params: Json];

/** The gate did not do it; nothing has changed. */
export class Refused extends Error {
  /** The HTTP status. */
  readonly status: number;
  /** Such as `sluicegate:policy-refused`. */
  readonly type: string | undefined;
  /** All that the gate said (RFC 9457). */
  readonly problem: { [name: string]: Json };
}

/** A running instance, by its control socket. */
export class Sandbox {
  /** `path` is the socket's file. */
  constructor(path: string);
  readonly path: string;

  /** The instance of this name, which this user has started. */
  static named(name: string): Sandbox;

  /**
   * Seals a namespace, such as `/run/netns/NAME` or `pid:N`, with a new instance. Resolves once nothing leaves
   * the namespace any more but by the gate. The instance ends with `close`; then nothing leaves at all.
   */
  static attach(
    target: string,
    name: string,
    options?: { policy?: string; program?: string; flags?: string[] },
  ): Promise<Sandbox>;

  /** Ends the instance, if it was started here. */
  close(): Promise<void>;

  status(): Promise<{ [name: string]: Json }>;
  /** The certificate that the workload is to trust, PEM. */
  ca(): Promise<string>;
  openapi(): Promise<{ [name: string]: Json }>;
  /** What happens from now on, as it happens, without end. */
  events(): Promise<AsyncGenerator<{ event: string; [name: string]: Json }, void>>;

  policy(): Promise<{ [name: string]: Json }>;
  /** `scripts` has the texts of handlers by path, `components` the SHA-256 of theirs, which `putComponent` gives. */
  setPolicy(
    document: string,
    options: { file: string; scripts?: Record<string, string>; components?: Record<string, string> },
  ): Promise<Published>;
  /** Sends a component for the next policy, and returns its SHA-256. The gate keeps it ten minutes. */
  putComponent(content: Uint8Array): Promise<string>;
  resetPolicy(): Promise<Published>;
  /** Judges a request that is not made. */
  test(method: string, url: string, more?: { [name: string]: Json }): Promise<{ [name: string]: Json }>;
  handlers(): Promise<{ [name: string]: Json }>;

  setOutboundHandler(name: string, params?: Json): Promise<Published>;
  removeOutboundHandler(): Promise<Published>;
  setOutboundByHost(host: string, name: string, params?: Json): Promise<Published>;
  /** All at once; none takes all away. */
  setOutboundByHosts(handlers: Record<string, Handler>): Promise<Published>;
  removeOutboundByHost(host: string): Promise<Published>;
  setAllowedHosts(hosts: string[]): Promise<Published>;
  allowHost(host: string): Promise<Published>;
  removeAllowedHost(host: string): Promise<Published>;
  setDeniedHosts(hosts: string[]): Promise<Published>;
  denyHost(host: string): Promise<Published>;
  removeDeniedHost(host: string): Promise<Published>;
  resetOverrides(): Promise<Published>;

  /** What waits for an answer, oldest first. */
  approvals(): Promise<Approval[]>;
  answer(
    id: string,
    allow: boolean,
    options?: { rememberSeconds?: number; always?: boolean },
  ): Promise<Json | undefined>;
  remembered(): Promise<{ [name: string]: Json }>;
  forget(id: string): Promise<Json | undefined>;

  keys(name: string, prefix?: string): Promise<string[]>;
  /** The bytes of a value; undefined where there is none. */
  get(name: string, key: string): Promise<Uint8Array | undefined>;
  put(name: string, key: string, value: Uint8Array | string, options?: { ttlSeconds?: number }): Promise<void>;
  delete(name: string, key: string): Promise<void>;
}
