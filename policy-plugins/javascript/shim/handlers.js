// What a handler's file offers, and which function is meant by an entry.

/** The kinds of entries, by the part of the file that they are in. */
const TABLES = { outboundByHost: "byHost", outboundHandlers: "named" };
/** The entry of `onConnect`. */
export const CONNECT = "connect";
/** The entry of `onMessage`. */
export const MESSAGE = "message";
/** The parts that are one function, by their entry. */
const SINGLE = { outbound: "outbound", [CONNECT]: "onConnect", [MESSAGE]: "onMessage" };
const PARTS = [...Object.values(SINGLE), ...Object.keys(TABLES)];

function isFunction(value) {
  return typeof value === "function";
}

function hasParts(value) {
  const canHave = isFunction(value) || (typeof value === "object" && value !== null);
  return canHave && PARTS.some((part) => value[part] !== undefined);
}

function isClass(value) {
  return isFunction(value) && /^class\b/.test(Function.prototype.toString.call(value));
}

/**
 * Where functions are looked for: the default export, the file itself, and every export that has one of
 * the parts, such as a class with static members. Each with what it is called in errors.
 */
function* rootsOf(file) {
  const first = file.default;
  if (hasParts(first)) yield [first, "the default export"];
  else if (isFunction(first) && !isClass(first)) yield [{ outbound: first }, "the default export"];
  yield [file, "the file"];
  for (const name of Object.keys(file)) {
    const value = file[name];
    if (value !== first && !PARTS.includes(name) && hasParts(value)) yield [value, name];
  }
}

/** The function of an entry, the object to call it on, and the name of its class; undefined without one. */
export function handlerOf(file, entry) {
  const [kind] = entry.split(":", 1);
  const name = entry.slice(kind.length + 1);
  const table = Object.keys(TABLES).find((part) => TABLES[part] === kind);
  if (table === undefined && !Object.hasOwn(SINGLE, entry)) return undefined;
  for (const [root] of rootsOf(file)) {
    const handler = table === undefined ? root[SINGLE[entry]] : ownOf(root[table], name);
    if (isFunction(handler)) return { handler, root, className: isClass(root) ? root.name : "" };
  }
  return undefined;
}

function ownOf(table, name) {
  return table !== undefined && table !== null && Object.hasOwn(table, name) ? table[name] : undefined;
}

/** Every entry that the file offers, checked: each is a function, and there once. */
export function entriesOf(file) {
  const known = new Map();
  for (const [root, where] of rootsOf(file)) {
    for (const [entry, handler] of partsOf(root, where)) {
      const shown = SINGLE[entry] ?? entry;
      if (!isFunction(handler)) throw new TypeError(`${shown} of ${where} is not a function`);
      const before = known.get(entry);
      if (before === undefined) known.set(entry, { handler, where });
      else if (before.handler !== handler) {
        throw new TypeError(
          `${shown} is there twice, in ${before.where} and in ${where}: which one is meant?`,
        );
      }
    }
  }
  return [...known.keys()];
}

function partsOf(root, where) {
  const parts = [];
  for (const [entry, part] of Object.entries(SINGLE)) {
    if (root[part] !== undefined) parts.push([entry, root[part]]);
  }
  for (const [part, kind] of Object.entries(TABLES)) {
    const table = root[part] ?? {};
    if (typeof table !== "object") throw new TypeError(`${part} of ${where} is not an object of functions`);
    for (const [name, handler] of Object.entries(table)) parts.push([`${kind}:${name}`, handler]);
  }
  return parts;
}
