// WritableStream and TransformStream (WHATWG Streams), as far as a body is piped through them.

import { ReadableStream } from "./streams.js";
import { encode, TextDecoder } from "./text.js";

class WritableStreamDefaultWriter {
  #sink;
  #release;
  /** The end of what was written so far: one thing is written after the other. */
  #last = Promise.resolve();
  #closed = Promise.withResolvers();

  constructor(sink, release) {
    this.#sink = sink;
    this.#release = release;
    this.#closed.promise.catch(() => {});
  }

  get ready() {
    return this.#last.catch(() => {});
  }

  get closed() {
    return this.#closed.promise;
  }

  get desiredSize() {
    return 1;
  }

  write(chunk) {
    return this.#next(() => this.#sink.write?.(chunk));
  }

  async close() {
    await this.#next(() => this.#sink.close?.());
    this.#closed.resolve();
  }

  async abort(reason) {
    this.#closed.reject(reason);
    await this.#sink.abort?.(reason);
  }

  releaseLock() {
    this.#release();
  }

  #next(step) {
    this.#last = this.#last.then(step);
    // What went wrong is told by every write after it, and need not be looked at more than once.
    this.#last.catch(() => {});
    return this.#last;
  }
}

export class WritableStream {
  #sink;
  #isLocked = false;

  constructor(sink = {}) {
    this.#sink = sink;
    sink.start?.({ error: () => {} });
  }

  get locked() {
    return this.#isLocked;
  }

  getWriter() {
    if (this.#isLocked) throw new TypeError("the stream is locked: somebody writes to it");
    this.#isLocked = true;
    return new WritableStreamDefaultWriter(this.#sink, () => (this.#isLocked = false));
  }

  async abort(reason) {
    await this.#sink.abort?.(reason);
  }

  async close() {
    await this.#sink.close?.();
  }
}

export class TransformStream {
  readable;
  writable;

  constructor({ start, transform, flush } = {}) {
    let controller;
    this.readable = new ReadableStream({ start: (made) => void (controller = made) });
    controller.terminate = () => controller.close();
    const started = start?.(controller);
    this.writable = new WritableStream({
      async write(chunk) {
        await started;
        if (transform === undefined) controller.enqueue(chunk);
        else await failing(controller, () => transform(chunk, controller));
      },
      async close() {
        await failing(controller, () => flush?.(controller));
        controller.close();
      },
      abort: (reason) => controller.error(reason),
    });
  }
}

/** What goes wrong is told on both sides. */
async function failing(controller, step) {
  try {
    await step();
  } catch (error) {
    controller.error(error);
    throw error;
  }
}

export class TextDecoderStream extends TransformStream {
  constructor(label, options) {
    const decoder = new TextDecoder(label, options);
    const push = (text, controller) => text !== "" && controller.enqueue(text);
    super({
      transform: (chunk, controller) => void push(decoder.decode(chunk, { stream: true }), controller),
      flush: (controller) => void push(decoder.decode(), controller),
    });
  }
}

export class TextEncoderStream extends TransformStream {
  constructor() {
    super({ transform: (chunk, controller) => controller.enqueue(encode(chunk)) });
  }
}
