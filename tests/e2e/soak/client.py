"""A mixed load for so many seconds: each kind on a thread of its own, one after another, some times a second.

Prints how often each kind went well, and what did not. Usage: client.py SECONDS
"""

import asyncio
import json
import os
import random
import socket
import ssl
import sys
import threading
import time

import httpx
from websockets.asyncio.client import connect

END = time.monotonic() + float(sys.argv[1])
PAUSE = 0.02
done, failed = {}, []


def http(version):
    options = {"http1": version == 1, "http2": version == 2, "verify": ssl.create_default_context(), "timeout": 30, "trust_env": False}
    body = os.urandom(20_000)

    def once():
        # A few requests on each connection, two at most beside each other.
        with httpx.Client(base_url="https://api.test", **options) as client:
            for number in range(10):
                answer = client.post("/", content=body) if number % 3 == 2 else client.get("/")
                assert (answer.status_code, answer.text) == (200, "ok"), answer
                assert answer.http_version == ("HTTP/2" if version == 2 else "HTTP/1.1")
                time.sleep(PAUSE)
            refused = client.get("https://other.test/")
            assert refused.status_code == 403, refused

    return once


async def converse():
    # Of its own: what is agreed on with it is not HTTP/2.
    tls = ssl.create_default_context()
    async with connect("wss://echo.test/soak", ssl=tls, proxy=None, open_timeout=30, ping_interval=None) as there:
        for length in (1, 100, 70_000):
            sent = os.urandom(length)
            await there.send(sent)
            assert await asyncio.wait_for(there.recv(), 30) == sent
            await asyncio.sleep(PAUSE)


def messages():
    # By asyncio: the client with threads has two for one TLS connection, which Python 3.11 does not keep apart.
    asyncio.run(converse())


def question(name):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return random.randbytes(2) + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def names():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.settimeout(30)
        there.connect(("192.0.2.53", 53))
        for name in ("api.test", f"x{random.randrange(200)}.other.test"):
            there.send(question(name))
            assert len(there.recv(512)) > 12
            time.sleep(PAUSE * 2)


def datagrams():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.settimeout(30)
        there.connect(("198.51.100.9", 9))
        there.send(b"x")
        try:
            raise AssertionError(there.recv(512))
        except ConnectionRefusedError:
            pass
    time.sleep(PAUSE * 2)


def strangers():
    with socket.create_connection(("198.51.100.9", 9999), 30) as there:
        there.sendall(b"\0\1\2\3 no protocol that there is")
        try:
            assert there.recv(512) == b""
        except ConnectionResetError:
            pass
    time.sleep(PAUSE * 2)


def run(kind, once):
    done[kind] = 0
    while time.monotonic() < END:
        try:
            once()
            done[kind] += 1
        except Exception as error:
            failed.append(f"{kind}: {error!r}")
            # Whoever fails at once and always is not to fill the memory.
            if len(failed) > 100:
                return


KINDS = {
    "HTTP/1.1": http(1),
    "HTTP/2": http(2),
    "WebSocket": messages,
    "DNS": names,
    "UDP": datagrams,
    "TCP": strangers,
}
threads = [threading.Thread(target=run, args=kind) for kind in KINDS.items()]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({"done": done, "failed": failed}))
