// What a platform does with an instance, by the client for node. Prints what came of each step, as scenario.py.

import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { promisify } from "node:util";

const [namespace, program, policy, log, state, ca, client] = process.argv.slice(2);
const { ROUTES, Refused, Sandbox } = await import(client);

const told = [];
const say = (...what) => told.push(what);
async function curl(url) {
  const line = ["netns", "exec", namespace, "curl", "-sS", "--max-time", "30", "--cacert", ca, "-w", " %{http_code}", url];
  try {
    return (await promisify(execFile)("ip", line)).stdout;
  } catch (error) {
    return error.stdout;
  }
}
async function refused(act) {
  try {
    await act();
  } catch (error) {
    if (error instanceof Refused) return [error.status, error.type, error.message !== ""];
    throw error;
  }
}

const flags = ["--log", log, "--state", state];
const sandbox = await Sandbox.attach(`/run/netns/${namespace}`, "box", { policy, program, flags });
writeFileSync(ca, await sandbox.ca());
say("status", (await sandbox.status()).instance, Sandbox.named("box").path === sandbox.path);
const { paths } = await sandbox.openapi();
const described = Object.entries(paths).flatMap(([path, methods]) =>
  Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`));
const known = Object.values(ROUTES).map((route) => route.join(" "));
say("routes", [...described.filter((one) => !known.includes(one)), ...known.filter((one) => !described.includes(one))]);
say("refused", (await curl("https://h.test/")).slice(-3));
say("changed", (await sandbox.setOutboundHandler("one", { a: 1 })).changed);
say("outbound", await curl("https://h.test/"));
await sandbox.setOutboundByHost("*.test", "two");
say("by host", await curl("https://h.test/"));
await sandbox.setOutboundByHosts({ "h.test": ["one", { b: [2] }], "i.test": "two" });
say("by hosts", await curl("https://h.test/"), await curl("https://i.test/"));
await sandbox.removeOutboundByHost("i.test");
say("removed", await curl("https://i.test/"));
say("judged", (await sandbox.test("GET", "https://h.test/")).verdict);
say("unknown", await refused(() => sandbox.setOutboundHandler("onne")));
say("broken", await refused(() => sandbox.setPolicy("version = 1\nallowed = []\n", { file: "/x.toml" })));
const withComponent = (sha256) => refused(() =>
  sandbox.setPolicy('version = 1\noutbound = "c.wasm"\n', { file: "/x.toml", components: { "c.wasm": sha256 } }));
const sent = await sandbox.putComponent(Buffer.from("\0asm"));
say("component", await withComponent("0".repeat(64)), await withComponent(sent));
await sandbox.denyHost("10.0.0.0/8");
await sandbox.allowHost("h.test");
await sandbox.setDeniedHosts(["h.test"]);
say("denied", (await curl("https://h.test/")).slice(-3));
await sandbox.removeDeniedHost("h.test");
await sandbox.setAllowedHosts(["*.test"]);
await sandbox.put("kv", "a/b ü?", "value", { ttlSeconds: 600 });
const none = (await sandbox.get("kv", "none")) ?? null;
say("kv", await sandbox.keys("kv"), await sandbox.keys("kv", "a/"), String(await sandbox.get("kv", "a/b ü?")), none);
await sandbox.delete("kv", "a/b ü?");
say("deleted", await sandbox.keys("kv"));

const events = await sandbox.events();
const asking = curl("https://ask.test/x");
for await (const event of events) {
  if (event.event !== "approval_asked") continue;
  say("event", event.reason);
  break;
}
const waiting = await sandbox.approvals();
await sandbox.answer(waiting[0].id, true, { rememberSeconds: 60 });
say("answered", waiting.length, await asking);
const { remembered } = await sandbox.remembered();
await sandbox.forget(remembered[0].id);
say("remembered", remembered.length, (await sandbox.remembered()).remembered);
await sandbox.resetOverrides();
say("reset", (await curl("https://h.test/")).slice(-3));
await sandbox.close();
say("closed", await curl("https://198.51.100.7/"));
console.log(JSON.stringify(told));
