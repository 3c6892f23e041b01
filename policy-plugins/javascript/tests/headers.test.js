// Headers do as Node's do, alone and over a message of the host's.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Headers as Ours } from "../shim/headers.js";
import { Request } from "./host/http.js";

const STEPS = [
  (headers) => headers.append("Accept", " text/html \t"),
  (headers) => headers.append("accept", "text/plain"),
  (headers) => headers.set("X-Number", 5),
  (headers) => headers.append("Set-Cookie", "a=1, b"),
  (headers) => headers.append("set-cookie", "c=2"),
  (headers) => headers.set("x-empty", ""),
  (headers) => headers.append("x-empty", ""),
  (headers) => headers.append("a-first", "\u00e9"),
  (headers) => headers.set("ACCEPT", "one"),
  (headers) => headers.delete("X-Number"),
  (headers) => headers.delete("not-there"),
  (headers) => headers.set("set-cookie", "d=3"),
];

const NAMES = ["accept", "Accept", "x-number", "set-cookie", "x-empty", "a-first", "absent"];

function snapshot(headers) {
  return {
    entries: [...headers],
    keys: [...headers.keys()],
    values: [...headers.values()],
    cookies: headers.getSetCookie(),
    got: NAMES.map((name) => [headers.get(name), headers.has(name)]),
  };
}

for (const [what, make] of [
  ["alone", () => new Ours()],
  ["over a message", () => Ours.of(Request.create("GET", "https://a.test/"))],
]) {
  test(`headers ${what}: every step leaves the same`, () => {
    const [ours, theirs] = [make(), new Headers()];
    for (const [index, step] of STEPS.entries()) {
      step(ours);
      step(theirs);
      assert.deepEqual(snapshot(ours), snapshot(theirs), `step ${index}`);
    }
  });
}

test("what headers are made of", () => {
  for (const init of [
    { b: "1", A: 2 },
    [
      ["x", "1"],
      ["X", "2"],
    ],
    new Map([["y", "z"]]),
    undefined,
  ]) {
    assert.deepEqual([...new Ours(init)], [...new Headers(init)]);
  }
  assert.deepEqual([...new Ours(new Ours({ a: "1" }))], [["a", "1"]]);
  const copy = new Ours(
    new Ours([
      ["set-cookie", "a"],
      ["set-cookie", "b"],
    ]),
  );
  assert.deepEqual(copy.getSetCookie(), ["a", "b"]);
});

test("what is no header is refused, as Node does", () => {
  for (const [name, value] of [
    ["", "a"],
    ["a b", "c"],
    ["ü", "c"],
    ["a:", "c"],
    ["a", "b\nc"],
    ["a", "b\0"],
    ["a", "漢"],
  ]) {
    assert.throws(() => new Headers().set(name, value), TypeError);
    assert.throws(() => new Ours().set(name, value), TypeError, JSON.stringify([name, value]));
    assert.throws(() => new Ours([[name, value]]), TypeError);
  }
  for (const init of [[["a"]], [["a", "b", "c"]], 5, "a: b"]) {
    assert.throws(() => new Headers(init), TypeError);
    assert.throws(() => new Ours(init), TypeError, JSON.stringify(init));
  }
});

test("what the host refuses is a TypeError that says why", () => {
  const headers = Ours.of(Request.create("GET", "https://a.test/"));
  assert.throws(() => headers.set("host", "b.test"), {
    name: "TypeError",
    message: "header host cannot be written",
  });
});

test("headers that are kept no longer need their message", () => {
  const request = Request.create("GET", "https://a.test/");
  const headers = Ours.of(request);
  headers.set("a", "1");
  Ours.keep(headers);
  request.setHeader("a", "2");
  headers.append("a", "3");
  assert.equal(headers.get("a"), "1, 3");
  assert.deepEqual(request.list, [["a", "2"]]);
  assert.equal(JSON.stringify(headers), '{"a":"1, 3"}');
});
