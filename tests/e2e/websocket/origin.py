"""A WebSocket server that says on its standard output what it saw.

Usage: origin.py HOST PORT TLS_PORT CERTIFICATE KEY
"""

import asyncio
import json
import ssl
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


def say(**event):
    print(json.dumps(event), flush=True)


async def obey(socket, message):
    word, _, rest = message.partition(" ") if isinstance(message, str) else (None, None, None)
    if word == "close":
        await socket.close(int(rest), "as you wish")
    elif word == "ping":
        await (await socket.ping(b"are you there"))
        await socket.send("ponged")
    elif word == "raw":
        socket.transport.write(bytes.fromhex(rest))
    elif word == "fragments":
        await socket.send(["one ", "two ", "three"])
    else:
        await socket.send(message)


async def answer(socket):
    say(
        event="open",
        path=socket.request.path,
        headers={name.lower(): value for name, value in socket.request.headers.raw_items()},
        subprotocol=socket.subprotocol,
        extensions=[extension.name for extension in socket.protocol.extensions],
    )
    try:
        async for message in socket:
            await obey(socket, message)
    except ConnectionClosed:
        pass
    await socket.wait_closed()
    say(event="closed", path=socket.request.path, code=socket.close_code, reason=socket.close_reason)


def look(socket, request):
    if request.path == "/refuse":
        return socket.respond(403, "no sockets here\n" * 10_000)
    return None


async def main(host, port, tls_port, certificate, key):
    options = {
        "process_request": look,
        "select_subprotocol": lambda socket, offered: "chat.v2" if "chat.v2" in offered else None,
        "max_size": 8 << 20,
        "ping_interval": None,
        "close_timeout": 5,
    }
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    async with serve(answer, host, int(port), **options), serve(
        answer, host, int(tls_port), ssl=context, **options
    ):
        say(event="ready")
        await asyncio.get_running_loop().create_future()


asyncio.run(main(*sys.argv[1:]))
