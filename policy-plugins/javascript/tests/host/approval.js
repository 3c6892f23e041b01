// The host's interface `approval`: a person who agrees to everything.

export const asked = [];

export default { ask: (reason, seconds) => asked.push([reason, seconds]) };
