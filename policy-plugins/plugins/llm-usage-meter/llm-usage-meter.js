// Counts what a workload uses of language models, puts the API key on, and refuses past a budget.
//
// Usage is what the API itself states at the end of a response, read from a copy of it: the workload
// gets every byte as it comes. What a request may cost is set aside before it is sent, and made exact
// afterwards, so that requests at the same time cannot pass the budget together, and one whose end
// nobody saw stays counted. All money is in whole micro-dollars.

// What a metered request asks for, by the end of its path, and how the API states usage there.
const ENDPOINTS = {
  openai: {
    "/chat/completions": { form: "openai", statesOnRequest: true },
    "/completions": { form: "openai", statesOnRequest: true },
    "/embeddings": { form: "openai", hasNoOutput: true },
    "/responses": { form: "openai" },
  },
  anthropic: {
    "/messages": { form: "anthropic" },
  },
};

// What costs nothing. Everything else is refused: nobody here knows what it would cost.
const FREE = {
  openai: [/^GET \/models(\/[\w.:-]+)?$/, /^POST \/moderations$/],
  anthropic: [/^GET \/models(\/[\w.:-]+)?$/, /^POST \/messages\/count_tokens$/],
};

// Without `apis` in the parameters.
const APIS = {
  "api.openai.com": { style: "openai", key: "OPENAI_API_KEY" },
  "api.anthropic.com": { style: "anthropic", key: "ANTHROPIC_API_KEY" },
};

// Of a language's usual text, one token is about this many bytes.
const BYTES_PER_TOKEN = 4;
// Where a request does not say how long its answer may be.
const OUTPUT_TOKENS = 4096;
// Beyond it, what a request says of itself is no number of tokens any more.
const TOKENS_MAX = 10_000_000;
// Of a request, of a response that is no stream, of one event: what is longer is not looked into.
const KEPT_BYTES_MAX = 4 * 1024 * 1024;
// When the operator is told that the budget comes to its end.
const WARN_PERCENT = 80;
const SECONDS_PER_DAY = 86_400;

export default {
  async outbound(request, env, ctx) {
    const { hostname, pathname, href } = new URL(request.url);
    const apis = ctx.params.apis ?? APIS;
    if (!Object.hasOwn(apis, hostname)) return deny(`llm-usage-meter knows no API at ${hostname}`);
    const api = { style: "openai", base: "/v1", ...apis[hostname] };
    if (!Object.hasOwn(ENDPOINTS, api.style)) throw new Error(`apis: no style ${api.style}`);

    // What is written in one way only is read in one way only.
    const path = href === request.url && pathname.startsWith(api.base) ? pathname.slice(api.base.length) : "";
    const headers = headersFor(request, env, api);
    if (FREE[api.style].some((known) => known.test(`${request.method} ${path}`))) {
      return fetch(new Request(request, { headers }));
    }
    const endpoints = ENDPOINTS[api.style];
    if (request.method !== "POST" || !Object.hasOwn(endpoints, path)) {
      return refuse(api, 403, `${request.method} ${pathname} cannot be metered, and is not allowed`);
    }
    const asked = await readRequest(request, endpoints[path], ctx.params.request_bytes ?? KEPT_BYTES_MAX);
    if (asked.problem) return refuse(api, 400, asked.problem);
    const price = priceOf(asked.model, ctx.params.prices);
    if (!price) return refuse(api, 403, `there is no price for the model ${JSON.stringify(asked.model)}`);

    const ledger = new Ledger(env, ctx);
    const most = { ...asked.tokens, cost: costOf(asked.tokens, price) };
    const full = await ledger.reserve(most.cost);
    if (full) return overBudget(api, full, most.cost);
    return send(new Request(request, { headers, body: asked.body }), { ...asked, most, price, ledger }, ctx);
  },
};

async function send(request, metered, ctx) {
  let response;
  try {
    response = await fetch(request);
  } catch (error) {
    // There is no response: nothing was used that anybody could state.
    await metered.ledger.settle(metered.most.cost, NOTHING);
    throw error;
  }
  if (!response.ok || response.body === null) {
    await metered.ledger.settle(metered.most.cost, NOTHING);
    return response;
  }
  const [forWorkload, forMeter] = response.body.tee();
  ctx.waitUntil(count(forMeter, response.headers, metered));
  return new Response(forWorkload, response);
}

// The headers to send: the gate's key in place of whatever the workload brought, and no compression,
// which the meter could not read.
function headersFor(request, env, api) {
  const headers = new Headers(request.headers);
  headers.delete("accept-encoding");
  if (api.key === undefined) return headers;
  const key = env[api.key];
  if (key === undefined)
    throw new Error(`there is no secret ${api.key}: declare it, or name another under apis`);
  headers.delete("authorization");
  headers.delete("x-api-key");
  if (api.style === "anthropic") headers.set("x-api-key", `${key}`);
  else headers.set("authorization", `Bearer ${key}`);
  return headers;
}

// What a request asks for, as it will be sent. It is written anew from what was read, so that the API
// reads the same: with a key twice in it, two readers might see two models.
async function readRequest(request, endpoint, most) {
  const encoding = request.headers.get("content-encoding") ?? "identity";
  if (encoding !== "identity") return { problem: "a compressed request cannot be metered" };
  const bytes = request.body === null ? new Uint8Array(0) : await bytesOf(request.body, most);
  if (bytes === undefined) return { problem: `the request is longer than ${most} bytes` };
  const asked = json(new TextDecoder().decode(bytes));
  if (asked === undefined) return { problem: "the request is not JSON" };
  if (asked === null || typeof asked !== "object" || typeof asked.model !== "string") {
    return { problem: "the request names no model" };
  }
  if (asked.background) return { problem: "background responses cannot be metered: leave `background` out" };
  if (asked.stream && endpoint.statesOnRequest) {
    asked.stream_options = { ...asked.stream_options, include_usage: true };
  }
  const input = Math.ceil(bytes.length / BYTES_PER_TOKEN);
  const tokens = { ...NO_TOKENS, input, output: mostOutput(asked, endpoint) };
  return { model: asked.model, body: JSON.stringify(asked), endpoint, tokens };
}

// How many tokens the answer may have, as far as the request says.
function mostOutput(asked, endpoint) {
  if (endpoint.hasNoOutput) return 0;
  const stated = [asked.max_tokens, asked.max_completion_tokens, asked.max_output_tokens].filter(isCount);
  const each = stated.length > 0 ? Math.max(...stated) : OUTPUT_TOKENS;
  return Math.min(each * (isCount(asked.n) ? asked.n : 1), TOKENS_MAX);
}

// Counting ------------------------------------------------------------------------------------------

const NO_TOKENS = { input: 0, cached: 0, cacheWrites: 0, output: 0 };
const NOTHING = { ...NO_TOKENS, cost: 0 };

// Reads a copy of the response, and counts what it states.
async function count(body, headers, { model, endpoint, most, price, ledger }) {
  const seen = { tokens: { ...NO_TOKENS }, stated: new Set(), text: 0, end: "the response does not say" };
  try {
    if (headers.has("content-encoding")) throw new Error("the response is compressed");
    const isStream = /^text\/event-stream\b/i.test(headers.get("content-type") ?? "");
    await (isStream ? readEvents : readJson)(body, (value) => note(value, endpoint.form, seen));
  } catch (error) {
    seen.end = error.message;
    await body.cancel().catch(() => {});
  }
  const isStated = seen.stated.has("input") && (seen.stated.has("output") || endpoint.hasNoOutput);
  const used = isStated ? seen.tokens : estimate(seen, most);
  // Where nothing was stated, what was set aside stays counted.
  const cost = isStated ? costOf(used, price) : Math.max(costOf(used, price), most.cost);
  const spent = await ledger.settle(most.cost, { ...used, cost });
  const { input, cached, cacheWrites, output } = used;
  const facts = { model, input, cached, cache_writes: cacheWrites, output, micro_dollars: cost, spent };
  if (isStated) console.info("language model used", facts);
  else console.warn("language model used, counted by an estimate", { ...facts, why: seen.end });
}

function estimate({ tokens, text }, most) {
  const output = Math.max(tokens.output, most.output, Math.ceil(text / BYTES_PER_TOKEN));
  return { ...tokens, input: Math.max(tokens.input, most.input), output };
}

// Takes what one event, or the whole response, says of usage and of text.
function note(value, form, seen) {
  if (value === null || typeof value !== "object") return;
  seen.text += lengthOfText(value.delta) + lengthOfText(value.choices);
  const usage = value.usage ?? value.response?.usage ?? value.message?.usage;
  if (usage === null || typeof usage !== "object") return;
  const of = form === "anthropic" ? anthropicTokens : openaiTokens;
  for (const [kind, tokens] of Object.entries(of(usage))) {
    if (!isCount(tokens)) continue;
    seen.tokens[kind] = tokens;
    // Anthropic states the input as a stream begins, and the output as it ends.
    if (kind === "input" || value.type !== "message_start") seen.stated.add(kind);
  }
}

// `prompt_tokens` and `completion_tokens`, or `input_tokens` and `output_tokens`; those read from a
// cache are among the input.
function openaiTokens(usage) {
  const all = usage.prompt_tokens ?? usage.input_tokens;
  const details = usage.prompt_tokens_details ?? usage.input_tokens_details;
  const cached = isCount(details?.cached_tokens) ? Math.min(details.cached_tokens, all) : 0;
  return { input: all - cached, cached, output: usage.completion_tokens ?? usage.output_tokens };
}

// Those read from a cache and written to it are beside the input.
function anthropicTokens(usage) {
  return {
    input: usage.input_tokens,
    cached: usage.cache_read_input_tokens,
    cacheWrites: usage.cache_creation_input_tokens,
    output: usage.output_tokens,
  };
}

// The characters of all texts within a value.
function lengthOfText(value) {
  if (typeof value === "string") return value.length;
  if (value === null || typeof value !== "object") return 0;
  return Object.values(value).reduce((sum, part) => sum + lengthOfText(part), 0);
}

// Hands on the data of each server-sent event as JSON; what is none, such as `[DONE]`, is left out.
async function readEvents(body, take) {
  let rest = new Uint8Array(0);
  for await (const chunk of body) {
    const end = chunk.lastIndexOf(0x0a) + 1;
    if (rest.length + chunk.length > KEPT_BYTES_MAX) throw new Error("an event is too long");
    if (end === 0) {
      rest = joined([rest, chunk]);
      continue;
    }
    // Up to the last line end, no character is cut.
    const text = new TextDecoder().decode(joined([rest, chunk.subarray(0, end)]));
    rest = chunk.slice(end);
    for (const line of text.split("\n")) {
      if (line.startsWith("data:")) {
        const value = json(line.slice(5));
        if (value !== undefined) take(value);
      }
    }
  }
}

async function readJson(body, take) {
  const bytes = await bytesOf(body, KEPT_BYTES_MAX);
  if (bytes === undefined) throw new Error("the response is too long");
  take(JSON.parse(new TextDecoder().decode(bytes)));
}

// All bytes of a body, or none where there are more than `most`. It is read to its end all the same: a
// client that has not sent everything may not hear the answer.
async function bytesOf(body, most) {
  const chunks = [];
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length <= most) chunks.push(chunk);
    else chunks.length = 0;
  }
  return length <= most ? joined(chunks) : undefined;
}

function joined(chunks) {
  const all = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

function json(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

// Money ---------------------------------------------------------------------------------------------

// The price of a model: of its own name, or of its name without the date of its version; else of `*`. No
// other part of a name says anything of the price: `gpt-5-pro` is no `gpt-5`.
function priceOf(model, prices = {}) {
  const undated = model.replace(/-(\d{8}|\d{4}-\d{2}-\d{2})$/, "");
  const name = [model, undated, "*"].find((name) => Object.hasOwn(prices, name));
  return name === undefined ? undefined : prices[name];
}

// Micro-dollars, rounded up. A price is in dollars for a million tokens, which is micro-dollars for
// one; it is counted in millionths, so that no fraction is lost on the way.
function costOf({ input, cached, cacheWrites, output }, price) {
  const each = (dollars) => Math.round(dollars * 1e6);
  const millionths =
    input * each(price.input) +
    cached * each(price.cached ?? price.input) +
    cacheWrites * each(price.cache_writes ?? price.input) +
    output * each(price.output ?? 0);
  if (!(millionths >= 0))
    throw new Error("prices: each model has input and output, in dollars for a million tokens");
  return Math.ceil(millionths / 1e6);
}

// What was used in this day and this month, UTC, by one container or one instance.
class Ledger {
  constructor(env, ctx) {
    const { budget = {}, per = "container" } = ctx.params;
    const whose = { container: ctx.containerId, instance: ctx.instanceId }[per];
    if (whose === undefined) throw new Error('per: "container" or "instance"');
    const today = new Date().toISOString();
    const window = (name, length, days) => ({
      name,
      limit: budget[name] === undefined ? Infinity : Math.round(budget[name] * 1e6),
      prefix: `llm/${encodeURIComponent(whose)}/${today.slice(0, length)}`,
      // A day more, so that none is gone before it is over.
      expirationTtl: (days + 1) * SECONDS_PER_DAY,
    });
    this.kv = env[ctx.params.kv ?? "kv"];
    this.windows = [window("day", 10, 1), window("month", 7, 31)];
  }

  add(window, what, by) {
    return this.kv.increment(`${window.prefix}/${what}`, by, { expirationTtl: window.expirationTtl });
  }

  // Sets money aside in every window, or in none: then gives the window that has too little left.
  async reserve(cost) {
    const taken = [];
    for (const window of this.windows) {
      const spent = await this.add(window, "micro_dollars", cost);
      taken.push(window);
      if (spent > window.limit) {
        for (const other of taken) await this.add(other, "micro_dollars", -cost);
        return { ...window, spent: spent - cost };
      }
    }
    return undefined;
  }

  // Puts what was used in the place of what was set aside, and gives what is spent in each window.
  async settle(reserved, { input, cached, cacheWrites, output, cost }) {
    const spent = {};
    const counts = { input_tokens: input + cacheWrites, cached_tokens: cached, output_tokens: output };
    for (const window of this.windows) {
      spent[window.name] = await this.add(window, "micro_dollars", cost - reserved);
      for (const [what, tokens] of Object.entries(counts)) {
        if (tokens > 0) await this.add(window, what, tokens);
      }
      await this.warn(window, spent[window.name]);
    }
    return spent;
  }

  // Once for each window.
  async warn(window, spent) {
    if (spent * 100 < window.limit * WARN_PERCENT) return;
    if ((await this.add(window, "warned", 1)) > 1) return;
    console.warn(`${WARN_PERCENT} % of the budget for this ${window.name} is spent`, {
      spent,
      limit: window.limit,
    });
  }
}

// Answers -------------------------------------------------------------------------------------------

function overBudget(api, window, cost) {
  const money = (amount) => `$${(amount / 1e6).toFixed(4)}`;
  const left = Math.max(window.limit - window.spent, 0);
  const why =
    `the budget for this ${window.name} is ${money(window.limit)}, of which ${money(left)} are left, ` +
    `and this request may cost ${money(cost)}`;
  console.warn("refused: over budget", {
    window: window.name,
    spent: window.spent,
    limit: window.limit,
    cost,
  });
  return refuse(api, 429, why);
}

// An error as the API itself would write it, so that its clients show the message. They would try again
// by themselves without the header.
function refuse(api, status, why) {
  const message = `sluicegate: ${why}`;
  const [openai, anthropic] = {
    400: ["invalid_request_error", "invalid_request_error"],
    403: ["invalid_request_error", "permission_error"],
    429: ["insufficient_quota", "rate_limit_error"],
  }[status];
  if (status !== 429) console.warn(`refused: ${why}`);
  const error =
    api.style === "anthropic"
      ? { type: "error", error: { type: anthropic, message } }
      : { error: { message, type: openai, param: null, code: openai } };
  return Response.json(error, { status, headers: { "x-should-retry": "false" } });
}

function isCount(value) {
  return Number.isSafeInteger(value) && value >= 0 && value <= TOKENS_MAX;
}
