// What the gate calls: the exports of the world `engine`.

import http from "sluicegate:policy/http@0.1.0";

import { logError } from "./console.js";
import { ctx, env, setClassName, takePromises } from "./context.js";
import { call, checkUndecided, describe, describeLoading, refused } from "./failures.js";
import { install } from "./globals.js";
import { entriesOf, handlerOf } from "./handlers.js";
import { end, turn as nextTurn } from "./idle.js";
import { Request, Response } from "./messages.js";

install(globalThis);

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

async function answerOf(entry, request) {
  const found = handlerOf(await load(), entry);
  if (found === undefined) throw new TypeError(`the file has no ${entry}`);
  setClassName(found.className);
  const answer = await found.handler.call(found.root, request, env, ctx);
  checkUndecided();
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
  let waiting = takePromises();
  if (waiting.length === 0 && !Response.isAwaited(response)) return Response.send(response, false);
  const message = Response.send(response, true);
  call(() => http.respond(message));
  while (waiting.length > 0) {
    for (const { status, reason } of await Promise.allSettled(waiting)) {
      if (status === "rejected") logError(`waitUntil: ${describe(reason)}`);
    }
    waiting = takePromises();
  }
  await nextTurn();
  // It counts for nothing any more, but there has to be one.
  return http.Response.create(200, [], null);
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
