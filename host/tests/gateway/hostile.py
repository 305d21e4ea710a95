"""A program inside that means harm: what an interface takes, and no socket would send.

Says at its end how much it has sent. Arguments: the interface, an address that answers at port 80, a network whose hosts are
silent, seconds.
"""

import random
import socket
import struct
import sys
import time

INTERFACE, HOST, SILENT, SECONDS = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
# The honest program has 10.0.2.100.
OURS, GATEWAY, NAMES = "10.0.2.101", "10.0.2.2", "10.0.2.3"
random.seed(4711)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
wire.bind((INTERFACE, 0x0800))
sent = {}


def count(what):
    sent[what] = sent.get(what, 0) + 1


def send(what, bytes, kind=0x0800):
    try:
        wire.sendto(bytes, (INTERFACE, kind))
        count(what)
    except OSError:
        time.sleep(0.0005)


def checksum(bytes):
    bytes += b"\0" * (len(bytes) % 2)
    total = sum(struct.unpack(f"!{len(bytes) // 2}H", bytes))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip(source, to, protocol, payload, identification=0, fragment=0):
    ends = socket.inet_aton(source) + socket.inet_aton(to)
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), identification, fragment, 64, protocol)
    return head + struct.pack("!H", checksum(head + b"\0\0" + ends)) + ends + payload


def tcp(source, to, ports, sequence, acknowledgement, flags, payload=b"", options=b""):
    length = 20 + len(options)
    head = struct.pack("!HHIIBBHHH", *ports, sequence, acknowledgement, length // 4 << 4, flags, 65535, 0, 0)
    bytes = head + options + payload
    pseudo = socket.inet_aton(source) + socket.inet_aton(to) + struct.pack("!HH", 6, len(bytes))
    return ip(source, to, 6, bytes[:16] + struct.pack("!H", checksum(pseudo + bytes)) + bytes[18:])


def udp(source, to, ports, payload):
    return ip(source, to, 17, struct.pack("!HHHH", *ports, 8 + len(payload), 0) + payload)


def port():
    return random.randrange(1024, 65536)


def anybody():
    return f"{random.randrange(1, 224)}.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def neighbour():
    """An address that could be somebody's inside."""
    return f"10.0.2.{random.randrange(102, 255)}"


def silent():
    return SILENT + str(random.randrange(2, 255))


def malformed():
    """Right ones with bytes flipped, cut off, made longer; and noise."""
    options = bytes(random.randrange(256) for _ in range(random.choice([0, 4, 12, 40])))
    base = random.choice([
        lambda: tcp(OURS, HOST, (port(), 80), random.getrandbits(32), random.getrandbits(32), random.randrange(256), b"x" * 20, options),
        lambda: udp(OURS, NAMES, (port(), 53), random.randbytes(random.randrange(64))),
        lambda: ip(OURS, HOST, 1, struct.pack("!BBHI", random.choice([3, 5, 8, 11, 12, 13]), random.randrange(16), 0, 0) + ip(HOST, OURS, 6, random.randbytes(28))),
        lambda: ip(OURS, HOST, random.randrange(256), random.randbytes(random.randrange(200))),
        lambda: random.randbytes(random.randrange(1, 1500)),
    ])()
    altered = bytearray(base)
    for _ in range(random.randrange(4)):
        altered[random.randrange(min(len(altered), 64))] = random.randrange(256)
    altered = bytes(altered[: random.choice([len(altered), random.randrange(1, len(altered) + 1)])])
    send("malformed", altered, random.choice([0x0800, 0x0800, 0x86DD]))


def flood():
    """SYNs from everybody to hosts that never answer."""
    send("syns", tcp(random.choice([OURS, neighbour(), anybody()]), silent(), (port(), port()), random.getrandbits(32), 0, 2))


def hoard():
    """SYNs to one that does, whose answers nobody acknowledges."""
    send("hoarded", tcp(random.choice([neighbour(), neighbour(), anybody()]), HOST, (port(), 80), random.getrandbits(32), 0, 2, b"", b"\2\4\5\xb4"))


def storm():
    """Fragments of datagrams that never come to their end, that overlap, that are longer than a datagram can be."""
    offset = random.choice([0, 0, 185, 185, 8000, 8190])
    more = random.choice([0x2000, 0x2000, 0])
    protocol, payload = random.choice([6, 17, 1]), random.randbytes(8 * random.randrange(1, 180))
    send("fragments", ip(OURS, HOST, protocol, payload, random.randrange(256), offset | more))


def talk():
    """A flow of datagrams each."""
    send("flows", udp(OURS, silent(), (port(), port()), b"x"))


def scan(ports):
    """Every port, by sockets."""
    held = []
    for number in ports:
        one = socket.socket()
        one.setblocking(False)
        one.bind((OURS, 0))
        one.connect_ex((random.choice([HOST, GATEWAY]), number))
        count("scanned")
        held.append(one)
    time.sleep(0.02)
    for one in held:
        one.close()


until, ports = time.monotonic() + SECONDS, 1
while time.monotonic() < until:
    # Fewer at once than the interface's own queue holds: what the kernel in here loses, nobody out there can help.
    for _ in range(25):
        for deed in (malformed, flood, flood, hoard, storm, talk):
            deed()
    scan(range(ports, ports + 25))
    ports = ports % 60000 + 25
print(*(f"{what}={number}" for what, number in sorted(sent.items())))
