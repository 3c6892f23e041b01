// The host's interface `text`.

// The engine puts its own in the place of the global ones.
import { TextDecoder, TextEncoder } from "node:util";

export default {
  decode(bytes, fatal) {
    try {
      return new TextDecoder("utf-8", { fatal, ignoreBOM: true }).decode(bytes);
    } catch {
      return null;
    }
  },
  encode: (text) => new TextEncoder().encode(text),
};
