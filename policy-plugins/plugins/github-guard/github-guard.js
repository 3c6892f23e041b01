// Lets a workload use the repositories of GitHub that the policy names, and push to the branches that
// it names; puts the token on. What it cannot read for certain, it refuses.
//
// Parameters: `read` and `write` are repositories, such as "octo/site" or "octo/*"; who may write may
// read. `push` is refs, such as "refs/heads/agent/**". `api` is what else of the API may be called, such
// as "POST /repos/*/*/pulls"; `graphql = true` opens GraphQL, which no path says anything about.

const OWNER = /^[a-z0-9](?:[a-z0-9-]{0,38})$/i;
const NAME = /^(?!\.{1,2}$)[\w.-]{1,100}$/;

// The first bytes of a push that are looked at: some hundred commands, which come before the content.
const PUSH_BYTES = 65_536;
// The content of a push that is refused in git's own words; a longer one gets a bare 403.
const REFUSED_BYTES_MAX = 16 * 1024 * 1024;
// Of one push.
const REFS_LOGGED = 20;
// What a push may say of itself. What is not here, nobody has thought about.
const CAPABILITIES = new Set([
  "agent",
  "atomic",
  "delete-refs",
  "object-format",
  "ofs-delta",
  "push-options",
  "quiet",
  "report-status",
  "report-status-v2",
  "session-id",
  "side-band-64k",
]);

const HOSTS = {
  "github.com": (call) => web(call),
  "api.github.com": (call) => api(call),
  "uploads.github.com": (call) => listed(call, "an upload"),
  "codeload.github.com": (call) => reading(call, 2),
  "raw.githubusercontent.com": (call) => reading(call, 3),
};

export default {
  async outbound(request, env, ctx) {
    const url = new URL(request.url);
    if (!Object.hasOwn(HOSTS, url.hostname)) return deny(`github-guard knows no ${url.hostname}`);
    const segments = segmentsOf(url, request.url);
    if (segments === undefined) return deny("the path can be read in more than one way");
    const { read = [], write = [], push = [], api = [], graphql = false } = ctx.params;
    const policy = { read, write, push, api, graphql };
    return HOSTS[url.hostname]({ request, env, url, segments, policy });
  },
};

// The API, uploads, files ----------------------------------------------------------------------------

// Reading below /repos of a readable repository, and what `api` lists.
function api(call) {
  const { request, segments, policy } = call;
  if (segments.length === 1 && segments[0] === "graphql") {
    if (request.method === "POST" && policy.graphql === true) return pass(call, bearer);
    return deny("GraphQL is closed: it reaches whatever the token can reach");
  }
  const isRead = isReading(request) && segments[0] === "repos" && segments.length >= 3;
  if (isRead && mayRead(policy, segments[1], segments[2])) return pass(call, bearer);
  return listed(call, "this call of the API");
}

// What `api` lists, for repositories that may be written, where the path names one.
function listed(call, what) {
  const { request, segments, policy } = call;
  const wanted = policy.api.some((entry) => {
    const [, method, path] = /^([A-Z]+) \/(\S+)$/.exec(entry) ?? [];
    if (path === undefined)
      throw new Error(`api: write "METHOD /path" in the place of ${JSON.stringify(entry)}`);
    return method === request.method && globMatches(path.split("/"), segments);
  });
  if (!wanted) return deny(`${what} is not allowed: ${request.method} /${segments.join("/")}`);
  if (segments[0] === "repos") {
    const [, owner, name] = segments;
    const allowed = isReading(request) ? mayRead(policy, owner, name) : mayWrite(policy, owner, name);
    if (!allowed) return deny(`${owner}/${name} is not a repository that may be changed`);
  }
  return pass(call, bearer);
}

// Archives and files, by a path that begins with the repository and goes on.
function reading(call, least) {
  const { request, segments, policy } = call;
  const [owner, name, ...rest] = segments;
  if (!isReading(request)) return deny("there is nothing to be written here");
  if (rest.length < least - 1 || !mayRead(policy, owner, name)) {
    return deny(`${owner}/${name} is not a repository that may be read`);
  }
  return pass(call, bearer);
}

// git and the web ------------------------------------------------------------------------------------

// git over HTTP, and downloads of archives and releases.
function web(call) {
  const { request, url, segments } = call;
  const [owner, repository, ...rest] = segments;
  const what = `${request.method} ${rest.join("/")}${url.search}`;
  const name = repository?.replace(/\.git$/, "");
  switch (what) {
    case "GET info/refs?service=git-upload-pack":
    case "POST git-upload-pack":
      return fetching(call, owner, name);
    case "GET info/refs?service=git-receive-pack":
      return mayWrite(call.policy, owner, name)
        ? pass(call, basic)
        : tell(`${owner}/${name} is not a repository that may be pushed to`);
    case "POST git-receive-pack":
      return pushing(call, owner, name);
  }
  if (rest[0] === "archive" || (rest[0] === "releases" && rest[1] === "download")) return reading(call, 3);
  return deny("github.com is open for git and downloads only");
}

function fetching(call, owner, name) {
  if (mayRead(call.policy, owner, name)) return pass(call, basic);
  return tell(`${owner}/${name} is not a repository that may be read`);
}

async function pushing(call, owner, name) {
  const { request, policy } = call;
  if (!mayWrite(policy, owner, name))
    return tell(`${owner}/${name} is not a repository that may be pushed to`);
  if (request.headers.has("content-encoding")) return deny("a compressed push cannot be read");
  let push;
  try {
    push = readPush(await request.peek(PUSH_BYTES));
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    return deny(`the push cannot be read: ${error.message}`);
  }
  const problems = push.commands.map((command) => [command, problemOf(command, policy)]);
  const refused = problems.filter(([, problem]) => problem !== undefined);
  const facts = (of) => ({
    repository: `${owner}/${name}`,
    refs: of.slice(0, REFS_LOGGED).map(({ ref }) => ref),
  });
  if (refused.length === 0) {
    if (push.commands.length > 0) console.info("push", facts(push.commands));
    return pass(call, basic);
  }
  console.warn(`push refused: ${refused[0][1]}`, facts(refused.map(([command]) => command)));
  if (!(await takeIn(request.body))) return deny("the push goes to a ref that is not open");
  return report(problems, push.capabilities);
}

// Reads the content of a push to its end, and forgets it: git hears no answer before it has sent
// everything. Returns whether it was short enough for that.
async function takeIn(body) {
  let length = 0;
  for await (const chunk of body) {
    length += chunk.length;
    if (length > REFUSED_BYTES_MAX) return false;
  }
  return true;
}

function problemOf({ ref, isDeletion }, policy) {
  if (isDeletion) return "refs are not deleted here";
  const allowed = policy.push.some((glob) => globMatches(glob.split("/"), ref.split("/")));
  return allowed ? undefined : `only ${policy.push.join(", ") || "nothing"} may be pushed`;
}

// A refusal that git shows to its user, instead of a bare number.
function tell(why) {
  console.warn(`refused: ${why}`);
  const headers = { "content-type": "text/plain; charset=utf-8" };
  return new Response(`sluicegate: ${why}\n`, { status: 403, headers });
}

// What a server answers to a push that it does not take (gitprotocol-pack, "Report Status"): all of it
// stays undone, and each ref is told why.
function report(problems, capabilities) {
  const lines = ["unpack ok\n"];
  for (const [{ ref }, problem] of problems)
    lines.push(`ng ${ref} ${problem ?? "another ref was refused"}\n`);
  const status = `${lines.map(packet).join("")}0000`;
  const isBanded = capabilities.has("side-band-64k");
  const wanted = capabilities.has("report-status") || capabilities.has("report-status-v2");
  const body = isBanded ? `${bands(status)}0000` : status;
  const headers = { "content-type": "application/x-git-receive-pack-result", "cache-control": "no-cache" };
  return wanted ? new Response(body, { headers }) : deny("the push goes to a ref that is not open");
}

// In ASCII, so that each character is one byte of its length.
function packet(text) {
  const line = text.replace(/[^\x01\n\x20-\x7e]/g, "?");
  return (line.length + 4).toString(16).padStart(4, "0") + line;
}

// Band 1 carries the report, in packets of 65,520 bytes at most.
function bands(status) {
  const pieces = status.match(/[^]{1,60000}/g);
  return pieces.map((piece) => packet(`\x01${piece}`)).join("");
}

// Reading a push ---------------------------------------------------------------------------------------

class Unreadable extends Error {}

// The commands of a push, which stand before what is pushed (gitprotocol-pack, "Reference Update Request
// and Packfile Transfer"). `start` is the beginning of it.
function readPush(start) {
  const commands = [];
  let capabilities = new Set();
  let at = 0;
  for (;;) {
    const { line, next } = readPacket(start, at);
    at = next;
    if (line === undefined) break;
    if (/^shallow [0-9a-f]+\n?$/.test(line) && commands.length === 0) continue;
    const [command, said, ...more] = line.split("\0");
    if (more.length > 0 || (said !== undefined) !== (commands.length === 0)) {
      throw new Unreadable("its capabilities are not at the first command");
    }
    if (said !== undefined) capabilities = readCapabilities(said);
    commands.push(readCommand(command));
  }
  // git asks whether it may push by one without anything in it.
  if (commands.length === 0 && start.length > at) throw new Unreadable("it has no command");
  if (new Set(commands.map(({ ref }) => ref)).size < commands.length)
    throw new Unreadable("it names a ref twice");
  return { commands, capabilities };
}

// One packet: four hexadecimal digits that say how long it is, themselves included; 0000 ends the list.
function readPacket(bytes, at) {
  const digits = ascii(bytes.subarray(at, at + 4));
  if (digits === "0000") return { next: at + 4 };
  if (!/^[0-9a-f]{4}$/.test(digits)) {
    const isCut = at + 4 > bytes.length;
    throw new Unreadable(
      isCut ? `its commands end nowhere in ${PUSH_BYTES} bytes` : "it is not made of packets",
    );
  }
  const next = at + Number.parseInt(digits, 16);
  if (next < at + 5) throw new Unreadable("it has a packet that no push has");
  if (next > bytes.length) throw new Unreadable(`its commands end nowhere in ${PUSH_BYTES} bytes`);
  return { line: ascii(bytes.subarray(at + 4, next)), next };
}

function readCommand(text) {
  const found = /^([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) (\S+)$/.exec(
    text.replace(/\n$/, ""),
  );
  if (!found) throw new Unreadable("it has a command that is none (a certificate, perhaps)");
  const [, from, to, ref] = found;
  if (from.length !== to.length || !isRef(ref)) throw new Unreadable("it has a command that is none");
  return { ref, isDeletion: /^0+$/.test(to) };
}

function readCapabilities(text) {
  const names = text
    .trim()
    .split(" ")
    .filter(Boolean)
    .map((capability) => capability.split("=")[0]);
  const unknown = names.find((name) => !CAPABILITIES.has(name));
  if (unknown) throw new Unreadable(`it has a capability that is not known here: ${unknown.slice(0, 40)}`);
  return new Set(names);
}

// As `git check-ref-format` has it, in ASCII.
function isRef(ref) {
  return (
    ref.startsWith("refs/") &&
    ref.length <= 1024 &&
    !/[\x00-\x20\x7f-\uffff~^:?*[\\]|\.\.|@\{|\/\/|\/$|\.$/.test(ref) &&
    !ref.split("/").some((part) => part.startsWith(".") || part.endsWith(".lock"))
  );
}

// Each byte as one character, so that what is not ASCII matches nothing.
function ascii(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

// What may be touched ------------------------------------------------------------------------------------

function mayRead(policy, owner, name) {
  return named(policy.read, owner, name) || mayWrite(policy, owner, name);
}

function mayWrite(policy, owner, name) {
  return named(policy.write, owner, name);
}

// GitHub takes letters of either case for the same.
function named(patterns, owner = "", name = "") {
  if (!OWNER.test(owner) || !NAME.test(name)) return false;
  const wanted = [owner.toLowerCase(), name.toLowerCase()];
  return patterns.some((pattern) => globMatches(pattern.toLowerCase().split("/"), wanted));
}

// `*` is one segment, or a part of one; `**` at the end is all that follows, at least one.
function globMatches(glob, segments) {
  const [first, ...rest] = glob;
  const [segment, ...others] = segments;
  if (first === undefined || segment === undefined) return first === segment;
  if (first === "**" && rest.length === 0) return true;
  const pieces = first.split("*").map((piece) => piece.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${pieces.join(".*")}$`).test(segment) && globMatches(rest, others);
}

function isReading(request) {
  return request.method === "GET" || request.method === "HEAD";
}

// The path in pieces, if there is only one way to read it. A `%2f` may stand within a name, as in that of
// a branch; what would climb out of the repository once it is decoded may not.
function segmentsOf(url, asSent) {
  if (url.href !== asSent) return undefined;
  const segments = url.pathname.slice(1).split("/");
  const isPlain = (segment) => {
    let text;
    try {
      text = decodeURIComponent(segment);
    } catch {
      return false;
    }
    return (
      !/[\\\x00-\x1f\x7f]|%[0-9a-f]{2}/i.test(text) &&
      text.split("/").every((part) => !/^\.{0,2}$/.test(part))
    );
  };
  return segments.every(isPlain) ? segments : undefined;
}

// Sending ------------------------------------------------------------------------------------------------

function bearer(token) {
  return `Bearer ${token}`;
}

function basic(token) {
  return `Basic ${btoa(`x-access-token:${token}`)}`;
}

// Sends the request with the gate's token in the place of whatever the workload brought.
function pass({ request, env }, authorization) {
  if (env.GITHUB_TOKEN === undefined) throw new Error("there is no secret GITHUB_TOKEN: declare it");
  const headers = new Headers(request.headers);
  headers.delete("x-http-method-override");
  headers.set("authorization", authorization(env.GITHUB_TOKEN));
  return fetch(new Request(request, { headers }));
}
