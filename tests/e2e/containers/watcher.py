"""Says which of the probes of probes.py came by on any interface of this namespace, as a JSON list of their numbers
and, where they have no address of their own, of their names. Ends when its standard input does."""

import json, select, socket, struct, sys

NAMED_V4 = {"169.254.169.254": "metadata", "224.0.0.251": "multicast", "255.255.255.255": "broadcast"}
LOOSE_SOURCE_ROUTE = 131


def v4(packet):
    head, to, protocol = (packet[0] & 15) * 4, socket.inet_ntoa(packet[16:20]), packet[9]
    port = struct.unpack(">H", packet[head + 2 : head + 4])[0] if len(packet) >= head + 4 else 0
    if LOOSE_SOURCE_ROUTE in packet[20:head]:
        return "loose-route"
    if to.startswith("198.51.100."):
        return int(to.rsplit(".", 1)[1])
    if to in NAMED_V4 and protocol in (6, 17) and port in (9, 80, 5353):
        return NAMED_V4[to]
    # Of all that goes to the gateway itself, what probes ask for.
    return "gateway" if protocol == 6 and port == 9 else None


def v6(packet):
    following, to = packet[6], socket.inet_ntop(socket.AF_INET6, packet[24:40])
    if to.startswith("2001:db8::"):
        return int(to[len("2001:db8::") :] or "0", 16)
    if to == "ff02::1" and following == 17:
        return "multicast6"
    asks_for = packet[48:64] if following == 58 and packet[40:41] == b"\x87" else b""
    link_local = socket.inet_pton(socket.AF_INET6, "fe80::1")
    return "link-local6" if to == "fe80::1" or asks_for == link_local else None


def probe(frame):
    kind = frame[12:14]
    if kind == b"\x88\xb5":
        return "frame-own-type"
    if kind == b"\x08\x00" and len(frame) >= 34:
        return v4(frame[14:])
    return v6(frame[14:]) if kind == b"\x86\xdd" and len(frame) >= 54 else None


wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
print("watching", flush=True)
seen = set()
while True:
    ready = select.select([wire, sys.stdin], [], [])[0]
    if wire in ready:
        seen.add(probe(wire.recv(2048)))
    elif ready:
        break
print(json.dumps(sorted(str(one) for one in seen - {None})))
