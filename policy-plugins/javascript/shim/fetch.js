// fetch and ask.

import approval from "sluicegate:policy/approval@0.1.0";
import http from "sluicegate:policy/http@0.1.0";

import { AbortSignal } from "./abort.js";
import { call, checkUndecided, timeoutError } from "./failures.js";
import { fireDue, lastDue, now } from "./idle.js";
import { Request, Response } from "./messages.js";

/** The longest wait that can be told to the host, in milliseconds. */
const TIMEOUT_MAX = 0xffff_ffff;
/** How long a request waits for a person, in seconds, where the handler does not say. */
const PATIENCE = 60;

export async function fetch(input, init) {
  checkUndecided();
  const request = input instanceof Request && init === undefined ? input : new Request(input, init);
  const { signal } = request;
  signal?.throwIfAborted();
  // Without a wait where there is nothing to wait for: an error then tells where the handler was.
  const waiting = Request.waiting(request);
  if (waiting !== null) await waiting;
  const message = Request.send(request);
  try {
    return Response.of(
      call(() => http.fetch(message, timeoutOf(signal))),
      request,
    );
  } catch (error) {
    throw aborted(signal, error);
  }
}

/**
 * How long to wait. The engine waits with the request, so that no timer can abort it: where a signal does
 * not say when it aborts, what is left until the last timer is due counts.
 */
function timeoutOf(signal) {
  if (signal === null) return null;
  const due = AbortSignal.due(signal) ?? lastDue();
  return due === null ? null : Math.min(Math.max(Math.ceil(due - now()), 1), TIMEOUT_MAX);
}

function aborted(signal, error) {
  if (signal === null || error.name !== "TimeoutError") return error;
  fireDue();
  return signal.aborted ? signal.reason : timeoutError();
}

/** Waits until a person has agreed. Without a yes the host refuses the request, and this does not return. */
export async function ask(reason, { seconds = PATIENCE } = {}) {
  checkUndecided();
  const patience = Math.trunc(Number(seconds));
  if (!(patience >= 1 && patience <= 600))
    throw new RangeError("a request can wait 1 to 600 seconds for a person");
  call(() => approval.ask(String(reason ?? "").toWellFormed(), patience));
}
