// What the gate calls: the exports of the world `engine`.

import http from "sluicegate:policy/http@0.1.0";

import { logError } from "./console.js";
import { ctx, env, hasPromises, setClassName, takePromises } from "./context.js";
import { call, checkUndecided, describe, describeLoading, refused } from "./failures.js";
import { install } from "./globals.js";
import { CONNECT, entriesOf, handlerOf, MESSAGE } from "./handlers.js";
import { fill } from "./heap.js";
import { end, turn as nextTurn } from "./idle.js";
import { Request, Response } from "./messages.js";
import { bytesOf, isBytes } from "./text.js";

install(globalThis);
fill();

/** What can become of a connection. */
const DECISIONS = ["judge", "pass"];

/** The handler's file, which the gate gives the text of. */
const load = () => import("./policy.js");

export async function entries() {
  try {
    return entriesOf(await load());
  } catch (error) {
    throw describeLoading(error);
  }
}

export async function outbound(entry, message) {
  try {
    const answer = await answerOf(entry, Request.of(message));
    return await send(answer);
  } catch (error) {
    throw failure(error);
  } finally {
    end();
  }
}

export async function onConnect(flow) {
  try {
    return await decisionOf(flow);
  } catch (error) {
    throw failure(error);
  } finally {
    end();
  }
}

export async function onMessage(message) {
  try {
    return await verdictOf(message);
  } catch (error) {
    throw failure(error);
  } finally {
    end();
  }
}

/** What the handler of an entry returns. */
async function returnedBy(entry, about) {
  const found = handlerOf(await load(), entry);
  if (found === undefined) throw new TypeError(`the file has no ${entry}`);
  setClassName(found.className);
  const returned = await found.handler.call(found.root, about, env, ctx);
  checkUndecided();
  return returned;
}

/** What becomes of a connection. Nothing goes on after it, so what is waited for comes first. */
async function decisionOf(flow) {
  const returned = await returnedBy(CONNECT, flow);
  const decision = returned === undefined ? "judge" : returned;
  if (!DECISIONS.includes(decision)) {
    throw new TypeError(`onConnect returned ${kindOf(decision)}: return "judge" or "pass", or call deny(..)`);
  }
  await settled();
  checkUndecided();
  return decision;
}

/** What becomes of a message; what is waited for comes first, as for a connection. */
async function verdictOf({ content: { tag, val }, ...about }) {
  const text = tag === "text" ? val : null;
  const bytes = tag === "binary" ? val : null;
  const returned = await returnedBy(MESSAGE, { ...about, text, bytes });
  const verdict = asVerdict(returned);
  await settled();
  checkUndecided();
  return verdict;
}

function asVerdict(returned) {
  if (returned === undefined || returned === true) return { tag: "pass" };
  if (returned === false) return { tag: "drop" };
  if (typeof returned === "string") {
    return { tag: "replace", val: { tag: "text", val: returned.toWellFormed() } };
  }
  if (isBytes(returned)) return { tag: "replace", val: { tag: "binary", val: bytesOf(returned) } };
  throw new TypeError(
    `onMessage returned ${kindOf(returned)}: return true, false, a text or bytes, or call deny(..)`,
  );
}

async function answerOf(entry, request) {
  const answer = await returnedBy(entry, request);
  if (!(answer instanceof Response)) {
    throw new TypeError(
      `${entry} returned ${kindOf(answer)} and not a Response: is a return or an await missing?`,
    );
  }
  return answer;
}

/** The host's response. Where something goes on after it, the workload is answered first. */
async function send(response) {
  await Response.ready(response);
  if (!hasPromises() && !Response.isAwaited(response)) return Response.send(response, false);
  const message = Response.send(response, true);
  call(() => http.respond(message));
  await settled();
  await nextTurn();
  // It counts for nothing any more, but there has to be one.
  return http.Response.create(200, [], null);
}

/** Waits for everything that `waitUntil` was given. */
async function settled() {
  while (hasPromises()) {
    for (const { status, reason } of await Promise.allSettled(takePromises())) {
      if (status === "rejected") logError(`waitUntil: ${describe(reason)}`);
    }
  }
}

/** What the gate is told of an error. Once a handler has refused, nothing else counts. */
function failure(error) {
  const reason = refused();
  return reason === null ? { tag: "failed", val: describe(error) } : { tag: "denied", val: reason };
}

function kindOf(value) {
  if (value === null || value === undefined) return String(value);
  return typeof value === "object"
    ? `an object (${value.constructor?.name ?? "without a class"})`
    : `a ${typeof value}`;
}

/** Never called: see the world. */
export function turn() {}
