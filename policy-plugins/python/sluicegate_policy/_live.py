"""Time, chance, ``print`` and late imports, inside of a component.

A component is a picture of the interpreter, taken when it was built: its random numbers would be the same
for every request, and there is no clock, no standard output and no file. What Python's own modules offer
of that is put onto the gate's functions here. It works for what is looked up afterwards
(``time.time()``), so this package is to be imported before ``from time import time`` and the like.
"""

from __future__ import annotations

import io
import os
import sys
import time
from typing import Any

from . import _gate
from .functions import random_bytes

#: Whether a request is at work; before that the component is being built, and the machine is there.
_running = False


class Printed(io.TextIOBase):
    """Standard output or standard error, line by line into the log."""

    def __init__(self, level: _gate.log.Level, original: Any) -> None:
        self._level = level
        self._original = original
        self._line = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not _running:
            self._original.write(text)
            return len(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            _gate.log.write(self._level, line, "")
        return len(text)

    def flush(self) -> None:
        """Does nothing: a line that is not at its end may go on."""

    def finish(self) -> None:
        """Writes what has no end of line."""
        if self._line:
            _gate.log.write(self._level, self._line, "")
            self._line = ""


class NoLateImports:
    """Says why a module cannot be found once the component is built, instead of ending the interpreter."""

    @staticmethod
    def find_spec(name: str, _path: Any = None, _target: Any = None) -> None:
        """Finds nothing."""
        raise ImportError(f"there are no files at run time: import {name} at the top of the handler", name=name)


def _now_ns() -> int:
    return _gate.clock.now_ms() * 1_000_000


def _sleep(seconds: float) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    _gate.clock.sleep_ms(_gate.u32(round(seconds * 1000), "the time in milliseconds"))


def _of_gate(original: Any, live: Any) -> Any:
    """A function that asks the gate while a request is at work."""

    def function(*arguments: Any) -> Any:
        return (live if _running else original)(*arguments)

    function.__name__ = function.__qualname__ = original.__name__
    function.__doc__ = original.__doc__
    return function


def _of_time(original: Any) -> Any:
    """A function of a time, which is now where none is given."""
    return lambda seconds=None: original(time.time() if seconds is None else seconds)


def install() -> None:
    """Puts the gate's functions in place of the machine's."""
    replaced = {
        "time": lambda: _gate.clock.now_ms() / 1000,
        "time_ns": _now_ns,
        "monotonic": lambda: _gate.clock.elapsed_ns() / 1e9,
        "monotonic_ns": _gate.clock.elapsed_ns,
        "perf_counter": lambda: _gate.clock.elapsed_ns() / 1e9,
        "perf_counter_ns": _gate.clock.elapsed_ns,
        "sleep": _sleep,
        "gmtime": _of_time(time.gmtime),
        "localtime": _of_time(time.localtime),
    }
    for name, live in replaced.items():
        setattr(time, name, _of_gate(getattr(time, name), live))
    os.urandom = _of_gate(os.urandom, random_bytes)
    sys.stdout = Printed(_gate.log.Level.INFO, sys.stdout)
    sys.stderr = Printed(_gate.log.Level.WARN, sys.stderr)


def _reads_files(finder: Any) -> bool:
    return getattr(finder, "__name__", "") not in ("BuiltinImporter", "FrozenImporter")


def begin() -> None:
    """A request begins: from here on there is no machine any more."""
    global _running
    if sys.platform != "wasi":
        return
    _running = True
    sys.meta_path[:] = [*(finder for finder in sys.meta_path if not _reads_files(finder)), NoLateImports]
    random = sys.modules.get("random")
    if random is not None:
        # Its generator was seeded when the component was built, the same for everybody.
        vars(random)["_urandom"] = random_bytes
        random.seed(random_bytes(32))


def end() -> None:
    """A request ends."""
    if _running:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, Printed):
                stream.finish()


if sys.platform == "wasi":
    install()
