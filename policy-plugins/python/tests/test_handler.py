"""What handlers write comes out as the gate understands it: `python3 -m unittest discover tests`."""

from __future__ import annotations

import base64
import importlib
import json
import os
import random
import subprocess
import sys
import time
import unittest
from pathlib import Path

import fake_gate
from fake_gate import Err, gate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import sluicegate_policy as sdk  # noqa: E402
from sluicegate_policy import _gate, _live, functions, handler  # noqa: E402

PLACEHOLDER = "sluicegate_secret_00ff_0_"


def workload(url: str = "https://scenario.test/path", body: bytes | None = None) -> fake_gate.Request:
    request = fake_gate.Request.create("GET" if body is None else "POST", url)
    request.pairs = [("accept", "a"), ("accept", "b")]
    request.set_body(None if body is None else fake_gate.Body(body))
    return request


class Case(unittest.TestCase):
    def setUp(self) -> None:
        fake_gate.reset()
        _gate._denied = None
        functions._responded = False

    def run_handler(self, outbound, request: fake_gate.Request | None = None) -> fake_gate.Response:
        made = type("Made", (), {"outbound": outbound})
        return handler.run(made, request or workload())

    def refused(self, outbound, request: fake_gate.Request | None = None):
        with self.assertRaises(Err) as raised:
            self.run_handler(outbound, request)
        return raised.exception.value


class Requests(Case):
    def test_a_request_passes_untouched(self) -> None:
        request = workload(body=b"payload")
        response = self.run_handler(lambda self, request, env, ctx: sdk.fetch(request), request)
        self.assertIs(gate.sent[0], request)
        self.assertEqual(request.own_body.content, b"payload")
        self.assertEqual((response.code, response.own_body.content), (200, fake_gate.UPSTREAM_BODY))

    def test_what_was_looked_at_is_sent_whole(self) -> None:
        def outbound(self, request, env, ctx):
            assert request.body.peek(3) == b"pay" and request.body.read() == b"payload"
            return sdk.fetch(request, timeout=1.5)

        self.run_handler(outbound, workload(body=b"payload"))
        self.assertEqual(gate.sent[0].own_body.content, b"payload")
        self.assertEqual(gate.timeouts, [1500])

    def test_a_request_without_body_can_be_sent_again_and_one_with_cannot(self) -> None:
        def outbound(self, request, env, ctx):
            sdk.fetch(request)
            return sdk.fetch(request)

        self.run_handler(outbound)
        self.assertEqual([request.address for request in gate.sent], ["https://scenario.test/path"] * 2)
        error = self.refused(outbound, workload(body=b"x"))
        self.assertIn("the body was sent already", error.value)
        self.assertEqual(len(gate.sent), 3)

    def test_a_body_that_went_elsewhere_is_not_sent(self) -> None:
        def outbound(self, request, env, ctx):
            env.objects.put("key", request.body, "text/plain")
            return sdk.fetch(request)

        self.assertIn("sent, stored or put", self.refused(outbound, workload(body=b"x")).value)
        self.assertEqual((gate.stored, gate.sent), ({"key": (b"x", "text/plain")}, []))

    def test_parts_of_the_url_change_alone(self) -> None:
        request = sdk.Request("GET", "https://a.test:8443/p/q?x=1&y=%20&x=2")
        request.host = "b.test"
        self.assertEqual(request.url, "https://b.test/p/q?x=1&y=%20&x=2")
        request.path = "/other"
        request.set_query("x", "a b&c")
        self.assertEqual(request.url, "https://b.test/other?y=%20&x=a%20b%26c")
        self.assertEqual((request.query_param("x"), request.query_param("y")), ("a b&c", " "))
        request.remove_query("x")
        request.remove_query("y")
        self.assertEqual((request.url, request.query_param("x")), ("https://b.test/other", None))

    def test_a_part_of_the_url_cannot_become_another(self) -> None:
        request = sdk.Request("GET", "https://a.test/")
        for name, value in [
            ("host", "b.test/x"),
            ("host", "user@b.test"),
            ("host", "b.test?x"),
            ("path", "x"),
            ("path", "/a?b"),
            ("path", "/a#b"),
            ("query", "a#b"),
        ]:
            with self.subTest(name=name, value=value), self.assertRaises(sdk.Invalid):
                setattr(request, name, value)
        self.assertEqual(request.url, "https://a.test/")

    def test_headers_have_all_their_values(self) -> None:
        headers = sdk.Request._of(workload()).headers
        self.assertEqual((headers["Accept"], headers.get_all("accept")), ("a, b", ["a", "b"]))
        self.assertEqual((headers.get("none"), headers.get("none", "-"), "none" in headers), (None, "-", False))
        headers["accept"] = "c"
        headers.add("x-b", "1")
        del headers["none"]
        self.assertEqual(
            (headers.items(), list(headers), len(headers)),
            ([("accept", "c"), ("x-b", "1")], ["accept", "x-b"], 2),
        )
        with self.assertRaises(KeyError):
            headers["none"]
        with self.assertRaises(TypeError):
            headers["x"] = b"bytes"  # type: ignore[assignment]


class Secrets(Case):
    def test_a_secret_is_a_placeholder_wherever_it_is_put(self) -> None:
        token = sdk.Env().TOKEN
        request = sdk.Request("POST", "https://a.test/")
        request.set_bearer(token)
        self.assertEqual(request.headers["authorization"], f"Bearer {PLACEHOLDER}")
        request.headers["x-token"] = token
        self.assertEqual(request.headers["x-token"], PLACEHOLDER)
        request.set_basic_auth("robot", token)
        encoded = request.headers["authorization"].removeprefix("Basic ")
        self.assertEqual(base64.b64decode(encoded).decode(), f"robot:{PLACEHOLDER}")
        request.set_query("key", token)
        self.assertEqual(request.query, f"key={PLACEHOLDER}")
        request.set_json({"token": token, "list": [token]})
        self.assertEqual(request.body.json(), {"token": PLACEHOLDER, "list": [PLACEHOLDER]})
        request.set_form({"a b": "c&d", "token": token})
        self.assertEqual(request.body.text(), f"a+b=c%26d&token={PLACEHOLDER}")
        self.assertEqual(request.headers["content-type"], "application/x-www-form-urlencoded")

    def test_a_secret_shows_its_name(self) -> None:
        token = sdk.Env().TOKEN
        self.assertEqual(
            (repr(token), token.name, f"{[token]}"), ("<secret TOKEN>", "TOKEN", "[<secret TOKEN>]")
        )
        with self.assertRaises(TypeError):
            "Bearer " + token
        with self.assertRaises(ValueError):
            f"{token:>40}"

    def test_a_secret_signs(self) -> None:
        token = sdk.Env().TOKEN
        self.assertEqual(token.hmac_sha256("data"), gate.hmac("TOKEN", b"data"))
        self.assertEqual(token.hmac_sha256(b"data"), gate.hmac("TOKEN", b"data"))

    def test_the_bytes_are_not_to_be_had_without_the_import(self) -> None:
        with self.assertRaisesRegex(sdk.Invalid, "build it with --reveal"):
            sdk.Env().TOKEN.reveal()


class Environment(Case):
    def test_names_have_their_kinds(self) -> None:
        env = sdk.Env()
        kinds = [type(env[name]) for name in env]
        # A secret is not hidden by a constant of the same name.
        self.assertEqual(kinds, [sdk.Secret, sdk.Kv, sdk.Objects, dict])
        self.assertEqual(env.LIMITS, {"a": [1, 2]})
        self.assertIs(env.TOKEN, env["TOKEN"])
        with self.assertRaisesRegex(AttributeError, r"env has no NONE: say \[secrets.NONE\]"):
            env.NONE

    def test_values_are_kept(self) -> None:
        kv = sdk.Env().kv
        self.assertEqual([kv.increment("count"), kv.increment("count", 2)], [1, 3])
        kv.put("text", "ü", 60)
        kv.put_json("json", {"a": 1})
        self.assertEqual(
            (kv.get("text"), kv.get_text("text"), kv.get_json("json")), ("ü".encode(), "ü", {"a": 1})
        )
        kv.delete("text")
        self.assertEqual(
            (kv.get("text"), kv.get_text("text"), kv.list(), kv.list("j")),
            (None, None, ["count", "json"], ["json"]),
        )
        for seconds in (-1, 1 << 32):
            with self.assertRaises(ValueError):
                kv.put("text", "x", seconds)
        with self.assertRaises(TypeError):
            kv.put("text", 12)  # type: ignore[arg-type]

    def test_objects_are_kept(self) -> None:
        objects = sdk.Env().objects
        objects.put("a/b", b"abc", "text/plain")
        found = objects.get("a/b")
        self.assertEqual((found.length, found.content_type, found.body.read()), (3, "text/plain", b"abc"))
        self.assertEqual(
            (objects.head("a/b").length, objects.get("none"), objects.head("none")), (3, None, None)
        )
        self.assertEqual(objects.list("a/"), ["a/b"])
        objects.delete("a/b")
        self.assertEqual(objects.list(), [])

    def test_the_context_is_the_gates(self) -> None:
        ctx = sdk.Context()
        self.assertEqual((ctx.container_id, ctx.instance_id, ctx.labels), ("c-1", "box", {"team": "blue"}))
        self.assertEqual(
            (ctx.params, ctx.sni, ctx.protocol), ({"greeting": "hello"}, "scenario.test", "HTTP/1.1")
        )


class Outcomes(Case):
    def test_bodies_have_media_types(self) -> None:
        for body, written, expected in [
            ("text", None, ["text/plain; charset=utf-8"]),
            (b"bytes", None, ["application/octet-stream"]),
            (None, None, []),
            (sdk.Body("x"), None, []),
            ("<p>", {"Content-Type": "text/html"}, ["text/html"]),
        ]:
            with self.subTest(body=body):
                self.assertEqual(sdk.Response(body, headers=written).headers.get_all("content-type"), expected)
        response = sdk.Response.json([1], 201, headers=[("content-type", "x/y"), ("x-a", "1")])
        self.assertEqual(response.headers.items(), [("x-a", "1"), ("content-type", "application/json")])
        self.assertEqual((response.status, response.body.read()), (201, b"[1]"))
        for status in (199, 600, "200", 200.0):
            with self.assertRaises(sdk.Invalid):
                sdk.Response(None, status)  # type: ignore[arg-type]

    def test_deny_refuses_with_its_reason(self) -> None:
        self.assertEqual(self.refused(lambda *_: sdk.deny("not here")), fake_gate.Error_Denied("not here"))

    def test_a_refusal_that_is_caught_stands(self) -> None:
        def outbound(self, request, env, ctx):
            try:
                sdk.deny("not here")
            except BaseException:
                pass
            try:
                sdk.fetch(request)
            except Exception:
                pass
            return sdk.Response("allowed")

        self.assertEqual(self.refused(outbound), fake_gate.Error_Denied("not here"))
        self.assertEqual(gate.sent, [])

    def test_a_failure_can_be_caught(self) -> None:
        gate.fail = fake_gate.Error_Failed("no connection")

        def outbound(self, request, env, ctx):
            try:
                return sdk.fetch("https://down.test/")
            except sdk.Failed as error:
                return sdk.Response(f"caught: {error}")

        self.assertEqual(self.run_handler(outbound).own_body.content, b"caught: no connection")
        self.assertEqual(gate.sent[0].address, "https://down.test/")

    def test_a_failure_that_is_not_caught_stays_what_it_is(self) -> None:
        for failure in [fake_gate.Error_Failed("no connection"), fake_gate.Error_TimedOut()]:
            gate.fail = failure
            self.assertEqual(self.refused(lambda self, request, env, ctx: sdk.fetch(request)), failure)

    def test_a_fault_says_where(self) -> None:
        def outbound(self, request, env, ctx):
            json.loads("{")

        words = self.refused(outbound).value
        line = outbound.__code__.co_firstlineno + 1
        self.assertTrue(words.startswith(f"test_handler.py:{line}: JSONDecodeError: "), words)

        def broken(self, request, env, ctx):
            request.headers["x"] = "a\nb"

        self.assertIn("Invalid: bad header", self.refused(broken).value)

    def test_what_is_no_response_is_a_fault(self) -> None:
        self.assertIn("outbound returned nothing: return fetch", self.refused(lambda *_: None).value)
        self.assertIn("outbound returned a str", self.refused(lambda *_: "text").value)
        self.assertIn("SystemExit", self.refused(lambda *_: sys.exit(1)).value)

    def test_a_response_is_given_once(self) -> None:
        def outbound(self, request, env, ctx):
            response = sdk.Response("first")
            sdk.respond(response)
            return response

        self.assertIn("given away before", self.refused(outbound).value)
        self.assertEqual(gate.answered[0].own_body.content, b"first")

    def test_a_handler_goes_on_after_its_answer(self) -> None:
        def outbound(self, request, env, ctx):
            response = sdk.fetch(request)
            copy = response.body.tee()
            sdk.respond(response)
            sdk.log.info("done", bytes=sum(map(len, copy)))

        self.run_handler(outbound)
        self.assertEqual(gate.answered[0].own_body.content, fake_gate.UPSTREAM_BODY)
        self.assertEqual(gate.log, [(fake_gate.Level.INFO, "done", '{"bytes": 13}')])

    def test_a_person_is_asked(self) -> None:
        sdk.ask("really?", 5)
        self.assertEqual(gate.asked, [("really?", 5)])

    def test_a_file_has_one_handler(self) -> None:
        module = fake_gate.module("one", {})
        sys.modules["one"] = module
        try:
            make = lambda: type(
                "H", (sdk.Handler,), {"__module__": "one", "outbound": lambda *_: sdk.Response("made")}
            )  # noqa: E731
            make()
            self.assertEqual(module.WitWorld().outbound(workload()).own_body.content, b"made")
            with self.assertRaisesRegex(TypeError, "one has a handler already"):
                make()
        finally:
            del sys.modules["one"]


class Live(Case):
    """What is frozen in a component comes from the gate, once a request is at work."""

    def test_chance_and_time_are_the_gates(self) -> None:
        self.assertEqual(len(sdk.random_bytes(70_000)), 70_000)
        self.assertRegex(sdk.uuid4(), r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
        self.assertNotEqual(sdk.uuid4(), sdk.uuid4())
        self.assertEqual(sdk.now().isoformat(), "2026-11-18T11:06:40.123000+00:00")

    def test_pythons_own_modules_ask_the_gate(self) -> None:
        program = Path(__file__).with_name("in_component.py")
        done = subprocess.run(
            [sys.executable, program], capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        told = json.loads(done.stdout)
        self.assertEqual(told["time"], [1_795_000_000.123, 0.005, 2026])
        self.assertEqual(told["slept"], [["sleep", 250]])
        self.assertTrue(all(len(set(pair)) == 2 for pair in told["chance"]), told)
        self.assertEqual(
            told["import"], "there are no files at run time: import html at the top of the handler"
        )
        self.assertEqual(
            told["log"], [["INFO", "hello"], ["INFO", "1 2"], ["WARN", "warned"], ["INFO", "no end"]]
        )

    def test_nothing_is_replaced_outside_of_a_component(self) -> None:
        before = (time.time, os.urandom, sys.stdout, list(sys.meta_path), random.getstate())
        importlib.reload(_live).begin()
        self.assertEqual((time.time, os.urandom, sys.stdout, list(sys.meta_path), random.getstate()), before)


class Connections(Case):
    def decided(self, on_connect, flow: fake_gate.Flow | None = None):
        made = type("Made", (), {"on_connect": on_connect})
        return handler.run_on_connect(made, flow or fake_gate.Flow())

    def failed(self, on_connect):
        with self.assertRaises(Err) as raised:
            self.decided(on_connect)
        return raised.exception.value

    def test_a_connection_is_judged_or_passed_on(self) -> None:
        for returned, decision in [(None, "JUDGE"), ("judge", "JUDGE"), ("pass", "PASS")]:
            self.assertEqual(self.decided(lambda self, flow, env, ctx, returned=returned: returned).name, decision)

    def test_a_connection_is_refused_and_stays_so(self) -> None:
        def on_connect(self, flow, env, ctx):
            try:
                sdk.deny("not this one")
            except BaseException:
                return "pass"

        self.assertEqual(self.failed(on_connect), fake_gate.Error_Denied("not this one"))

    def test_whatever_else_it_returns_is_a_fault(self) -> None:
        for returned, words in [(True, "a bool"), ("Pass", "another text"), (sdk.Flow, "a type")]:
            error = self.failed(lambda self, flow, env, ctx, returned=returned: returned)
            self.assertIn(f"on_connect returned {words}: return", error.value)

    def test_what_is_known_of_a_connection(self) -> None:
        def on_connect(self, flow, env, ctx):
            assert flow == sdk.Flow("a.test", 5432, "198.18.0.2:5432", False, None, ()), flow
            env.kv.put("seen", f"{flow.host} {ctx.container_id}")

        self.decided(on_connect, fake_gate.Flow("a.test", 5432, "198.18.0.2:5432", False, None, []))
        self.assertIn("seen", gate.values)

    def test_a_class_has_what_the_world_that_it_is_built_for_has(self) -> None:
        with self.assertRaisesRegex(TypeError, "Both has outbound and on_connect, and is built for a world"):
            type("Both", (sdk.Handler,), {"outbound": print, "on_connect": print, "__module__": "fake_gate"})
        world = sys.modules["wit_world"].WitWorld
        world.on_connect = None
        self.addCleanup(delattr, world, "on_connect")
        made = type("Both", (sdk.Handler,), {
            "outbound": lambda self, request, env, ctx: sdk.Response("made"),
            "on_connect": lambda self, flow, env, ctx: "pass",
            "__module__": "fake_gate",
        })
        self.addCleanup(delattr, fake_gate, "WitWorld")
        self.assertTrue(issubclass(made, sdk.Handler))
        exported = fake_gate.WitWorld()
        self.assertEqual(exported.outbound(workload()).own_body.content, b"made")
        self.assertEqual(exported.on_connect(fake_gate.Flow()).name, "PASS")


class Messages(Case):
    def judged(self, on_message, message: fake_gate.Message | None = None):
        made = type("Made", (), {"on_message": on_message})
        return handler.run_on_message(made, message or fake_gate.Message())

    def failed(self, on_message):
        with self.assertRaises(Err) as raised:
            self.judged(on_message)
        return raised.exception.value

    def test_a_message_goes_on_is_left_out_or_replaced(self) -> None:
        text, binary = fake_gate.Content_Text("x"), fake_gate.Content_Binary(b"x")
        for returned, verdict in [
            (None, fake_gate.Verdict_Pass()),
            (True, fake_gate.Verdict_Pass()),
            (False, fake_gate.Verdict_Drop()),
            ("x", fake_gate.Verdict_Replace(text)),
            (b"x", fake_gate.Verdict_Replace(binary)),
            (bytearray(b"x"), fake_gate.Verdict_Replace(binary)),
            (memoryview(b"x"), fake_gate.Verdict_Replace(binary)),
        ]:
            self.assertEqual(self.judged(lambda self, message, env, ctx, returned=returned: returned), verdict)

    def test_a_message_is_refused_and_stays_so(self) -> None:
        def on_message(self, message, env, ctx):
            try:
                sdk.deny("not this one")
            except BaseException:
                return True

        self.assertEqual(self.failed(on_message), fake_gate.Error_Denied("not this one"))

    def test_whatever_else_it_returns_is_a_fault(self) -> None:
        for returned, words in [(1, "a int"), (0, "a int"), ([b"x"], "a list"), (sdk.Message, "a type")]:
            error = self.failed(lambda self, message, env, ctx, returned=returned: returned)
            self.assertIn(f"on_message returned {words}: return", error.value)

    def test_what_is_known_of_a_message(self) -> None:
        url = "https://a.test/chat?room=1"

        def on_message(self, message, env, ctx):
            assert message == sdk.Message("sent", "hello", None, url, "a.test", 443, "/chat", None), message

        self.judged(on_message)

        def on_bytes(self, message, env, ctx):
            assert (message.direction, message.text, message.bytes) == ("received", None, b"x"), message
            assert message.subprotocol == "chat.v2"

        content, received = fake_gate.Content_Binary(b"x"), fake_gate.Direction.RECEIVED
        self.judged(on_bytes, fake_gate.Message(received, content, subprotocol="chat.v2"))

    def test_a_class_is_not_built_for_a_world_without_messages(self) -> None:
        with self.assertRaisesRegex(TypeError, "Chat has outbound and on_message, and is built for a world"):
            type("Chat", (sdk.Handler,), {"outbound": print, "on_message": print, "__module__": "fake_gate"})


if __name__ == "__main__":
    unittest.main()
