"""Tries to have the kernel believe that somebody outside began, and to send as if let through."""

import itertools, socket, struct
OUT, OWN = ("198.51.100.7", "2001:db8::7"), ("10.78.0.2", "fd78::2")
FAMILIES = (socket.AF_INET, socket.AF_INET6)
tried, failed = 0, []

def attempt(function, *arguments):
    global tried, failed
    tried += 1
    try:
        function(*arguments)
    except OSError as error:
        failed.append(f"{function.__name__}: {error.strerror}")

def marked(kind, family, to, mark):
    with socket.socket(family, kind) as s:
        s.settimeout(0.2)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        s.connect((to, 9))
        s.send(b"marked")

def from_there(family, out, own, name):
    """A datagram of another's to ourselves, and the answer to it."""
    level = socket.IPPROTO_IP if family == socket.AF_INET else socket.IPPROTO_IPV6
    with socket.socket(family, socket.SOCK_DGRAM) as there, socket.socket(family, socket.SOCK_DGRAM) as here:
        here.bind((own, 5000))
        there.setsockopt(level, name, 1)
        there.bind((out, 6000))
        there.sendto(b"begun outside?", (own, 5000))
        here.sendto(b"an answer?", (out, 6000))

def looped():
    """A datagram that comes back to us by the interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("10.78.0.2"))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.0.0.251") + socket.inet_aton("10.78.0.2"))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        s.sendto(b"looped", ("224.0.0.251", 5353))

def raw(out, own):
    """The same by headers of our own."""
    def packet(source, to, ports):
        udp = struct.pack(">4H", *ports, 12, 0) + b"data"
        return struct.pack(">BBHHHBBH4s4s", 69, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton(to)) + udp
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        for device in b"", b"eth0":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            s.sendto(packet(out, own, (6000, 5000)), (own, 0))
            s.sendto(packet(own, out, (5000, 6000)), (out, 0))

for mark in 0, 59877, 59878, 0x7fffffff:
    for kind, (family, to) in itertools.product((socket.SOCK_STREAM, socket.SOCK_DGRAM), zip(FAMILIES, OUT)):
        attempt(marked, kind, family, to, mark)
for family, out, own in zip(FAMILIES, OUT, OWN):
    # To bind to a foreign address: as a transparent proxy, or as one that is not there yet.
    for name in (19, 15) if family == socket.AF_INET else (75, 78):
        attempt(from_there, family, out, own, name)
attempt(looped)
attempt(raw, OUT[0], OWN[0])
print(f"{tried} tried, {len(failed)} failed: {failed}")
