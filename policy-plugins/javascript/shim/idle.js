// What happens once nothing else can: reads that had to wait, and timers.
//
// Calls of the host hold the engine up, so that whatever can run without one should run first. A "turn"
// is a wait on a future of our own: it is over when every promise that is settled has been followed.

import clock from "sluicegate:policy/clock@0.1.0";

import { describe } from "./failures.js";
import { logError } from "./console.js";

/** The longest delay of a timer, in milliseconds: what fits 31 bits, as everywhere. */
const DELAY_MAX = 0x7fff_ffff;

const { Future } = globalThis.wit;
const tasks = [];
const timers = new Map();
let lastId = 0;
let isRunning = false;
let isOver = false;

/** Lets everything that is ready run first. */
export async function turn() {
  const { readable, writable } = Future();
  const over = readable.read();
  writable.write(0);
  await over;
}

/** Runs `task` once nothing else can go on without it. */
export function whenIdle(task) {
  tasks.push(task);
  run();
}

/** The handler has ended: nothing more is started. */
export function end() {
  isOver = true;
}

/** Milliseconds since the handler began. */
export function now() {
  return clock.elapsedNs() / 1e6;
}

/** When the last of the timers that wait is due, or null without one. */
export function lastDue() {
  return timers.size === 0 ? null : Math.max(...[...timers.values()].map((timer) => timer.due));
}

/** Fires every timer that is due. */
export function fireDue() {
  for (let timer = earliest(); timer !== null && timer.due <= now(); timer = earliest()) fire(timer);
}

async function run() {
  if (isRunning) return;
  isRunning = true;
  await turn();
  while (!isOver && (tasks.length > 0 || timers.size > 0)) {
    if (tasks.length > 0) tasks.shift()();
    else waitFor(earliest());
    await turn();
  }
  isRunning = false;
}

function waitFor(timer) {
  const left = Math.ceil(timer.due - now());
  if (left > 0) clock.sleepMs(left);
  fire(timer);
}

function earliest() {
  let first = null;
  for (const timer of timers.values()) {
    if (first === null || timer.due < first.due) first = timer;
  }
  return first;
}

function fire(timer) {
  if (timer.every === null) timers.delete(timer.id);
  else timer.due = now() + timer.every;
  try {
    timer.callback(...timer.values);
  } catch (error) {
    logError(`a timer failed: ${describe(error)}`);
  }
}

function add(callback, delay, repeats, values) {
  if (typeof callback !== "function") throw new TypeError("a timer calls a function");
  const wait = Math.min(Math.max(Math.trunc(Number(delay)) || 0, 0), DELAY_MAX);
  const timer = {
    id: ++lastId,
    callback,
    values,
    due: now() + wait,
    every: repeats ? Math.max(wait, 1) : null,
  };
  timers.set(timer.id, timer);
  run();
  return timer.id;
}

export function setTimeout(callback, delay = 0, ...values) {
  return add(callback, delay, false, values);
}

export function setInterval(callback, delay = 0, ...values) {
  return add(callback, delay, true, values);
}

export function clearTimeout(id) {
  timers.delete(id);
}

export const clearInterval = clearTimeout;
