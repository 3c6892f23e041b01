"""Tries every way out of a network namespace that root of a container may think of, once each.

Each probe has a destination of its own, so that whoever listens outside knows which one got out. Prints what became
of each inside, as JSON.
"""

import errno, json, os, socket, struct, subprocess

AF, AF6, ANY = socket.AF_INET, socket.AF_INET6, ("0.0.0.0", "::")
STREAM, DGRAM, RAW = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW
MARK = 0x51
SO_MARK, IP_UNICAST_IF, PACKET_QDISC_BYPASS, MSG_FASTOPEN = 36, 50, 20, 0x20000000
SOL_PACKET, IPPROTO_MPTCP, IPPROTO_UDPLITE = 263, 262, 136


def gateway():
    """The default route's, or what it would be on Docker's own network."""
    with open("/proc/net/route") as routes:
        for line in routes:
            fields = line.split()
            if fields[1] == "00000000" and fields[2] != "00000000":
                return socket.inet_ntoa(struct.pack("<I", int(fields[2], 16)))
    return "172.17.0.1"


def checksum(data):
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def datagram(to, port=9):
    """An IPv4 packet with a UDP datagram."""
    udp = struct.pack(">4H", 4000, port, 12, 0) + b"ping"
    head = struct.pack(">BBHHHBBH4s4s", 69, 0, 20 + len(udp), 1, 0, 64, 17, 0, socket.inet_aton("198.18.0.1"), socket.inet_aton(to))
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + udp


def segment(to):
    """An IPv4 packet with a SYN that carries data."""
    tcp = struct.pack(">HHIIBBHHH", 4001, 443, 1, 0, 5 << 4, 2, 1024, 0, 0) + b"data"
    pseudo = socket.inet_aton("198.18.0.1") + socket.inet_aton(to) + struct.pack(">BBH", 0, 6, len(tcp))
    tcp = tcp[:16] + struct.pack(">H", checksum(pseudo + tcp)) + tcp[18:]
    head = struct.pack(">BBHHHBBH4s4s", 69, 0, 20 + len(tcp), 2, 0, 64, 6, 0, socket.inet_aton("198.18.0.1"), socket.inet_aton(to))
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + tcp


def devices():
    return [name for _, name in socket.if_nameindex()]


def outside():
    """The interface that leads out, where there is one."""
    return next((name for name in devices() if name != "lo"), "lo")


def connect(family, to, port=443, protocol=0, prepare=None):
    with socket.socket(family, STREAM, protocol) as s:
        s.settimeout(1)
        if prepare:
            prepare(s)
        s.connect((to, port))


def send(family, kind, protocol, payload, to, port=9, prepare=None):
    with socket.socket(family, kind, protocol) as s:
        if prepare:
            prepare(s)
        s.sendto(payload, (to, port))


def option(level, name, value):
    return lambda s: s.setsockopt(level, name, value)


def device(s):
    s.setsockopt(socket.SOL_SOCKET, 25, outside().encode())


def source(name):
    def prepare(s):
        s.setsockopt(socket.IPPROTO_IP, name, 1)
        s.bind(("203.0.113.77", 0))

    return prepare


def pktinfo(to):
    with socket.socket(AF, DGRAM) as s:
        info = struct.pack("i4s4s", socket.if_nametoindex(outside()), bytes(4), bytes(4))
        s.sendmsg([b"ping"], [(socket.IPPROTO_IP, 8, info)], 0, (to, 9))


def fast_open(to):
    with socket.socket(AF, STREAM) as s:
        s.settimeout(1)
        s.sendto(b"data", MSG_FASTOPEN, (to, 443))


def as_user(uid, to):
    """As the user that a proxy may run as and let pass."""
    child = os.fork()
    if not child:
        try:
            os.setuid(uid)
            connect(AF, to)
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, "as another user")


def frame(kind, content, bypass=False):
    for name in devices():
        with socket.socket(socket.AF_PACKET, RAW, socket.htons(kind)) as s:
            s.bind((name, 0))
            if bypass:
                s.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
            s.send(b"\xff" * 6 + b"\x02\0\0\0\0\x51" + struct.pack(">H", kind) + content)


def flushed(to):
    """Without the rules, if they can be had out of the way."""
    done = subprocess.run(["nft", "flush", "ruleset"], capture_output=True)
    send(AF, DGRAM, 0, b"ping", to)
    return "the rules are gone" if done.returncode == 0 else None


def listener():
    """The gate's own port: whoever listens on an address that is not the workload's."""
    with open("/proc/net/tcp") as table:
        ports = {int(line.split()[1].split(":")[1], 16) for line in table.readlines()[1:] if line.split()[3] == "0A"}
    for port in ports:
        connect(AF, "127.0.0.1", port)
    return None if ports else "nobody listens"


V4, V6 = (lambda number: f"198.51.100.{number}"), (lambda number: f"2001:db8::{number:x}")
ECHO, ECHO6 = b"\x08\0\xf7\xff\0\0\0\0", b"\x80\0\0\0\0\0\0\0"
MARKED = option(socket.SOL_SOCKET, SO_MARK, MARK)
HEADER = option(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)


def marked_header(s):
    HEADER(s)
    MARKED(s)


LOOSE_ROUTE = option(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x83\x07\x04" + socket.inet_aton(gateway()) + b"\0")
PROBES = [
    ("tcp4", lambda n: connect(AF, V4(n))),
    ("tcp6", lambda n: connect(AF6, V6(n))),
    ("tcp4-mapped", lambda n: connect(AF6, "::ffff:" + V4(n))),
    ("mptcp", lambda n: connect(AF, V4(n), protocol=IPPROTO_MPTCP)),
    ("fast-open", lambda n: fast_open(V4(n))),
    ("udp4", lambda n: send(AF, DGRAM, 0, b"ping", V4(n))),
    ("udp6", lambda n: send(AF6, DGRAM, 0, b"ping", V6(n))),
    ("tcp4-marked", lambda n: connect(AF, V4(n), prepare=MARKED)),
    ("udp4-marked", lambda n: send(AF, DGRAM, 0, b"ping", V4(n), prepare=MARKED)),
    ("tcp4-other-user", lambda n: as_user(1337, V4(n))),
    ("tcp4-device", lambda n: connect(AF, V4(n), prepare=device)),
    ("udp4-device", lambda n: send(AF, DGRAM, 0, b"ping", V4(n), prepare=device)),
    ("tcp6-device", lambda n: connect(AF6, V6(n), prepare=device)),
    ("udp4-pktinfo", lambda n: pktinfo(V4(n))),
    ("udp4-unicast-if", lambda n: send(AF, DGRAM, 0, b"ping", V4(n), prepare=option(
        socket.IPPROTO_IP, IP_UNICAST_IF, struct.pack(">I", socket.if_nametoindex(outside()))))),
    ("udp4-transparent", lambda n: send(AF, DGRAM, 0, b"ping", V4(n), prepare=source(19))),
    ("udp4-freebind", lambda n: send(AF, DGRAM, 0, b"ping", V4(n), prepare=source(15))),
    ("icmp-raw", lambda n: send(AF, RAW, 1, ECHO, V4(n))),
    ("icmp-ping", lambda n: send(AF, DGRAM, 1, ECHO, V4(n))),
    ("icmp6-raw", lambda n: send(AF6, RAW, 58, ECHO6, V6(n))),
    ("raw-udp", lambda n: send(AF, RAW, 255, datagram(V4(n)), V4(n), prepare=HEADER)),
    ("raw-tcp", lambda n: send(AF, RAW, 255, segment(V4(n)), V4(n), prepare=HEADER)),
    ("raw-udp-marked", lambda n: send(AF, RAW, 255, datagram(V4(n)), V4(n), prepare=marked_header)),
    ("sctp", lambda n: send(AF, RAW, 132, bytes(12), V4(n))),
    ("gre", lambda n: send(AF, RAW, 47, bytes(4) + datagram(V4(n)), V4(n))),
    ("esp", lambda n: send(AF, RAW, 50, bytes(16), V4(n))),
    ("ipip", lambda n: send(AF, RAW, 4, datagram(V4(n)), V4(n))),
    ("6in4", lambda n: send(AF, RAW, 41, b"\x60" + bytes(39), V4(n))),
    ("udplite-raw", lambda n: send(AF, RAW, 136, struct.pack(">4H", 1, 9, 8, 0), V4(n))),
    ("udplite", lambda n: send(AF, DGRAM, IPPROTO_UDPLITE, b"ping", V4(n))),
    ("frame", lambda n: frame(0x0800, datagram(V4(n)))),
    ("frame-bypass", lambda n: frame(0x0800, datagram(V4(n)), bypass=True)),
    ("frame-own-type", lambda n: frame(0x88B5, b"sluicegate probe")),
    ("loose-route", lambda n: send(AF, DGRAM, 0, b"ping", V4(n), prepare=LOOSE_ROUTE)),
    ("gateway", lambda n: connect(AF, gateway(), 9)),
    ("metadata", lambda n: connect(AF, "169.254.169.254", 80)),
    ("multicast", lambda n: send(AF, DGRAM, 0, b"ping", "224.0.0.251", 5353)),
    ("broadcast", lambda n: send(AF, DGRAM, 0, b"ping", "255.255.255.255", prepare=option(
        socket.SOL_SOCKET, socket.SO_BROADCAST, 1))),
    ("multicast6", lambda n: send(AF6, DGRAM, 0, b"ping", "ff02::1%" + outside())),
    ("link-local6", lambda n: send(AF6, DGRAM, 0, b"ping", "fe80::1%" + outside())),
    ("dns", lambda n: send(AF, DGRAM, 0, b"\0\7\1\0\0\1\0\0\0\0\0\0\1a\0\0\1\0\1", V4(n), 53)),
    ("rules-flushed", lambda n: flushed(V4(n))),
    ("listener", lambda n: listener()),
]

found = {}
for number, (name, probe) in enumerate(PROBES, 1):
    try:
        found[name] = probe(number) or "done"
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, str(error))
print(json.dumps(found))
