"""Handlers of Sluicegate in Python.

A handler is one file with a class that derives from :class:`Handler`::

    from sluicegate_policy import Handler, Response, fetch, log

    class ReadOnly(Handler):
        def outbound(self, request, env, ctx):
            if request.method == "GET":
                return fetch(request)
            log.warn("not a read", container=ctx.container_id, url=request.url)
            return Response("read only\\n", 405)

``sluicegate policy build read_only.py`` makes a component of it.
"""

from . import log
from ._gate import Denied, Failed, GateError, Invalid, TimedOut, deny
from .body import Body
from .context import Context
from .environment import Env, Kv, Metadata, Objects, StoredObject
from .flow import Flow
from .functions import ask, fetch, now, random_bytes, respond, uuid4
from .handler import Handler
from .message import Headers
from .request import Request
from .response import Response
from .secret import Secret
from .websocket import Message, MessageVerdict

__all__ = [
    "Body",
    "Context",
    "Denied",
    "Env",
    "Failed",
    "Flow",
    "GateError",
    "Handler",
    "Headers",
    "Invalid",
    "Kv",
    "Message",
    "MessageVerdict",
    "Metadata",
    "Objects",
    "Request",
    "Response",
    "Secret",
    "StoredObject",
    "TimedOut",
    "ask",
    "deny",
    "fetch",
    "log",
    "now",
    "random_bytes",
    "respond",
    "uuid4",
]
