// The host's interface `clock`: time passes where somebody sleeps.

let elapsed = 0;

export const slept = [];

export default {
  nowMs: () => 1_700_000_000_000 + elapsed,
  elapsedNs: () => elapsed * 1e6,
  sleepMs(duration) {
    slept.push(duration);
    elapsed += duration;
  },
};
