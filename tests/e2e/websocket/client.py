"""What the scripts of the tests begin with: WebSocket clients that print JSON."""

import json
import ssl
import sys

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def ws(url, **options):
    if url.startswith("wss:"):
        options["ssl"] = ssl.create_default_context()
    return connect(url, proxy=None, open_timeout=20, close_timeout=10, ping_interval=None, max_size=8 << 20, **options)


def say(*values):
    print(json.dumps(values[0] if len(values) == 1 else values), flush=True)


def end(socket):
    """How the other side closes it."""
    try:
        socket.recv(timeout=30)
        return "no end"
    except ConnectionClosed as error:
        return [error.rcvd.code, error.rcvd.reason] if error.rcvd else None
