// What is free in the heap once the shim is loaded, taken while the engine is made.
//
// Loading leaves small free places between what stays, all over the heap. A request that is given those
// writes to a page here and there, and the gate puts pages back after a request by as many pieces as they
// lie in, some thirty at most: beyond them it takes all anew. Without those places, what a request takes
// lies together.

/** Up to which length in bytes free places are looked for, and how far the lengths are apart. */
const LENGTH_MAX = 128;
const STEP = 8;
/** How many are taken of each length. What is too many lies together. */
const OF_EACH = 16;

const kept = [];

/** Takes them, for good. */
export function fill() {
  for (let length = 0; length < LENGTH_MAX; length += STEP) {
    for (let count = 0; count < OF_EACH; count++) kept.push("\0".repeat(length));
  }
}
