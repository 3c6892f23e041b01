"""WebSockets over HTTP/2 (RFC 8441): `socket(path)` gives the status and a stream of bytes."""

import json
import os
import socket as sockets
import ssl

import h2.connection
import h2.events
import h2.settings

class Socket:
    def __init__(self, path, protocol="websocket", method="CONNECT"):
        context = ssl.create_default_context()
        context.set_alpn_protocols(["h2"])
        raw = sockets.create_connection(("echo.test", 443), 20)
        raw.settimeout(30)
        self.tls = context.wrap_socket(raw, server_hostname="echo.test")
        assert self.tls.selected_alpn_protocol() == "h2"
        self.http = h2.connection.H2Connection()
        self.http.initiate_connection()
        self.http.update_settings({h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
        self.seen, self.status, self.headers, self.ended = b"", None, {}, None
        self.tls.sendall(self.http.data_to_send())
        while not self.http.remote_settings.enable_connect_protocol:
            self.step()
        head = [(":method", method), (":scheme", "https"), (":authority", "echo.test"), (":path", path)]
        if protocol is not None:
            head.append((":protocol", protocol))
        head += [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat.v2")]
        self.http.send_headers(1, head)
        self.tls.sendall(self.http.data_to_send())
        while self.status is None and self.ended is None:
            self.step()

    def step(self):
        for event in self.http.receive_data(self.tls.recv(65536)):
            if isinstance(event, h2.events.ResponseReceived):
                self.headers = {n.decode(): v.decode() for n, v in event.headers}
                self.status = int(self.headers[":status"])
            elif isinstance(event, h2.events.DataReceived):
                self.seen += event.data
                self.http.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, h2.events.StreamEnded):
                self.ended = "end"
            elif isinstance(event, h2.events.StreamReset):
                self.ended = "reset"
        self.tls.sendall(self.http.data_to_send())

    def send(self, opcode, payload):
        mask = os.urandom(4)
        length = len(payload)
        head = bytes([0x80 | opcode])
        if length < 126: head += bytes([0x80 | length])
        elif length < 65536: head += bytes([0x80 | 126]) + length.to_bytes(2, "big")
        else: head += bytes([0x80 | 127]) + length.to_bytes(8, "big")
        rest = head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        while rest:
            room = min(self.http.local_flow_control_window(1), self.http.max_outbound_frame_size)
            if room == 0:
                self.step()
                continue
            self.http.send_data(1, rest[:room])
            rest = rest[room:]
            self.tls.sendall(self.http.data_to_send())

    def take(self, count):
        while len(self.seen) < count:
            assert self.ended is None, (self.ended, self.seen)
            self.step()
        taken, self.seen = self.seen[:count], self.seen[count:]
        return taken

    def receive(self):
        first, length = self.take(2)
        if length == 126: length = int.from_bytes(self.take(2), "big")
        elif length == 127: length = int.from_bytes(self.take(8), "big")
        return first & 15, self.take(length)

    def rest(self):
        while self.ended is None: self.step()
        return [self.ended, self.seen.hex()]

    def end(self):
        self.http.end_stream(1)
        self.tls.sendall(self.http.data_to_send())
