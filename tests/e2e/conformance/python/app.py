"""The conformance handler in Python: one function for each path of docs/conformance.md."""

import hashlib
import os
import sys

from sluicegate_policy import Failed, Handler, Request, Response, ask, deny, fetch, log, uuid4


class Conformance(Handler):
    def outbound(self, request, env, ctx):
        scenario = SCENARIOS.get(request.path)
        if scenario is None:
            return Response("no such scenario\n", 404)
        return scenario(request, env, ctx)


def allow(request, env, ctx):
    return fetch(request)


def refuse(request, env, ctx):
    deny("denied by the conformance handler")


def answer(request, env, ctx):
    return Response("answered\n", 201, headers={"x-answer": "yes"})


def seen(request, env, ctx):
    return Response.json(
        {
            "method": request.method,
            "url": request.url,
            "container": ctx.container_id,
            "instance": ctx.instance_id,
            "greeting": ctx.params.get("greeting"),
            "team": ctx.labels.get("team"),
        }
    )


def url(request, env, ctx):
    return Response(request.url)


def modify(request, env, ctx):
    request.headers["x-added"] = "one"
    del request.headers["x-remove-me"]
    request.path, request.query = "/modified", "by=handler"
    response = fetch(request)
    response.headers["x-response"] = "changed"
    response.status = 202
    return response


def callout(request, env, ctx):
    if fetch("https://callout.test/check").body.text(1024) == "yes":
        return fetch(request)
    return Response("no", 403)


def caught(request, env, ctx):
    try:
        return fetch("https://down.test/")
    except Failed:
        return Response("caught")


def uncaught(request, env, ctx):
    return fetch("https://down.test/")


def kv(request, env, ctx):
    count = env.kv.increment("count")
    env.kv.put("last", request.path)
    return Response.json({"count": count, "last": env.kv.get_text("last"), "keys": env.kv.list()})


def objects(request, env, ctx):
    env.objects.put("greeting", request.body, "text/plain")
    return Response(env.objects.get("greeting").body)


def body(request, env, ctx):
    return Response(request.body.text(1024).upper())


def peek(request, env, ctx):
    if request.body.peek(4) == b"deny":
        deny("peeked")
    return fetch(request)


def tap(request, env, ctx):
    request.tap_body(8)
    return fetch(request)


def token(request, env, ctx):
    request.set_bearer(env.TOKEN)
    return fetch(request)


def basic(request, env, ctx):
    request.set_basic_auth("robot", env.TOKEN)
    return fetch(request)


def query_secret(request, env, ctx):
    request.set_query("key", env.TOKEN)
    return fetch(request)


def body_secret(request, env, ctx):
    request.set_json({"token": env.TOKEN})
    return fetch(request)


def wrong_host(request, env, ctx):
    other = Request("GET", "https://other.test/")
    other.set_bearer(env.TOKEN)
    return fetch(other)


def show_secret(request, env, ctx):
    return Response(str(env.TOKEN))


def reveal(request, env, ctx):
    return Response(hashlib.sha256(env.TOKEN.reveal()).hexdigest())


def line(request, env, ctx):
    log.info("hello", n=1)
    return Response(status=204)


def random(request, env, ctx):
    return Response(uuid4())


def hmac(request, env, ctx):
    return Response(env.TOKEN.hmac_sha256("data").hex())


def person(request, env, ctx):
    ask("really?", 10)
    return fetch(request)


def throw(request, env, ctx):
    raise RuntimeError("broken")


def panic(request, env, ctx):
    sys.exit("broken")


def trap(request, env, ctx):
    os.abort()


def loop(request, env, ctx):
    while True:
        pass


def grow(request, env, ctx):
    taken = []
    while True:
        taken.append(bytes(1_000_000))


def flood(request, env, ctx):
    while True:
        env.kv.get("key")


def output(request, env, ctx):
    return Response(b"x" * 100_000_000)


def logs(request, env, ctx):
    while True:
        log.info("again")


def recurse(request, env, ctx):
    return recurse(request, env, ctx)


SCENARIOS = {
    "/allow": allow,
    "/deny": refuse,
    "/answer": answer,
    "/json": seen,
    "/url": url,
    "/modify": modify,
    "/callout": callout,
    "/caught": caught,
    "/uncaught": uncaught,
    "/kv": kv,
    "/objects": objects,
    "/body": body,
    "/peek": peek,
    "/tap": tap,
    "/token": token,
    "/basic": basic,
    "/query-secret": query_secret,
    "/body-secret": body_secret,
    "/wrong-host": wrong_host,
    "/show-secret": show_secret,
    "/reveal": reveal,
    "/log": line,
    "/random": random,
    "/hmac": hmac,
    "/ask": person,
    "/throw": throw,
    "/panic": panic,
    "/trap": trap,
    "/loop": loop,
    "/grow": grow,
    "/flood": flood,
    "/output": output,
    "/logs": logs,
    "/recurse": recurse,
}
