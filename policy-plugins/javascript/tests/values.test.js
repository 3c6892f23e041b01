// Chance, digests, clones, secrets.

import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { test } from "node:test";

import { crypto as ours, randomNumber } from "../shim/crypto.js";
import { Secret } from "../shim/secrets.js";
import { structuredClone as clone } from "../shim/structured-clone.js";

const bytes = (text) => new TextEncoder().encode(text);

test("digests", async () => {
  for (const text of ["", "abc", "x".repeat(1000)]) {
    const wanted = createHash("sha256").update(text).digest();
    assert.deepEqual(
      new Uint8Array(await ours.subtle.digest("SHA-256", bytes(text))),
      new Uint8Array(wanted),
    );
    assert.deepEqual(
      new Uint8Array(await ours.subtle.digest({ name: "sha-256" }, bytes(text).buffer)),
      new Uint8Array(wanted),
    );
  }
  await assert.rejects(ours.subtle.digest("SHA-1", bytes("")), { name: "NotSupportedError" });
});

test("HMAC, as of Node", async () => {
  for (const key of ["", "key", "k".repeat(64), "k".repeat(65)]) {
    const imported = await ours.subtle.importKey(
      "raw",
      bytes(key),
      { name: "HMAC", hash: "SHA-256" },
      false,
      ["sign", "verify"],
    );
    const wanted = createHmac("sha256", key).update("data").digest();
    const signature = await ours.subtle.sign("HMAC", imported, bytes("data"));
    assert.deepEqual(new Uint8Array(signature), new Uint8Array(wanted), key);
    assert.equal(await ours.subtle.verify("HMAC", imported, signature, bytes("data")), true);
    assert.equal(await ours.subtle.verify("HMAC", imported, signature, bytes("date")), false);
    assert.equal(await ours.subtle.verify("HMAC", imported, signature.slice(1), bytes("data")), false);
  }
  const onlyVerifies = await ours.subtle.importKey(
    "raw",
    bytes("k"),
    { name: "HMAC", hash: "SHA-256" },
    false,
    ["verify"],
  );
  await assert.rejects(ours.subtle.sign("HMAC", onlyVerifies, bytes("")), { name: "InvalidAccessError" });
});

test("chance", () => {
  const uuid = ours.randomUUID();
  assert.match(uuid, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.notEqual(uuid, ours.randomUUID());
  const filled = ours.getRandomValues(new Uint32Array(4));
  assert.ok(
    filled.some((value) => value > 255),
    "every byte of a number is drawn",
  );
  assert.throws(() => ours.getRandomValues(new Uint8Array(65_537)), { name: "QuotaExceededError" });
  assert.throws(() => ours.getRandomValues(new Float64Array(1)), { name: "TypeMismatchError" });
  const numbers = Array.from({ length: 1000 }, randomNumber);
  assert.ok(numbers.every((number) => number >= 0 && number < 1));
  assert.equal(new Set(numbers).size, 1000);
  const mean = numbers.reduce((sum, number) => sum + number, 0) / 1000;
  assert.ok(Math.abs(mean - 0.5) < 0.1, String(mean));
});

test("clones are as Node's", () => {
  const circle = { list: [1, "two", null, undefined, 3n] };
  circle.self = circle;
  for (const value of [
    5,
    "text",
    { a: [1, { b: new Date(0) }], c: /x/gi },
    new Map([[{ k: 1 }, new Set([1, 2])]]),
    new Uint8Array([1, 2, 3]),
    circle,
    [, 1],
  ]) {
    assert.deepEqual(clone(value), structuredClone(value));
  }
  const cloned = clone(circle);
  assert.equal(cloned.self, cloned);
  assert.notEqual(cloned, circle);
  for (const value of [() => {}, { f() {} }, Symbol("s"), new (class A {})(), Promise.resolve()]) {
    assert.throws(() => clone(value), { name: "DataCloneError" });
  }
});

test("a secret is its placeholder, wherever it is written", async () => {
  const secret = new Secret("TOKEN");
  const placeholder = "sluicegate_secret_00ff_TOKEN_";
  assert.equal(`Bearer ${secret}`, `Bearer ${placeholder}`);
  assert.equal("a" + secret, `a${placeholder}`);
  assert.equal(String(secret), placeholder);
  assert.equal(JSON.stringify({ secret }), `{"secret":"${placeholder}"}`);
  assert.deepEqual(Object.keys(secret), []);
  await assert.rejects(secret.reveal(), {
    name: "TypeError",
    message: "this handler may not have the value",
  });
  assert.ok((await secret.hmacSha256("x")) instanceof Uint8Array);
});
