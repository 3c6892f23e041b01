"""The demo's HTTPS origin: answers a request that has the token, and notes every Authorization header.

usage: origin.py CERTIFICATE_AND_KEY PORT_FILE NOTES_FILE; the token is read from DEMO_TOKEN.
"""

import http.server
import json
import os
import ssl
import sys

certificate, port_file, notes_file = sys.argv[1:]
wanted = "Bearer " + os.environ["DEMO_TOKEN"]


class Origin(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        authorization = self.headers.get("authorization")
        with open(notes_file, "a", encoding="utf-8") as notes:
            notes.write(f"{self.command} {self.path}  Authorization: {authorization}\n")
        known = authorization == wanted
        body = json.dumps({"login": "demo"} if known else {"error": "who are you?"}).encode() + b"\n"
        self.send_response(200 if known else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_DELETE = do_GET

    def log_message(self, *_):
        pass


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate)
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Origin)
server.socket = context.wrap_socket(server.socket, server_side=True)
with open(port_file + ".new", "w", encoding="utf-8") as file:
    file.write(str(server.server_port))
os.rename(port_file + ".new", port_file)
server.serve_forever()
