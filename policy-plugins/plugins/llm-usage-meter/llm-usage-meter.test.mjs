// Tests of the meter by itself: `node --test`.

import assert from "node:assert/strict";
import test from "node:test";
import { Denied, Kv, context, handlerOf, world } from "../testing.mjs";

const handler = await handlerOf(new URL("llm-usage-meter.js", import.meta.url));
const PRICES = {
  "gpt-5": { input: 2, cached: 0.5, output: 10 },
  claude: { input: 3, cached: 0.3, cache_writes: 3.75, output: 15 },
};
const OPENAI = "https://api.openai.com/v1/chat/completions";
const ANTHROPIC = "https://api.anthropic.com/v1/messages";

function stream(...pieces) {
  const body = new ReadableStream({
    pull(controller) {
      const piece = pieces.shift();
      if (piece === undefined) controller.close();
      else if (piece instanceof Error) setTimeout(() => controller.error(piece), 5);
      else controller.enqueue(typeof piece === "string" ? new TextEncoder().encode(piece) : piece);
    },
  });
  return new Response(body, { headers: { "content-type": "text/event-stream" } });
}

function event(value) {
  return `data: ${JSON.stringify(value)}\n\n`;
}

// One request to its end: the response, what was sent, counted and logged.
async function run(url, asked, answer, { params = {}, kv = new Kv(), init = {} } = {}) {
  const seen = world(answer);
  const env = { kv, OPENAI_API_KEY: "openai-key", ANTHROPIC_API_KEY: "anthropic-key" };
  const { ctx, done } = context({ prices: PRICES, ...params });
  const body = typeof asked === "string" ? asked : asked && JSON.stringify(asked);
  const request = new Request(url, { method: body ? "POST" : "GET", body, ...init });
  const response = await handler.outbound(request, env, ctx);
  const text = await response.text().catch((error) => error);
  await done();
  const sent = seen.requests[0] && (await seen.requests[0].text());
  return { ...seen, response, text, kv, sent };
}

// Micro-dollars, input, cached and output tokens of today.
function counted(kv) {
  const of = (what) => kv.get(what)[0] ?? 0;
  return [of("/micro_dollars"), of("/input_tokens"), of("/cached_tokens"), of("/output_tokens")];
}

const USAGE = { prompt_tokens: 100, completion_tokens: 7, prompt_tokens_details: { cached_tokens: 40 } };

test("a stream of OpenAI is asked for its usage, which is counted", async () => {
  const answer = () =>
    stream(
      event({ choices: [{ delta: { content: "hi" } }], usage: null }),
      event({ choices: [], usage: USAGE }),
      "data: [DONE]\n\n",
    );
  const { response, text, kv, sent, requests, log } = await run(
    OPENAI,
    { model: "gpt-5", stream: true },
    answer,
  );
  assert.deepEqual(JSON.parse(sent), {
    model: "gpt-5",
    stream: true,
    stream_options: { include_usage: true },
  });
  assert.equal(requests[0].headers.get("authorization"), "Bearer openai-key");
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  assert.ok(text.endsWith("data: [DONE]\n\n"));
  // 60 * 2 + 40 * 0.5 + 7 * 10
  assert.deepEqual(counted(kv), [210, 60, 40, 7]);
  assert.equal(log[0].message, "language model used");
  assert.equal(kv.get("/micro_dollars").length, 2, "of this day and this month");
});

test("every way to cut a stream into chunks is the same", async () => {
  const whole = new TextEncoder().encode(
    `: ping\r\n\r\n${event({ choices: [{ delta: { content: "für" } }] })}data: [DONE\ndata:${JSON.stringify({ usage: USAGE })}\n\n`,
  );
  for (let at = 0; at < whole.length; at += 1) {
    const { kv } = await run(OPENAI, { model: "gpt-5", stream: true }, () =>
      stream(whole.slice(0, at), whole.slice(at)),
    );
    assert.deepEqual(counted(kv), [210, 60, 40, 7], `cut at ${at}`);
  }
});

test("the other options of a stream stay", async () => {
  const options = { include_obfuscation: false, include_usage: false };
  const { sent } = await run(OPENAI, { model: "gpt-5", stream: true, stream_options: options }, () =>
    stream(""),
  );
  assert.deepEqual(JSON.parse(sent).stream_options, { include_obfuscation: false, include_usage: true });
});

test("responses state their usage in their last event", async () => {
  const usage = { input_tokens: 100, output_tokens: 7, input_tokens_details: { cached_tokens: 40 } };
  const answer = () =>
    stream(
      event({ type: "response.created", response: { usage: null } }),
      event({ type: "response.completed", response: { usage } }),
    );
  const { kv, sent } = await run(
    "https://api.openai.com/v1/responses",
    { model: "gpt-5", stream: true },
    answer,
  );
  assert.deepEqual(JSON.parse(sent), { model: "gpt-5", stream: true }, "they know no include_usage");
  assert.deepEqual(counted(kv), [210, 60, 40, 7]);
});

test("messages state their input first and their output last", async () => {
  const usage = {
    input_tokens: 10,
    cache_read_input_tokens: 100,
    cache_creation_input_tokens: 20,
    output_tokens: 1,
  };
  const answer = () =>
    stream(
      `event: message_start\n${event({ type: "message_start", message: { usage } })}`,
      `event: message_delta\n${event({ type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 9 } })}`,
    );
  const init = { headers: { "x-api-key": "own", authorization: "Bearer own", "accept-encoding": "gzip" } };
  const { kv, requests } = await run(ANTHROPIC, { model: "claude-20250929", stream: true }, answer, { init });
  assert.equal(requests[0].headers.get("x-api-key"), "anthropic-key");
  assert.equal(requests[0].headers.get("authorization"), null);
  assert.equal(requests[0].headers.get("accept-encoding"), null);
  // 10 * 3 + 100 * 0.3 + 20 * 3.75 + 9 * 15
  assert.deepEqual(counted(kv), [270, 30, 100, 9]);
});

test("plain JSON is counted, and an error costs nothing", async () => {
  const plain = await run(OPENAI, { model: "gpt-5-2025-08-07" }, () =>
    Response.json({ usage: USAGE, choices: [] }),
  );
  assert.deepEqual(counted(plain.kv), [210, 60, 40, 7]);
  const failed = await run(OPENAI, { model: "gpt-5" }, () => Response.json({ error: {} }, { status: 500 }));
  assert.deepEqual(counted(failed.kv), [0, 0, 0, 0]);
  assert.equal(failed.response.status, 500);
  const kv = new Kv();
  const gone = run(OPENAI, { model: "gpt-5" }, () => Promise.reject(new TypeError("gone")), { kv });
  await assert.rejects(gone, /gone/);
  assert.deepEqual(counted(kv), [0, 0, 0, 0]);
});

test("fractions of micro-dollars are rounded up, once", async () => {
  const params = { prices: { "*": { input: 0.15, output: 0.6 } } };
  const usage = { prompt_tokens: 3, completion_tokens: 1 };
  const { kv } = await run(OPENAI, { model: "small" }, () => Response.json({ usage }), { params });
  // 0.45 + 0.6
  assert.equal(counted(kv)[0], 2);
});

test("a stream that is cut is counted by what was asked and seen", async () => {
  const answer = () =>
    stream(event({ choices: [{ delta: { content: "x".repeat(400) } }] }), new Error("cut"));
  const cut = await run(OPENAI, { model: "gpt-5", stream: true, max_tokens: 50 }, answer);
  const [cost, input, , output] = counted(cut.kv);
  assert.equal(output, 100, "more than it was asked for");
  assert.equal(cost, input * 2 + output * 10);
  assert.equal(cut.log[0].level, "warn");
  const silent = await run(OPENAI, { model: "gpt-5", stream: true, max_tokens: 50, n: 2 }, () =>
    stream("data: [DONE]\n\n"),
  );
  assert.equal(counted(silent.kv)[3], 100);
});

test("a compressed response, and one without usage, are counted by an estimate", async () => {
  const zipped = () =>
    new Response("zip", { headers: { "content-encoding": "gzip", "content-type": "application/json" } });
  for (const answer of [
    zipped,
    () => new Response("not json"),
    () => Response.json({ usage: { prompt_tokens: -5 } }),
  ]) {
    const { kv, text } = await run(OPENAI, { model: "gpt-5", max_tokens: 50 }, answer);
    assert.ok(text.length > 0);
    assert.ok(counted(kv)[0] > 0, `${text}`);
  }
});

test("past the budget a request is refused in the API's own words, and not sent", async () => {
  const kv = new Kv();
  const params = { budget: { day: 0.0003 } };
  const asked = { model: "gpt-5", max_tokens: 10 };
  const answer = () => Response.json({ usage: USAGE });
  const first = await run(OPENAI, asked, answer, { params, kv });
  assert.equal(first.response.status, 200);
  const second = await run(OPENAI, asked, answer, { params, kv });
  assert.equal(second.response.status, 429);
  const { error } = JSON.parse(second.text);
  assert.match(
    error.message,
    /^sluicegate: the budget for this day is \$0\.0003, of which \$0\.0001 are left/,
  );
  assert.equal(error.code, "insufficient_quota");
  assert.equal(second.requests.length, 0);
  assert.deepEqual(kv.get("/micro_dollars"), [210, 210], "what was set aside is given back");
  const other = await run(ANTHROPIC, { model: "claude", max_tokens: 10 }, answer, { params, kv });
  assert.equal(JSON.parse(other.text).type, "error");
  assert.equal(JSON.parse(other.text).error.type, "rate_limit_error");
});

test("requests at the same time cannot pass the budget together", async () => {
  const kv = new Kv();
  const seen = world(() => Response.json({ usage: USAGE }));
  const env = { kv, OPENAI_API_KEY: "key" };
  const one = async () => {
    const { ctx, done } = context({ prices: PRICES, budget: { month: 0.001 } });
    const body = JSON.stringify({ model: "gpt-5", max_tokens: 20 });
    const response = await handler.outbound(new Request(OPENAI, { method: "POST", body }), env, ctx);
    await response.text();
    await done();
    return response.status;
  };
  const statuses = await Promise.all(Array.from({ length: 50 }, one));
  assert.ok(seen.requests.length >= 1 && seen.requests.length <= 4, `${seen.requests.length} were sent`);
  assert.equal(statuses.filter((status) => status === 429).length, 50 - seen.requests.length);
});

test("the operator is told once that the budget comes to its end", async () => {
  const kv = new Kv();
  const params = { budget: { day: 0.001, month: 1 } };
  const warnings = [];
  for (let request = 0; request < 4; request += 1) {
    const { log } = await run(
      OPENAI,
      { model: "gpt-5", max_tokens: 1 },
      () => Response.json({ usage: USAGE }),
      { params, kv },
    );
    warnings.push(log.filter(({ message }) => message.startsWith("80 %")).length);
  }
  assert.deepEqual(warnings, [0, 0, 0, 1]);
});

test("what cannot be metered is refused", async () => {
  const never = () => assert.fail("it was sent");
  const status = async (url, asked, init) => (await run(url, asked, never, { init })).response.status;
  assert.equal(await status(OPENAI, { model: "gpt-4" }), 403, "no price");
  for (const model of ["constructor", "gpt-5-pro", "gpt-5-", "gpt-5-2025", "-20250929", ""]) {
    assert.equal(await status(OPENAI, { model }), 403, `no price for ${model}`);
  }
  assert.equal(await status(OPENAI, { messages: [] }), 400);
  assert.equal(await status(OPENAI, "{"), 400);
  assert.equal(await status(OPENAI, "null"), 400);
  assert.equal(await status(OPENAI, { model: "gpt-5" }, { headers: { "content-encoding": "gzip" } }), 400);
  assert.equal(
    await status("https://api.openai.com/v1/responses", { model: "gpt-5", background: true }),
    400,
  );
  for (const path of [
    "/v1/images/generations",
    "/v1/threads/t/messages",
    "/v1/messages",
    "/v2/chat/completions",
    "/v1/chat/completions/",
    "/v1/chat%2Fcompletions",
    "/v1chat/completions",
  ]) {
    assert.equal(await status(`https://api.openai.com${path}`, { model: "gpt-5" }), 403, path);
  }
  assert.equal(await status("https://api.openai.com/v1/files"), 403);
  await assert.rejects(run("https://example.org/v1/chat/completions", { model: "gpt-5" }, never), Denied);
});

test("a request that is too long is read to its end, and refused", async () => {
  const asked = { model: "gpt-5", prompt: "x".repeat(2000) };
  const { response, text } = await run(OPENAI, asked, () => assert.fail("sent"), {
    params: { request_bytes: 2000 },
  });
  assert.equal(response.status, 400);
  assert.match(text, /longer than 2000 bytes/);
  const passed = await run(OPENAI, asked, () => Response.json({ usage: USAGE }), {
    params: { request_bytes: 3000 },
  });
  assert.equal(passed.response.status, 200);
});

test("the model that is judged is the one that is sent", async () => {
  const twice = '{"model":"gpt-expensive","model":"gpt-5"}';
  const { sent } = await run(OPENAI, twice, () => Response.json({ usage: USAGE }));
  assert.equal(sent, '{"model":"gpt-5"}');
});

test("lists of models pass with the key, and are not counted", async () => {
  const { response, requests, kv } = await run("https://api.openai.com/v1/models", null, () =>
    Response.json({ data: [] }),
  );
  assert.equal(response.status, 200);
  assert.equal(requests[0].headers.get("authorization"), "Bearer openai-key");
  assert.equal(kv.values.size, 0);
});

test("another API is named by the parameters", async () => {
  const apis = { "llm.test": { base: "/api/v1" } };
  const url = "https://llm.test/api/v1/chat/completions";
  const init = { headers: { authorization: "Bearer own" } };
  const { requests, kv } = await run(url, { model: "gpt-5" }, () => Response.json({ usage: USAGE }), {
    params: { apis },
    init,
  });
  assert.equal(requests[0].headers.get("authorization"), "Bearer own", "without `key` the workload's own");
  assert.equal(counted(kv)[0], 210);
});
