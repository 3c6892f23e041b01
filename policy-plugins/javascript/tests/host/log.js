// The host's interface `log`.

export const lines = [];

export default { write: (level, message, fields) => lines.push({ level, message, fields }) };
