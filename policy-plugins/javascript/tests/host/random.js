// The host's interface `random`.

import { randomBytes } from "node:crypto";

export default { bytes: (count) => new Uint8Array(randomBytes(count)) };
