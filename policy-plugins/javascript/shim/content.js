// What a body consists of, wherever it is: held by the host unread, in memory, made by a stream of the
// handler's, or shared by two. Bytes of the host's move only where they are read.

import http from "sluicegate:policy/http@0.1.0";

import { call } from "./failures.js";
import { whenIdle } from "./idle.js";
import { bytesOf, encode, join } from "./text.js";

/** As many bytes as the host gives. */
const ALL = 0xffff_ffff;

const USED = "the body was used before: it can be read or sent once (see clone)";

export class Content {
  /**
   * `bytes`; `attached` in a message of the host's; `held` as a body of the host's; `source`, a function
   * that gives the next piece; `shared` by a pair; or `failed`.
   */
  #state;
  #isUsed = false;

  constructor(state) {
    this.#state = state;
  }

  static ofBytes(bytes) {
    return new Content({ kind: "bytes", bytes });
  }

  /** The body of a message of the host's, which stays there until it is wanted. */
  static ofMessage(message) {
    return new Content({ kind: "attached", message });
  }

  /** A body of the host's. */
  static ofBody(body) {
    return new Content({ kind: "held", body });
  }

  /** What the function `next` gives: a piece again and again, null at the end. */
  static ofSource(next) {
    return new Content({ kind: "source", next });
  }

  /** What is left where a content was. */
  static spent() {
    const content = new Content({ kind: "failed", error: new TypeError(USED) });
    content.#isUsed = true;
    return content;
  }

  /** Whether it was read or given away, or has begun to be. */
  get isUsed() {
    return this.#isUsed;
  }

  #use() {
    if (this.#isUsed) throw new TypeError(USED);
    this.#isUsed = true;
  }

  /** All bytes. */
  async bytes() {
    this.#use();
    await this.#settle();
    return this.#read();
  }

  /** The next bytes, or null at the end. */
  async next() {
    this.#isUsed = true;
    await this.#settle();
    const state = this.#state;
    if (state.kind === "source") return state.next();
    if (state.kind === "bytes") {
      this.#state = { kind: "bytes", bytes: new Uint8Array(0) };
      return state.bytes.length === 0 ? null : state.bytes;
    }
    return call(() => this.#held().nextChunk());
  }

  /** The first bytes, without using it up. */
  async peek(limit) {
    if (this.#isUsed) throw new TypeError(USED);
    await this.ready();
    if (this.#state.kind === "bytes") return this.#state.bytes.slice(0, limit);
    return call(() => this.#held().peek(limit));
  }

  /** Two that have the same bytes. */
  tee() {
    this.#use();
    return new Pair(this).sides;
  }

  /** Whether it can be given to the host at once. */
  get isReady() {
    return this.#state.kind !== "shared" && this.#state.kind !== "source";
  }

  /** Waits until it can be given to the host at once. */
  async ready() {
    await this.#settle();
    if (this.#state.kind === "source")
      this.become({ kind: "bytes", bytes: await collected(this.#state.next) });
  }

  /** The same for what is sent to the workload, while the other of two may go on being read. */
  async readyToRespond() {
    if (this.#state.kind === "shared") await this.#state.pair.readyToRespond();
    else await this.ready();
  }

  /** Whether the other of two is waiting for this one to be sent. */
  get isAwaited() {
    return this.#state.kind === "shared" && this.#state.pair.isAwaited;
  }

  /** Gives it to a message. With `isShared`, the other of two goes on getting the same. */
  attachTo(message, isShared = false) {
    this.#use();
    const state = this.#state;
    if (state.kind === "attached" && state.message === message) return;
    message.setBody(this.give(isShared));
  }

  /** Takes it out of the message that it is in. */
  detach() {
    if (this.#state.kind === "attached") this.#held();
  }

  /** Gives it away as a body of the host's. */
  take() {
    this.#use();
    return this.give(false);
  }

  /** Not for others than `Pair`: the same of one that was used. */
  give(isShared) {
    if (this.#state.kind === "shared") this.#state.pair.split(this, isShared);
    return this.#state.kind === "bytes" ? new http.Body(this.#state.bytes) : this.#held();
  }

  /** Not for others than `Pair`: it is this from now on. */
  become(state) {
    this.#state = state;
  }

  /** Lets go of it: nothing more of it is wanted. */
  cancel() {
    this.#isUsed = true;
    const state = this.#state;
    this.#state = { kind: "failed", error: new TypeError("the body was cancelled") };
    if (state.kind === "shared") state.pair.abandon(this);
    // In a message it stays: there nobody waits for it.
    else if (state.kind === "held") state.body[Symbol.dispose]();
  }

  async #settle() {
    if (this.#state.kind === "shared") await this.#state.pair.settle();
    if (this.#state.kind === "failed") throw this.#state.error;
  }

  async #read() {
    if (this.#state.kind === "source") return collected(this.#state.next);
    return this.wholeNow();
  }

  /** Not for others than `Pair`: all bytes of what the host has, at once. */
  wholeNow() {
    if (this.#state.kind === "bytes") return this.#state.bytes;
    return call(() => this.#held().read(ALL));
  }

  /** The body of the host's. */
  #held() {
    const state = this.#state;
    if (state.kind === "failed") throw state.error;
    if (state.kind === "attached") this.#state = { kind: "held", body: state.message.takeBody() };
    return this.#state.body;
  }
}

async function collected(next) {
  const chunks = [];
  for (let chunk = await next(); chunk !== null; chunk = await next()) {
    chunks.push(typeof chunk === "string" ? encode(chunk) : bytesOf(chunk));
  }
  return join(chunks);
}

/**
 * Two contents that share one. What the host holds can only stream to both where one of them is sent to
 * the workload, so that a read of the other waits for that. Where it does not come to it, because the
 * handler awaits the read, both get the bytes from memory.
 */
class Pair {
  #source;
  #isDecided = false;
  #waiting = [];

  constructor(source) {
    this.#source = source;
    this.sides = [new Content({ kind: "shared", pair: this }), new Content({ kind: "shared", pair: this })];
  }

  get isAwaited() {
    return this.#waiting.length > 0 || this.#source.isAwaited;
  }

  async readyToRespond() {
    await this.#source.readyToRespond();
  }

  /** Gives `side` what the host holds, and the other a copy that streams along. */
  split(side, isShared) {
    if (this.#isDecided) return;
    const other = this.sides.find((content) => content !== side);
    const body = this.#source.give(isShared);
    if (other === undefined) side.become({ kind: "held", body });
    else this.#divide(body, [side, other], isShared);
    this.#decide();
  }

  #divide(body, [side, other], isShared) {
    if (isShared) other.become({ kind: "held", body: call(() => body.tee()) });
    else other.become({ kind: "failed", error: new TypeError("the other half of this body was sent") });
    side.become({ kind: "held", body });
  }

  /** Gets on without one of them. */
  abandon(side) {
    this.sides = this.sides.filter((content) => content !== side);
    if (this.sides.length === 0 && !this.#isDecided) this.#source.cancel();
  }

  /** Waits until it is known which bytes each has. */
  async settle() {
    if (this.#isDecided) return;
    await new Promise((resolve) => {
      this.#waiting.push(resolve);
      if (this.#waiting.length === 1) whenIdle(() => this.#readWhole());
    });
  }

  async #readWhole() {
    if (this.#isDecided) return;
    let state;
    try {
      await this.#source.ready();
      state = { kind: "bytes", bytes: this.#source.wholeNow() };
    } catch (error) {
      state = { kind: "failed", error };
    }
    if (this.#isDecided) return;
    for (const side of this.sides) side.become(state);
    this.#decide();
  }

  #decide() {
    this.#isDecided = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
