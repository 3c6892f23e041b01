"""websockets: messages of every kind and size, pings of either side, and a close by the server.

By asyncio: the client with threads reads and writes one TLS connection at the same time, which the ssl module of
Python 3.11 does not keep apart.
"""

import asyncio
import json
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


def say(*values):
    print(json.dumps(values))


async def converse(url):
    options = {"ssl": ssl.create_default_context()} if url.startswith("wss:") else {}
    options.update(proxy=None, open_timeout=20, close_timeout=10, ping_interval=None, max_size=8 << 20)
    async with connect(url, subprotocols=["chat.v1", "chat.v2"], **options) as socket:
        say(socket.subprotocol, [extension.name for extension in socket.protocol.extensions])
        say(sorted(name.lower() for name, _ in socket.response.headers.raw_items()))
        await socket.send("grüße")
        say(await socket.recv())
        await socket.send(b"\x00\xff\x88")
        say((await socket.recv()).hex())
        large = bytes(range(256)) * 4096
        await socket.send(large)
        say(await socket.recv() == large)
        await socket.send(["in ", "three ", "parts"])
        say(await socket.recv())
        await socket.send("fragments")
        say([piece async for piece in socket.recv_streaming()])
        await (await socket.ping(b"hello"))
        await socket.send("ping")
        say(await socket.recv())
        await socket.send("close 4001")
        try:
            await socket.recv()
        except ConnectionClosed as error:
            say(error.rcvd.code, error.rcvd.reason)


asyncio.run(asyncio.wait_for(converse(sys.argv[1]), 40))
