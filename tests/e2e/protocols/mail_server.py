"""A mail server whose answer to a message is its SHA-256. Usage: mail_server.py HOST"""

import asyncio
import hashlib
import sys

from aiosmtpd.smtp import SMTP


class Answering:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 no such person"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        told = f"{envelope.mail_from} {envelope.rcpt_tos} {session.host_name}".encode()
        return f"250 taken, SHA-256 {hashlib.sha256(told + envelope.content).hexdigest()}"


async def main(host):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Answering(), hostname="mail.test", loop=loop), host, 25)
    await server.serve_forever()


asyncio.run(main(sys.argv[1]))
