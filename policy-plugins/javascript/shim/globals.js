// The names that every handler finds.

import { AbortController, AbortSignal } from "./abort.js";
import { console } from "./console.js";
import { crypto, randomNumber } from "./crypto.js";
import { deny } from "./failures.js";
import { ask, fetch } from "./fetch.js";
import { Headers } from "./headers.js";
import { clearInterval, clearTimeout, now, setInterval, setTimeout } from "./idle.js";
import { Request, Response } from "./messages.js";
import { ReadableStream } from "./streams.js";
import { structuredClone } from "./structured-clone.js";
import { TextDecoder, TextEncoder } from "./text.js";
import { TextDecoderStream, TextEncoderStream, TransformStream, WritableStream } from "./transforms.js";
import { URL } from "./url.js";
import { URLSearchParams } from "./url-search-params.js";

const NAMES = {
  AbortController,
  AbortSignal,
  Headers,
  ReadableStream,
  Request,
  Response,
  TextDecoder,
  TextDecoderStream,
  TextEncoder,
  TextEncoderStream,
  TransformStream,
  URL,
  URLSearchParams,
  WritableStream,
  ask,
  clearInterval,
  clearTimeout,
  console,
  crypto,
  deny,
  fetch,
  performance: { now, timeOrigin: 0 },
  setInterval,
  setTimeout,
  structuredClone,
};

export function install(target) {
  for (const [name, value] of Object.entries(NAMES)) {
    Object.defineProperty(target, name, { value, writable: true, configurable: true });
  }
  target.self = target;
  // The engine's own begins in the same state in every instance.
  target.Math.random = randomNumber;
}
