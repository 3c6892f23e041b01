// The host's interface `reveal`, which grants nothing.

import { fail } from "./http.js";

export default { reveal: () => fail("invalid", "this handler may not have the value") };
