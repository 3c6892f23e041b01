// A client of sluicegate's control socket: start instances, change them while they run, answer what they ask.
//
// Only node's own modules are needed. What the routes say and want is in docs/control.md; every one of them is
// in ROUTES, which a test compares with the gate's own OpenAPI document. The types are in sluicegate.d.ts.

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** Each operation with its method and path; the parts in braces are percent-encoded. */
export const ROUTES = {
  status: ["GET", "/v1/status"],
  ca: ["GET", "/v1/ca"],
  events: ["GET", "/v1/events"],
  openapi: ["GET", "/v1/openapi.json"],
  policy: ["GET", "/v1/policy"],
  setPolicy: ["PUT", "/v1/policy"],
  resetPolicy: ["DELETE", "/v1/policy"],
  putComponent: ["PUT", "/v1/components/{sha256}"],
  test: ["POST", "/v1/policy/test"],
  handlers: ["GET", "/v1/handlers"],
  setOutboundHandler: ["PUT", "/v1/outbound"],
  removeOutboundHandler: ["DELETE", "/v1/outbound"],
  setOutboundByHosts: ["PUT", "/v1/outbound-by-host"],
  setOutboundByHost: ["PUT", "/v1/outbound-by-host/{pattern}"],
  removeOutboundByHost: ["DELETE", "/v1/outbound-by-host/{pattern}"],
  setAllowedHosts: ["PUT", "/v1/allowed-hosts"],
  allowHost: ["PUT", "/v1/allowed-hosts/{pattern}"],
  removeAllowedHost: ["DELETE", "/v1/allowed-hosts/{pattern}"],
  setDeniedHosts: ["PUT", "/v1/denied-hosts"],
  denyHost: ["PUT", "/v1/denied-hosts/{pattern}"],
  removeDeniedHost: ["DELETE", "/v1/denied-hosts/{pattern}"],
  resetOverrides: ["DELETE", "/v1/overrides"],
  approvals: ["GET", "/v1/approvals"],
  answer: ["POST", "/v1/approvals/{id}"],
  remembered: ["GET", "/v1/approvals/remembered"],
  forget: ["DELETE", "/v1/approvals/remembered/{id}"],
  keys: ["GET", "/v1/bindings/{name}"],
  get: ["GET", "/v1/bindings/{name}/{key}"],
  put: ["PUT", "/v1/bindings/{name}/{key}"],
  delete: ["DELETE", "/v1/bindings/{name}/{key}"],
};

/** How long an answer may take, in milliseconds; the gate itself takes a minute at most. */
const TIMEOUT = 70_000;

/** The gate did not do it; nothing has changed. */
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.rendered ?? problem.detail ?? problem.title ?? String(status));
    this.name = "Refused";
    this.status = status;
    this.type = problem.type;
    this.problem = problem;
  }
}

export class Sandbox {
  #process;

  constructor(path, process) {
    this.path = path;
    this.#process = process;
  }

  /** The instance of this name, which this user has started. */
  static named(name) {
    return new Sandbox(socketOf(name));
  }

  /** Seals a namespace with a new instance, which ends with `close`. */
  static async attach(target, name, { policy, program = "sluicegate", flags = [] } = {}) {
    const line = ["attach", target, "--name", name, "--json", ...flags];
    if (policy !== undefined) line.push("--policy", policy);
    const process = spawn(program, line, { stdio: ["ignore", "pipe", "inherit"] });
    const ended = new Promise((_, reject) => {
      process.once("error", reject);
      process.once("exit", (code) => reject(new Error(`sluicegate attach ended with ${code}: see its message`)));
    });
    const said = new Promise((resolve) => createInterface(process.stdout).once("line", resolve));
    const { control } = JSON.parse(await Promise.race([said, ended]));
    ended.catch(() => {});
    return new Sandbox(control, process);
  }

  /** Ends the instance, if it was started here. */
  async close() {
    const process = this.#process;
    this.#process = undefined;
    if (process === undefined || process.exitCode !== null) return;
    const ended = new Promise((resolve) => process.once("exit", resolve));
    process.kill("SIGTERM");
    await ended;
  }

  // The instance

  status() {
    return this.#json("status");
  }

  async ca() {
    return String(await this.#send("ca"));
  }

  openapi() {
    return this.#json("openapi");
  }

  /** What happens from now on, as it happens, without end. */
  async events() {
    return eventsOf(await this.#open("events", { timeout: 0 }));
  }

  // The policy

  policy() {
    return this.#json("policy");
  }

  setPolicy(document, { file, scripts, components }) {
    return this.#json("setPolicy", { body: { document, file, scripts, components } });
  }

  /** Sends a component for the next policy, and returns its SHA-256. */
  async putComponent(content) {
    const body = Buffer.from(content);
    const sha256 = createHash("sha256").update(body).digest("hex");
    await this.#send("putComponent", { body }, { sha256 });
    return sha256;
  }

  resetPolicy() {
    return this.#json("resetPolicy");
  }

  test(method, url, more = {}) {
    return this.#json("test", { body: { method, url, ...more } });
  }

  handlers() {
    return this.#json("handlers");
  }

  // Changes at run time

  setOutboundHandler(name, params) {
    return this.#json("setOutboundHandler", { body: { handler: name, params } });
  }

  removeOutboundHandler() {
    return this.#json("removeOutboundHandler");
  }

  setOutboundByHost(pattern, name, params) {
    return this.#json("setOutboundByHost", { body: { handler: name, params } }, { pattern });
  }

  setOutboundByHosts(handlers) {
    const setting = (each) => (typeof each === "string" ? { handler: each } : { handler: each[0], params: each[1] });
    const body = Object.fromEntries(Object.entries(handlers).map(([host, each]) => [host, setting(each)]));
    return this.#json("setOutboundByHosts", { body });
  }

  removeOutboundByHost(pattern) {
    return this.#json("removeOutboundByHost", {}, { pattern });
  }

  setAllowedHosts(patterns) {
    return this.#json("setAllowedHosts", { body: { patterns } });
  }

  allowHost(pattern) {
    return this.#json("allowHost", {}, { pattern });
  }

  removeAllowedHost(pattern) {
    return this.#json("removeAllowedHost", {}, { pattern });
  }

  setDeniedHosts(patterns) {
    return this.#json("setDeniedHosts", { body: { patterns } });
  }

  denyHost(pattern) {
    return this.#json("denyHost", {}, { pattern });
  }

  removeDeniedHost(pattern) {
    return this.#json("removeDeniedHost", {}, { pattern });
  }

  resetOverrides() {
    return this.#json("resetOverrides");
  }

  // Asking a person

  async approvals() {
    return (await this.#json("approvals")).pending;
  }

  answer(id, allow, { rememberSeconds, always } = {}) {
    return this.#json("answer", { body: { allow, remember_seconds: rememberSeconds, always } }, { id });
  }

  remembered() {
    return this.#json("remembered");
  }

  forget(id) {
    return this.#json("forget", {}, { id });
  }

  // Key-value stores

  async keys(name, prefix) {
    return (await this.#json("keys", { query: { prefix } }, { name })).keys;
  }

  /** The bytes of a value; undefined where there is none. */
  async get(name, key) {
    try {
      return await this.#send("get", {}, { name, key });
    } catch (error) {
      if (error instanceof Refused && error.type === "sluicegate:not-found") return undefined;
      throw error;
    }
  }

  async put(name, key, value, { ttlSeconds } = {}) {
    await this.#send("put", { body: Buffer.from(value), query: { ttl_seconds: ttlSeconds } }, { name, key });
  }

  async delete(name, key) {
    await this.#send("delete", {}, { name, key });
  }

  // On the wire

  async #json(operation, options, parts) {
    const answer = await this.#send(operation, options, parts);
    return answer.length === 0 ? undefined : JSON.parse(String(answer));
  }

  async #send(operation, options, parts) {
    return bytesOf(await this.#open(operation, options, parts));
  }

  async #open(operation, { body, query = {}, timeout = TIMEOUT } = {}, parts = {}) {
    const [method, route] = ROUTES[operation];
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const path = route.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(parts[name]));
    const search = given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
    const isBytes = Buffer.isBuffer(body);
    const sent = body === undefined || isBytes ? body : Buffer.from(JSON.stringify(body));
    const headers = sent === undefined ? {} : {
      "content-type": isBytes ? "application/octet-stream" : "application/json",
      "content-length": sent.length,
    };
    const response = await new Promise((resolve, reject) => {
      const asked = request({ socketPath: this.path, method, path: path + search, headers, timeout }, resolve);
      asked.once("error", reject);
      asked.once("timeout", () => asked.destroy(new Error("the gate does not answer")));
      asked.end(sent);
    });
    if (response.statusCode < 300) return response;
    throw new Refused(response.statusCode, problemOf(String(await bytesOf(response))));
  }
}

async function* eventsOf(response) {
  try {
    for await (const line of createInterface(response)) {
      if (line.startsWith("data:")) yield JSON.parse(line.slice(5));
    }
  } finally {
    response.destroy();
  }
}

async function bytesOf(response) {
  const pieces = [];
  for await (const piece of response) pieces.push(piece);
  return Buffer.concat(pieces);
}

function problemOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return { detail: text };
  }
}

/** Where the gate made its socket: see docs/control.md. */
function socketOf(name) {
  const user = process.geteuid();
  const folders = [process.env.XDG_RUNTIME_DIR, user === 0 ? "/run" : `/run/user/${user}`];
  const sockets = folders.filter(Boolean).map((folder) => join(folder, "sluicegate", `${name}.sock`));
  sockets.push(join(tmpdir(), `sluicegate-${user}`, `${name}.sock`));
  return sockets.find((path) => existsSync(path)) ?? sockets[0];
}
