"""What a platform does with an instance, by the client for Python. Prints what came of each step."""

import json, subprocess, sys

namespace, program, policy, log, state, ca, _ = sys.argv[1:]
from sluicegate import ROUTES, Refused, Sandbox

told = []
def say(*what): told.append(list(what))
def line(url): return ["ip", "netns", "exec", namespace, "curl", "-sS", "--max-time", "30", "--cacert", ca, "-w", " %{http_code}", url]
def curl(url): return subprocess.run(line(url), capture_output=True, text=True).stdout
def refused(act):
    try: act()
    except Refused as error: return [error.status, error.type, str(error) != ""]

flags = ["--log", log, "--state", state]
with Sandbox.attach("/run/netns/" + namespace, "box", policy=policy, program=program, flags=flags) as sandbox:
    with open(ca, "w") as file: file.write(sandbox.ca())
    say("status", sandbox.status()["instance"], Sandbox.named("box").path == sandbox.path)
    described = {(method.upper(), path) for path, methods in sandbox.openapi()["paths"].items() for method in methods}
    say("routes", sorted(set(ROUTES.values()) ^ described))
    say("refused", curl("https://h.test/")[-3:])
    say("changed", sandbox.set_outbound_handler("one", {"a": 1})["changed"])
    say("outbound", curl("https://h.test/"))
    sandbox.set_outbound_by_host("*.test", "two")
    say("by host", curl("https://h.test/"))
    sandbox.set_outbound_by_hosts({"h.test": ("one", {"b": [2]}), "i.test": "two"})
    say("by hosts", curl("https://h.test/"), curl("https://i.test/"))
    sandbox.remove_outbound_by_host("i.test")
    say("removed", curl("https://i.test/"))
    say("judged", sandbox.test("GET", "https://h.test/")["verdict"])
    say("unknown", refused(lambda: sandbox.set_outbound_handler("onne")))
    say("broken", refused(lambda: sandbox.set_policy("version = 1\nallowed = []\n", file="/x.toml")))
    def with_component(sha256): return refused(lambda: sandbox.set_policy(
        'version = 1\noutbound = "c.wasm"\n', file="/x.toml", components={"c.wasm": sha256}))
    say("component", with_component("0" * 64), with_component(sandbox.put_component(b"\0asm")))
    sandbox.deny_host("10.0.0.0/8")
    sandbox.allow_host("h.test")
    sandbox.set_denied_hosts(["h.test"])
    say("denied", curl("https://h.test/")[-3:])
    sandbox.remove_denied_host("h.test")
    sandbox.set_allowed_hosts(["*.test"])
    sandbox.put("kv", "a/b ü?", "value", ttl_seconds=600)
    say("kv", sandbox.keys("kv"), sandbox.keys("kv", "a/"), sandbox.get("kv", "a/b ü?").decode(), sandbox.get("kv", "none"))
    sandbox.delete("kv", "a/b ü?")
    say("deleted", sandbox.keys("kv"))

    events = sandbox.events()
    asking = subprocess.Popen(line("https://ask.test/x"), stdout=subprocess.PIPE, text=True)
    say("event", next(event["reason"] for event in events if event["event"] == "approval_asked"))
    events.close()
    waiting = sandbox.approvals()
    sandbox.answer(waiting[0]["id"], True, remember_seconds=60)
    say("answered", len(waiting), asking.communicate()[0])
    remembered = sandbox.remembered()["remembered"]
    sandbox.forget(remembered[0]["id"])
    say("remembered", len(remembered), sandbox.remembered()["remembered"])
    sandbox.reset_overrides()
    say("reset", curl("https://h.test/")[-3:])
say("closed", curl("https://198.51.100.7/"))
print(json.dumps(told))
