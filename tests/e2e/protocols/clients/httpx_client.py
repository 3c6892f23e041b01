"""httpx over the HTTP version of the argument: a session, ten requests at once, and a large answer in pieces."""

import asyncio
import hashlib
import ssl
import sys

import httpx


async def main(version):
    options = {"http2": version == "2", "verify": ssl.create_default_context(), "timeout": 20, "trust_env": False}
    async with httpx.AsyncClient(base_url="https://api.test", follow_redirects=True, **options) as client:

        async def tell(method, path, **options):
            answer = await client.request(method, path, **options)
            return f"{answer.http_version} {answer.status_code} {answer.headers.multi_items()} {answer.text}"

        print(await tell("GET", "/seen?of=httpx&empty=", headers={"X-Client": "a,  b"}))
        print(await tell("GET", "/missing"))
        print(await tell("GET", "/cookies"))
        print(await tell("GET", "/elsewhere"))
        print(await tell("POST", "/json", json={"a": [1, "zwei ü"]}))
        for answer in await asyncio.gather(*(tell("GET", f"/at-once/{number}") for number in range(10))):
            print(answer)
        large, length = hashlib.sha256(), 0
        async with client.stream("GET", "/large") as answer:
            async for piece in answer.aiter_bytes():
                large.update(piece)
                length += len(piece)
        print(answer.http_version, length, large.hexdigest())


asyncio.run(main(sys.argv[1]))
