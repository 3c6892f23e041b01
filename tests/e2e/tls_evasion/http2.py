"""Sends requests over HTTP/2 exactly as told, each on a connection of its own, and prints how each ended.

Standard input is a list of [server name, headers, trailers or null] as JSON, standard output a list of texts.
"""

import json
import os
import socket
import ssl
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, ResponseReceived, StreamEnded, StreamReset


def ask(name, headers, trailers):
    context = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"])
    context.set_alpn_protocols(["h2"])
    stream = context.wrap_socket(socket.create_connection((name, 443), 15), server_hostname=name)
    config = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    connection = H2Connection(config=config)
    connection.initiate_connection()
    connection.send_headers(1, headers, end_stream=trailers is None)
    if trailers is not None:
        connection.send_data(1, b"body")
        connection.send_headers(1, trailers, end_stream=True)
    stream.sendall(connection.data_to_send())
    told = "nothing"
    while data := stream.recv(65536):
        for event in connection.receive_data(data):
            if isinstance(event, ResponseReceived):
                fields = {bytes(key): bytes(value) for key, value in event.headers}
                told = (fields[b":status"] + b" " + fields.get(b"x-sluicegate-reason", b"")).decode().strip()
            elif isinstance(event, StreamReset):
                return f"reset {int(event.error_code)}"
            elif isinstance(event, ConnectionTerminated):
                return f"goaway {int(event.error_code)}"
            elif isinstance(event, StreamEnded):
                return told
        stream.sendall(connection.data_to_send())
    return "closed"


print(json.dumps([ask(name, [tuple(field) for field in headers], trailers and [tuple(field) for field in trailers])
                  for name, headers, trailers in json.load(sys.stdin)]))
