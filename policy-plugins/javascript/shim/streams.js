// ReadableStream (WHATWG Streams), as far as bodies need it.

import { Content } from "./content.js";

/** What a handler enqueues, as a function that gives it piece by piece. */
function sourceOf({ start, pull, cancel }) {
  const chunks = [];
  let isClosed = false;
  let failure = null;
  let wake = null;
  const change = () => {
    wake?.();
    wake = null;
  };
  const controller = {
    get desiredSize() {
      return isClosed ? 0 : 1 - chunks.length;
    },
    enqueue(chunk) {
      if (isClosed) throw new TypeError("the stream is closed");
      chunks.push(chunk);
      change();
    },
    close() {
      isClosed = true;
      change();
    },
    error(reason) {
      failure = { reason };
      change();
    },
  };
  const started = Promise.resolve(start?.(controller));
  // An error of it is told where the stream is read.
  started.catch(() => {});
  const next = async () => {
    await started;
    for (;;) {
      if (failure !== null) throw failure.reason;
      if (chunks.length > 0) return chunks.shift();
      if (isClosed) return null;
      const changed = new Promise((resolve) => (wake = resolve));
      await pull?.(controller);
      if (chunks.length === 0 && !isClosed && failure === null) await changed;
    }
  };
  const close = async (reason) => {
    isClosed = true;
    chunks.length = 0;
    await cancel?.(reason);
  };
  return { next, close };
}

class ReadableStreamDefaultReader {
  #stream;
  #read;
  #release;
  #closed = Promise.withResolvers();

  constructor(stream, read, release) {
    this.#stream = stream;
    this.#read = read;
    this.#release = release;
    this.#closed.promise.catch(() => {});
  }

  get closed() {
    return this.#closed.promise;
  }

  async read() {
    if (this.#stream === null) throw new TypeError("the reader was released");
    try {
      const value = await this.#read();
      if (value !== null) return { value, done: false };
      this.#closed.resolve();
      return { value: undefined, done: true };
    } catch (error) {
      this.#closed.reject(error);
      throw error;
    }
  }

  async cancel(reason) {
    const stream = this.#stream;
    this.releaseLock();
    await stream?.cancel(reason);
  }

  releaseLock() {
    this.#stream = null;
    this.#release();
  }
}

export class ReadableStream {
  #content;
  #close = null;
  #isLocked = false;

  constructor(source = {}) {
    const { next, close } = sourceOf(source ?? {});
    this.#content = Content.ofSource(next);
    this.#close = close;
  }

  /** Not for handlers: a stream of what a body consists of. */
  static of(content) {
    const stream = new ReadableStream({});
    stream.#content = content;
    stream.#close = () => content.cancel();
    return stream;
  }

  /** Not for handlers: what a stream that nobody reads consists of. */
  static content(stream) {
    if (stream.#isLocked) throw new TypeError("the stream is locked: somebody reads it");
    return stream.#content;
  }

  /** Not for handlers: the same for one that is given away whole. */
  static take(stream) {
    const content = ReadableStream.content(stream);
    if (content.isUsed) throw new TypeError("the stream was used before");
    stream.#isLocked = true;
    return content;
  }

  static from(iterable) {
    const iterator = (iterable[Symbol.asyncIterator] ?? iterable[Symbol.iterator]).call(iterable);
    return new ReadableStream({
      async pull(controller) {
        const { value, done } = await iterator.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    });
  }

  get locked() {
    return this.#isLocked;
  }

  getReader() {
    const content = ReadableStream.content(this);
    this.#isLocked = true;
    return new ReadableStreamDefaultReader(
      this,
      () => content.next(),
      () => (this.#isLocked = false),
    );
  }

  tee() {
    const sides = ReadableStream.content(this).tee();
    this.#isLocked = true;
    return sides.map((content) => ReadableStream.of(content));
  }

  async cancel(reason) {
    this.#isLocked = true;
    await this.#close?.(reason);
  }

  async *values() {
    const reader = this.getReader();
    let step = { done: false };
    try {
      for (step = await reader.read(); !step.done; step = await reader.read()) yield step.value;
    } finally {
      // Whoever leaves the loop early wants nothing more of it.
      if (step.done) reader.releaseLock();
      else await reader.cancel();
    }
  }

  [Symbol.asyncIterator]() {
    return this.values();
  }

  pipeThrough({ readable, writable }) {
    this.pipeTo(writable).catch(() => {});
    return readable;
  }

  async pipeTo(target) {
    const writer = target.getWriter();
    try {
      for await (const chunk of this) await writer.write(chunk);
    } catch (error) {
      await writer.abort(error);
      throw error;
    }
    await writer.close();
  }
}
