// Tests of the guard by itself: `node --test`.

import assert from "node:assert/strict";
import test from "node:test";
import { Denied, context, handlerOf, world } from "../testing.mjs";

const handler = await handlerOf(new URL("github-guard.js", import.meta.url));
const PARAMS = {
  read: ["octo/*", "other/docs"],
  write: ["octo/site"],
  push: ["refs/heads/agent/**", "refs/tags/v*-rc"],
  api: ["POST /repos/*/*/pulls", "POST /repos/*/*/releases/*/assets", "GET /user"],
};
const OLD = "1".repeat(40);
const NEW = "2".repeat(40);
const NONE = "0".repeat(40);
const SAID = "report-status-v2 side-band-64k object-format=sha1 agent=git/2.47.3";

// What became of one request: `sent`, `told` and what, or `denied` and why.
async function run(line, { params = PARAMS, body, headers = {}, env = { GITHUB_TOKEN: "token" } } = {}) {
  const [method, url] = line.split(" ");
  const seen = world(() => new Response("upstream"));
  const bytes = typeof body === "string" ? Uint8Array.from(body, (c) => c.charCodeAt(0)) : body;
  const request = new Request(url, { method, body: bytes, headers });
  request.peek = async (limit) => (bytes ?? new Uint8Array(0)).subarray(0, limit);
  const { ctx } = context(params);
  try {
    const response = await handler.outbound(request, env, ctx);
    const [sent] = seen.requests;
    if (sent) return { what: "sent", authorization: sent.headers.get("authorization"), sent, log: seen.log };
    return { what: "told", status: response.status, text: await response.text(), response, log: seen.log };
  } catch (error) {
    if (!(error instanceof Denied)) throw error;
    return { what: "denied", why: error.message, log: seen.log };
  }
}

async function what(line, options) {
  return (await run(line, options)).what;
}

function packet(text) {
  return (text.length + 4).toString(16).padStart(4, "0") + text;
}

function commands(...lines) {
  return (
    lines.map((line, index) => packet(index === 0 ? `${line}\0 ${SAID}` : line)).join("") + "0000PACK..."
  );
}

const PUSH = "POST https://github.com/octo/site.git/git-receive-pack";

function push(body, options) {
  return run(PUSH, { ...options, body });
}

test("the API is read below the repositories that are named", async () => {
  for (const path of [
    "octo/site",
    "octo/site/contents/a%20b.md?ref=main",
    "OCTO/Anything/issues",
    "other/docs/branches/feature%2Fx",
  ]) {
    const got = await run(`GET https://api.github.com/repos/${path}`);
    assert.equal(got.authorization, "Bearer token", path);
  }
  for (const path of [
    "repos/other/site",
    "repos/octo",
    "user/repos",
    "repositories/1",
    "",
    "repos/octo/..",
    "orgs/octo/repos",
  ]) {
    assert.equal(await what(`GET https://api.github.com/${path}`), "denied", path);
  }
  assert.equal(await what("DELETE https://api.github.com/repos/octo/site"), "denied");
});

test("a path that could be read in two ways is refused", async () => {
  const paths = [
    "octo/site/%2e%2e/%2E%2e/other",
    "octo/site/..%2f..%2fother",
    "octo/site//x",
    "octo/site/%5c..",
    "octo/site/%252e%252e/x",
    "octo/site/%",
    "octo/site/%00",
    "octo%2fsite/x",
    "octo/site/",
  ];
  for (const path of paths)
    assert.equal(await what(`GET https://api.github.com/repos/${path}`), "denied", path);
});

test("the API is written where it is listed, in repositories that may be written", async () => {
  assert.equal(await what("POST https://api.github.com/repos/octo/site/pulls"), "sent");
  assert.equal(await what("POST https://api.github.com/repos/octo/docs/pulls"), "denied");
  assert.equal(await what("POST https://api.github.com/repos/octo/site/pulls/1"), "denied");
  assert.equal(await what("PUT https://api.github.com/repos/octo/site/pulls"), "denied");
  assert.equal(await what("GET https://api.github.com/user"), "sent");
  assert.equal(
    await what("POST https://uploads.github.com/repos/octo/site/releases/1/assets?name=a"),
    "sent",
  );
  assert.equal(await what("POST https://uploads.github.com/repos/other/docs/releases/1/assets"), "denied");
  await assert.rejects(
    run("POST https://api.github.com/x", { params: { api: ["/x"] } }),
    /write "METHOD \/path"/,
  );
});

test("GraphQL is closed until it is opened", async () => {
  assert.equal(await what("POST https://api.github.com/graphql"), "denied");
  assert.equal(
    await what("POST https://api.github.com/graphql", { params: { api: ["POST /graphql"] } }),
    "denied",
  );
  assert.equal(await what("POST https://api.github.com/graphql", { params: { graphql: true } }), "sent");
});

test("files and archives are read", async () => {
  assert.equal(await what("GET https://codeload.github.com/octo/site/tar.gz/refs/heads/main"), "sent");
  assert.equal(await what("GET https://raw.githubusercontent.com/octo/site/main/README.md"), "sent");
  assert.equal(await what("GET https://raw.githubusercontent.com/other/site/main/README.md"), "denied");
  assert.equal(await what("POST https://codeload.github.com/octo/site/tar.gz/main"), "denied");
  assert.equal(await what("GET https://github.com/octo/site/archive/refs/heads/main.tar.gz"), "sent");
  assert.equal(await what("GET https://github.com/octo/site/settings"), "denied");
  assert.equal(await what("GET https://gist.github.com/octo/site/raw"), "denied");
});

test("git reads with the token as a password", async () => {
  const got = await run("GET https://github.com/octo/docs.git/info/refs?service=git-upload-pack");
  assert.equal(got.authorization, `Basic ${btoa("x-access-token:token")}`);
  assert.equal(await what("POST https://github.com/octo/docs/git-upload-pack"), "sent");
  assert.equal(await what("GET https://github.com/other/site.git/info/refs?service=git-upload-pack"), "told");
  assert.equal(await what("GET https://github.com/octo/docs.git/info/refs?service=git-receive-pack"), "told");
  assert.equal(await what("GET https://github.com/octo/site.git/info/refs?service=git-receive-pack"), "sent");
  for (const line of [
    "GET https://github.com/octo/docs.git/info/refs",
    "GET https://github.com/octo/docs.git/info/refs?service=git-upload-pack&x",
    "POST https://github.com/octo/site.git/git-receive-pack?x",
    "POST https://github.com/octo/site.git/info/lfs/objects/batch",
    "GET https://github.com/octo/docs.git/HEAD",
  ]) {
    assert.equal(await what(line), "denied", line);
  }
});

test("a push to open refs passes whole", async () => {
  const body = commands(`${NONE} ${NEW} refs/heads/agent/a/b`, `${OLD} ${NEW} refs/tags/v1-rc`);
  const got = await push(body);
  assert.equal(got.what, "sent");
  assert.equal(await got.sent.text(), body);
  assert.deepEqual(got.log[0].fields.refs, ["refs/heads/agent/a/b", "refs/tags/v1-rc"]);
  const shallow = packet(`shallow ${OLD}`) + commands(`${OLD} ${NEW} refs/heads/agent/a\n`);
  assert.equal((await push(shallow)).what, "sent");
  assert.equal((await push("0000")).what, "sent", "what git asks before a large push");
});

test("a push to another ref is refused as a server would", async () => {
  const got = await push(commands(`${OLD} ${NEW} refs/heads/main`, `${OLD} ${NEW} refs/heads/agent/a`));
  assert.equal(got.what, "told");
  assert.equal(got.response.headers.get("content-type"), "application/x-git-receive-pack-result");
  const lines = [
    "unpack ok\n",
    "ng refs/heads/main only refs/heads/agent/**, refs/tags/v*-rc may be pushed\n",
    "ng refs/heads/agent/a another ref was refused\n",
  ];
  assert.equal(got.text, `${packet(`\x01${lines.map(packet).join("")}0000`)}0000`);
  for (const ref of [
    "refs/heads/agent",
    "refs/heads/agents/x",
    "refs/heads/Agent/x",
    "refs/tags/v1",
    "refs/pull/1/head",
  ]) {
    assert.equal((await push(commands(`${OLD} ${NEW} ${ref}`))).what, "told", ref);
  }
  assert.match((await push(commands(`${OLD} ${NONE} refs/heads/agent/a`))).text, /refs are not deleted here/);
  assert.equal(
    await what("POST https://github.com/octo/docs.git/git-receive-pack", { body: "0000" }),
    "told",
  );
});

test("a push that cannot be read is refused", async () => {
  const fine = `${OLD} ${NEW} refs/heads/agent/a`;
  const said = `${fine}\0 ${SAID}`;
  const broken = {
    "no packets": "PACK",
    nothing: "",
    "no command": "0000PACK",
    cut: commands(fine).slice(0, 60),
    "cut length": packet(said) + "00",
    "no end": packet(said),
    delimiter: `${packet(said)}0001`,
    "empty packet": `${packet(said)}00040000`,
    "signed length": packet(said).replace(/^0/, "+"),
    "too long a length": `ffff${said}0000`,
    "no capabilities": `${packet(fine)}0000`,
    "capabilities twice": `${packet(said)}${packet(`${OLD} ${NEW} refs/heads/agent/b\0 ${SAID}`)}0000`,
    "two zero bytes": `${packet(`${said}\0x`)}0000`,
    "unknown capability": `${packet(`${fine}\0 push-cert=1`)}0000`,
    certificate: `${packet(`push-cert\0 ${SAID}`)}${packet(fine)}0000`,
    "short id": commands(`${OLD.slice(1)} ${NEW} refs/heads/agent/a`),
    "ids of two kinds": commands(`${OLD} ${"2".repeat(64)} refs/heads/agent/a`),
    "upper-case id": commands(`${OLD} ${"A".repeat(40)} refs/heads/agent/a`),
    "the same ref twice": commands(fine, `${OLD} ${NONE} refs/heads/agent/a`),
    "shallow afterwards": `${packet(said)}${packet(`shallow ${OLD}`)}0000`,
    "two spaces": commands(`${OLD}  ${NEW} refs/heads/agent/a`),
  };
  for (const ref of [
    "HEAD",
    "refs/heads/agent/../main",
    "refs/heads/agent/a b",
    "refs/heads/agent//b",
    "refs/heads/agent/.b",
    "refs/heads/agent/b.lock",
    "refs/heads/agent/b/",
    "refs/heads/agent/b.",
    "refs/heads/agent/b@{1}",
    "refs/heads/agent/é",
    "refs/heads/agent/a\tb",
    "refs/heads/agent/a^",
    `refs/heads/agent/${"a".repeat(2000)}`,
  ]) {
    broken[ref] = commands(`${OLD} ${NEW} ${ref}`);
  }
  for (const [name, body] of Object.entries(broken)) {
    const got = await push(body);
    assert.equal(got.what, "denied", name);
    assert.match(got.why, /the push cannot be read/, name);
  }
  const many = Array.from({ length: 700 }, (_, index) => `${OLD} ${NEW} refs/heads/agent/${index}`);
  assert.match((await push(commands(...many))).why, /end nowhere in 65536 bytes/);
  assert.equal((await push(commands(fine), { headers: { "content-encoding": "gzip" } })).what, "denied");
});

test("every cut of a push is refused", async () => {
  const body = commands(`${OLD} ${NEW} refs/heads/agent/a`, `${OLD} ${NEW} refs/heads/agent/b`);
  const end = body.indexOf("0000PACK") + 4;
  for (let length = 0; length < end; length += 1) {
    assert.equal((await push(body.slice(0, length))).what, "denied", `${length}`);
  }
  assert.equal((await push(body.slice(0, end))).what, "sent");
});

test("a push of many refs is refused with few words in the log", async () => {
  const many = Array.from({ length: 300 }, (_, index) => `${OLD} ${NEW} refs/heads/b${index}`);
  const got = await push(commands(...many));
  assert.equal(got.what, "told");
  assert.equal(got.log.length, 1);
  assert.equal(got.log[0].fields.refs.length, 20);
  assert.equal(got.text.match(/ng refs/g).length, 300);
});

test("a push that is too long to be taken in is refused by its status", async () => {
  const start = commands(`${OLD} ${NEW} refs/heads/main`);
  assert.equal((await push(start + "x".repeat(16 * 1024 * 1024))).what, "denied");
});

test("without a token nothing is sent, and the workload's own never is", async () => {
  await assert.rejects(
    run("GET https://api.github.com/repos/octo/site", { env: {} }),
    /no secret GITHUB_TOKEN/,
  );
  const got = await run("GET https://api.github.com/repos/octo/site", {
    headers: { authorization: "Bearer own" },
  });
  assert.equal(got.authorization, "Bearer token");
});
