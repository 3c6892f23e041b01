"""One request, and everything that is said to it: a list of `[status, [fields]]`, and how long the first took."""

import json
import socket
import ssl
import sys
import time

address, port, authority, version, method, path = sys.argv[1:]
BODY = b"hello"
EXPECT = [("content-length", str(len(BODY))), ("expect", "100-continue")] if method == "PUT" else []
context = ssl.create_default_context(cafile=authority)
context.set_alpn_protocols(["h2" if version == "2" else "http/1.1"])
io = context.wrap_socket(socket.create_connection((address, int(port)), 20), server_hostname="api.test")
io.settimeout(30)
began = time.monotonic()
said, took = [], []


def take(status, fields):
    took.append(time.monotonic() - began)
    said.append([int(status), [[name.lower(), value] for name, value in fields if not name.startswith(":")]])
    return said[-1][0]


def ask_http1():
    lines = [f"{method} {path} HTTP/1.1", f"Host: api.test:{port}", *[f"{name}: {value}" for name, value in EXPECT]]
    io.sendall("\r\n".join([*lines, "", ""]).encode())
    stream, status = io.makefile("rb"), 100
    while status < 200:
        status = int(stream.readline().split(b" ")[1])
        fields = []
        while (line := stream.readline()) != b"\r\n":
            fields.append(line.decode("latin-1").rstrip("\r\n").split(": ", 1))
        take(status, fields)
        if status == 100:
            io.sendall(BODY)
    return stream.read(2).decode()


def ask_http2():
    http, text = connection(client_side=True), ""
    http.send_headers(1, encoded(head(path, *EXPECT, method=method, authority=f"api.test:{port}")), method == "GET")
    io.sendall(http.data_to_send())
    while True:
        data = io.recv(65536)
        assert data, said
        for event in http.receive_data(data):
            if getattr(event, "stream_id", None) != 1:
                continue
            if isinstance(event, (h2.events.ResponseReceived, h2.events.InformationalResponseReceived)):
                if take(*split(event.headers)) == 100:
                    http.send_data(1, BODY, end_stream=True)
            elif isinstance(event, h2.events.DataReceived):
                text += event.data.decode()
            elif isinstance(event, h2.events.StreamEnded):
                return text
            elif isinstance(event, h2.events.StreamReset):
                return f"reset: {int(event.error_code)}"
        io.sendall(http.data_to_send())


def split(headers):
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
    return dict(fields)[":status"], fields


text = ask_http2() if version == "2" else ask_http1()
print(json.dumps({"said": said, "took": took[0], "body": text}))
