// The host's interface `digest`.

import { createHash } from "node:crypto";

export default { sha256: (bytes) => new Uint8Array(createHash("sha256").update(bytes).digest()) };
