// Text is encoded and decoded as Node does.

import assert from "node:assert/strict";
import { test } from "node:test";

import { TextDecoder as OurDecoder, TextEncoder as OurEncoder } from "../shim/text.js";

const SAMPLES = ["", "plain", "ü漢\u{1f600}e\u0301", "\ufeffmark", "a\ud800b", "\udfff", "\0"].map((text) =>
  new TextEncoder().encode(text),
);

const MALFORMED = [
  [0xff],
  [0xc3],
  [0xe4, 0xb8],
  [0xf0, 0x9f, 0x98],
  [0xf0, 0x9f, 0x41],
  [0xed, 0xa0, 0x80],
  [0xc0, 0x80],
  [0xf5, 0x80, 0x80, 0x80],
  [0x80, 0x80],
  [0xef, 0xbb, 0xbf, 0x41],
  [0xe4, 0xb8, 0xe4, 0xb8, 0xad],
].map((bytes) => new Uint8Array(bytes));

function outcome(decoder, bytes) {
  try {
    return decoder.decode(bytes);
  } catch (error) {
    return error.name;
  }
}

test("decoding at once", () => {
  for (const bytes of [...SAMPLES, ...MALFORMED]) {
    for (const options of [{}, { fatal: true }, { ignoreBOM: true }]) {
      const [ours, theirs] = [new OurDecoder("utf-8", options), new TextDecoder("utf-8", options)];
      assert.equal(outcome(ours, bytes), outcome(theirs, bytes), JSON.stringify([[...bytes], options]));
      // A second time, as from the beginning.
      assert.equal(outcome(ours, bytes), outcome(theirs, bytes));
    }
  }
});

test("decoding in pieces, cut everywhere", () => {
  for (const bytes of [...SAMPLES, ...MALFORMED]) {
    for (let first = 0; first <= bytes.length; first++) {
      for (let second = first; second <= bytes.length; second++) {
        const parts = [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)];
        const decoded = (decoder) =>
          parts.map((part) => decoder.decode(part, { stream: true })).join("") + decoder.decode();
        assert.equal(
          decoded(new OurDecoder()),
          decoded(new TextDecoder()),
          JSON.stringify([[...bytes], first, second]),
        );
      }
    }
  }
});

test("encoding", () => {
  for (const text of ["", "ü漢\u{1f600}", "\ud800x", 5, undefined]) {
    assert.deepEqual(new OurEncoder().encode(text), new TextEncoder().encode(text));
  }
  for (const length of [0, 1, 2, 3, 4, 9]) {
    const [ours, theirs] = [new Uint8Array(length), new Uint8Array(length)];
    assert.deepEqual(
      new OurEncoder().encodeInto("aü漢\u{1f600}", ours),
      new TextEncoder().encodeInto("aü漢\u{1f600}", theirs),
    );
    assert.deepEqual(ours, theirs);
  }
});

test("labels", () => {
  for (const label of ["utf-8", "UTF8", " utf-8 ", "unicode-1-1-utf-8"]) {
    assert.equal(new OurDecoder(label).encoding, new TextDecoder(label).encoding);
  }
  assert.throws(() => new OurDecoder("latin1"), RangeError);
});
