"""The class that a handler is made of, and how the gate calls it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

import wit_world

from . import _gate, _live, functions
from .context import Context
from .environment import Env
from .flow import Decision, Flow, decided
from .request import Request
from .response import Response
from .websocket import Message, MessageVerdict, judged

_Decided = TypeVar("_Decided")

#: Folders whose code is not the handler's own: this package's, and Python's.
_OTHERS = (os.path.dirname(__file__), os.path.dirname(os.path.dirname(json.__file__)))


class Handler:
    """A handler: derive one class from this in the file that is built, with the functions that it is to have.

    For every request of the workload a fresh copy of the interpreter, as it was when the component was
    built, makes an object of the class and calls ``outbound`` once; likewise ``on_connect`` for every
    connection that the document has it asked about, and ``on_message`` for every message of a WebSocket that
    ``outbound`` let through. Nothing is kept from one call to the next but what the handler stores.
    """

    def outbound(self, request: Request, env: Env, ctx: Context) -> Response:
        """Decides about one request: the response to answer with, most often what ``fetch`` gave.

        An exception that is not of :func:`deny` is a fault of the handler: the workload gets 502, and the
        log says why.
        """
        raise NotImplementedError

    def on_connect(self, flow: Flow, env: Env, ctx: Context) -> Decision | None:
        """Decides about one connection, before there is a request: ``"judge"`` or nothing for what the
        document says, ``"pass"`` to pass it on unopened where the lists of hosts admit that.

        :func:`deny` refuses it. Any other exception is a fault of the handler, and refuses it too.
        """
        raise NotImplementedError

    def on_message(self, message: Message, env: Env, ctx: Context) -> MessageVerdict:
        """Decides about one message: True or nothing lets it go on, False leaves it out, a text or bytes go on
        in its place.

        :func:`deny` closes the WebSocket with 1008. Any other exception is a fault of the handler, and closes it
        with 1011.
        """
        raise NotImplementedError

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        written = [name for name in _FUNCTIONS if getattr(cls, name) is not getattr(Handler, name)]
        if written:
            _export(sys.modules[cls.__module__], cls, written)


#: What a handler can have, by the names that the worlds export them by too.
_FUNCTIONS = ("outbound", "on_connect", "on_message")


def _export(module: ModuleType, handler: type[Handler], written: list[str]) -> None:
    """Has the component call this class: componentize-py looks for ``WitWorld`` in the module."""
    if "WitWorld" in vars(module):
        raise TypeError(f"{module.__name__} has a handler already: there is one in a file")
    exported = [name for name in _FUNCTIONS if hasattr(wit_world.WitWorld, name)]
    if written != exported:
        raise TypeError(
            f"{handler.__name__} has {' and '.join(written)}, and is built for a world that has"
            f" {' and '.join(exported)}: write `def` and the function's name into the file itself"
        )

    class WitWorld(wit_world.WitWorld):
        def outbound(self, request: _gate.http.Request) -> _gate.http.Response:
            return run(handler, request)

        def on_connect(self, flow: _gate.connection.Flow) -> _gate.connection.Decision:
            return run_on_connect(handler, flow)

        def on_message(self, message: _gate.websocket.Message) -> _gate.websocket.Verdict:
            return run_on_message(handler, message)

    vars(module)["WitWorld"] = WitWorld


def run(handler: type[Handler], request: _gate.http.Request) -> _gate.http.Response:
    """Runs a handler on one request. What it raises becomes an error of the gate's."""
    return _run(lambda: _returned(handler().outbound(Request._of(request), Env(), Context())))


def run_on_connect(handler: type[Handler], flow: _gate.connection.Flow) -> _gate.connection.Decision:
    """Runs a handler on one connection, likewise."""
    return _run(lambda: decided(handler().on_connect(Flow._of(flow), Env(), Context())))


def run_on_message(handler: type[Handler], message: _gate.websocket.Message) -> _gate.websocket.Verdict:
    """Runs a handler on one message, likewise."""
    return _run(lambda: judged(handler().on_message(Message._of(message), Env(), Context())))


def _run(decide: Callable[[], _Decided]) -> _Decided:
    _live.begin()
    try:
        return decide()
    except _gate.Denied as denied:
        raise _gate.Err(_gate.http.Error_Denied(denied.reason)) from None
    except _gate.Failed as failed:
        # As the gate said it.
        raise _gate.Err(_gate.http.Error_Failed(str(failed))) from None
    except _gate.TimedOut:
        raise _gate.Err(_gate.http.Error_TimedOut()) from None
    except BaseException as error:
        # The end of the interpreter would tell nobody why.
        raise _gate.Err(_gate.http.Error_Failed(described(error))) from None
    finally:
        _live.end()


def _returned(response: object) -> _gate.http.Response:
    _gate.check_denied()
    if isinstance(response, Response):
        return response._give()
    if functions.has_responded():
        return Response(status=204)._give()
    what = "nothing" if response is None else f"a {type(response).__name__}"
    raise TypeError(f"outbound returned {what}: return fetch(request) or Response(..), or call deny(..)")


def described(error: BaseException) -> str:
    """An exception in one line, with the last place in the handler's own code."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(("<", *_OTHERS)):
            place = f"{os.path.basename(file)}:{trace.tb_lineno}: "
        trace = trace.tb_next
    try:
        words = str(error)
    except Exception:
        words = ""
    name = type(error).__name__
    return f"{place}{name}: {words}" if words else f"{place}{name}"
