"""Runs as if in a component, and tells what Python's own modules said: see `test_handler.py`."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

import fake_gate
from fake_gate import gate

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import sluicegate_policy as sdk  # noqa: E402
from sluicegate_policy import handler  # noqa: E402


class Probe:
    def outbound(self, request, env, ctx):
        import secrets
        import uuid

        told["time"] = [time.time(), time.monotonic(), time.gmtime().tm_year]
        time.sleep(0.25)
        told.setdefault("slept", list(gate.asked))
        told["chance"].append([os.urandom(4).hex(), secrets.token_hex(4), str(uuid.uuid4()), random.random()])
        try:
            import html  # noqa: F401
        except ImportError as error:
            told["import"] = str(error)
        print("hello")
        print(1, 2)
        print("warned", file=sys.stderr)
        print("no end", end="")
        return sdk.Response()


def once() -> None:
    random.seed(1)
    handler.run(Probe, fake_gate.Request.create("GET", "https://a.test/"))


told: dict = {"chance": []}
original = sys.stdout
import secrets  # noqa: E402, F401
import uuid  # noqa: E402, F401

sys.platform = "wasi"
from sluicegate_policy import _live  # noqa: E402

_live.install()
once()
told["log"] = [[level.name, line] for level, line, _ in gate.log]
once()
told["chance"] = list(zip(*told["chance"], strict=True))
original.write(json.dumps(told))
