"""What the scripts of the tests begin with: WebSocket clients that print JSON."""

import asyncio
import json
import socket as sockets
import ssl
import sys
import threading
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


class Plain(sockets.socket):
    """One end of a pair, of which the library wants something that only TCP has."""

    def setsockopt(self, *arguments):
        pass


tls_loop = asyncio.new_event_loop()
threading.Thread(target=tls_loop.run_forever, daemon=True).start()
passing = set()


async def pass_on(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        # As over TCP, who writes to what has ended is not told of it before they have read to the end.
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()


async def open_tls(host, port, plain):
    outside = await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
    inside = await asyncio.open_connection(sock=plain)
    for reader, writer in ((outside[0], inside[1]), (inside[0], outside[1])):
        passing.add(tls_loop.create_task(pass_on(reader, writer)))


def ws(url, **options):
    """A WebSocket. Its library reads and writes by two threads, which the TLS of Python 3.11 does not keep apart, so
    that one other thread has all the TLS."""
    if url.startswith("wss:"):
        parts = urlsplit(url)
        ours, theirs = sockets.socketpair()
        options["sock"] = Plain(fileno=ours.detach())
        opened = open_tls(parts.hostname, parts.port or 443, theirs)
        asyncio.run_coroutine_threadsafe(opened, tls_loop).result(20)
        url = "ws" + url.removeprefix("wss")
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
