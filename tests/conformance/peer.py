"""A peer of which every byte is the test's own: a TCP socket, what it reads of HTTP answers and WebSocket frames.

It writes nothing by itself and mends nothing, and it reads strictly: what the gateway may not send, fails the case.
"""

import base64
import hashlib
import socket
import struct
import time

WAIT_S = 10.0  # for one thing that must come: generous, since it is only waited out by a failure

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0
KEY = base64.b64encode(b"sixteen bytes 16").decode()
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


class Pause:
    """Stands between what is sent: time for the gateway to take up what came before, by itself."""

    def __init__(self, seconds=0.02):
        self.seconds = seconds


class Peer:
    def __init__(self, gateway, receive_buffer_bytes=None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer_bytes is not None:  # before the connect: the window is agreed on there
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self.socket.settimeout(WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each send is a segment
        self.socket.connect((gateway.host, gateway.port))
        self.received = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    # --- bytes -------------------------------------------------------------------------------------------------

    def send(self, *parts):
        """Sends each part by itself. A gateway that has ended the connection is noticed when its answer is read."""
        try:
            for part in parts:
                if isinstance(part, Pause):
                    time.sleep(part.seconds)
                else:
                    self.socket.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def half_close(self):
        self.socket.shutdown(socket.SHUT_WR)

    def exactly(self, count):
        while len(self.received) < count:
            more = self.socket.recv(1 << 20)
            assert more, f"the connection ended after {self.received[:300]!r}, {count} bytes were due"
            self.received += more
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    def until(self, end):
        while end not in self.received:
            more = self.socket.recv(65536)
            assert more, f"the connection ended after {self.received[:300]!r}, {end!r} was due"
            self.received += more
        at = self.received.index(end) + len(end)
        taken, self.received = self.received[:at], self.received[at:]
        return taken

    def assert_ended(self):
        """Nothing more comes but the connection's end, and an orderly one: a reset may take the last answer away."""
        rest, self.received = self.received, b""
        while True:
            more = self.socket.recv(65536)
            if not more:
                break
            rest += more
        assert rest == b"", f"the end was due, but {rest[:300]!r} came"

    def is_silent(self, seconds):
        """Says whether nothing comes for that long, neither bytes nor the end."""
        if self.received:
            return False
        self.socket.settimeout(seconds)
        try:
            self.received = self.socket.recv(65536)
            return False
        except (TimeoutError, socket.timeout):
            return True
        finally:
            self.socket.settimeout(WAIT_S)

    # --- HTTP --------------------------------------------------------------------------------------------------

    def answer(self, head_only=False):
        """One HTTP answer, whose framing must be what RFC 9112 6 has a server send."""
        head = self.until(b"\r\n\r\n").decode("latin-1")
        status_line, *lines = head.split("\r\n")[:-2]
        version, status, reason = status_line.split(" ", 2)
        assert version == "HTTP/1.1" and reason, status_line
        fields = {}
        for line in lines:
            name, colon, text = line.partition(":")
            assert colon and name and name == name.strip(), f"a malformed field: {line!r}"
            assert name.lower() not in fields, f"a repeated field: {line!r}"
            fields[name.lower()] = text.strip()
        answer = Answer(int(status), fields)
        assert "transfer-encoding" not in fields, head
        if answer.status < 200 or answer.status == 204:
            assert "content-length" not in fields, f"RFC 9110 8.6: {head}"
        else:
            assert "date" in fields, f"RFC 9110 6.6.1: {head}"
            length = int(fields["content-length"])
            answer.body = b"" if head_only else self.exactly(length)
        return answer

    # --- WebSocket ---------------------------------------------------------------------------------------------

    def handshake(self, path="/debug/ws-echo"):
        """Opens a WebSocket and checks the answer (RFC 6455 4.2.2)."""
        self.send(upgrade(path=path))
        self.assert_upgraded()
        return self

    def assert_upgraded(self, key=KEY):
        answer = self.answer()
        assert answer.status == 101, answer
        assert answer.fields["upgrade"].lower() == "websocket", answer
        assert answer.fields["connection"].lower() == "upgrade", answer
        assert answer.fields["sec-websocket-accept"] == accept(key), answer
        assert "sec-websocket-extensions" not in answer.fields, "an extension that nobody knows"
        assert "sec-websocket-protocol" not in answer.fields, "a subprotocol that nobody speaks"

    def frame(self):
        """One frame: (opcode, payload). The gateway sends whole, unmasked frames of minimal length alone."""
        first, second = self.exactly(2)
        assert first & 0x80, "a fragmented frame from the gateway"
        assert not first & 0x70, "reserved bits from the gateway"
        assert not second & 0x80, "a masked frame from the gateway"
        length = second
        if length == 126:
            length, = struct.unpack("!H", self.exactly(2))
            assert length > 125, "a length that is not minimal"
        elif length == 127:
            length, = struct.unpack("!Q", self.exactly(8))
            assert length > 0xFFFF, "a length that is not minimal"
        return first & 0x0F, self.exactly(length)


class Answer:
    def __init__(self, status, fields):
        self.status, self.fields, self.body = status, fields, b""

    def __repr__(self):
        return f"{self.status} {self.fields} {self.body[:300]!r}"


def accept(key):
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


def upgrade(*replaced, path="/debug/ws-echo", method="GET", version="HTTP/1.1", without=()):
    """A handshake. `replaced` are whole field lines, which stand for the usual ones of their names, or are added; a name
    in `without` is left out."""
    usual = {"host": "Host: localhost", "upgrade": "Upgrade: websocket", "connection": "Connection: Upgrade",
             "sec-websocket-key": f"Sec-WebSocket-Key: {KEY}", "sec-websocket-version": "Sec-WebSocket-Version: 13"}
    names = {line.partition(":")[0].strip().lower() for line in replaced} | {name.lower() for name in without}
    lines = [line for name, line in usual.items() if name not in names] + list(replaced)
    return "\r\n".join([f"{method} {path} {version}", *lines, "", ""]).encode("latin-1")


def frame(opcode, payload=b"", final=True, masked=True, reserved=0, length=None, form=None, mask=b"\x37\xfa\x21\x3d"):
    """One frame of a client (RFC 6455 5.2). `length` declares another length than the payload's; `form` writes it in 7,
    16 or 64 bits although it may not be the shortest."""
    payload = payload.encode() if isinstance(payload, str) else payload
    length = len(payload) if length is None else length
    form = form or (7 if length < 126 else 16 if length < 1 << 16 else 64)
    mask_bit = 0x80 if masked else 0
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    if form == 7:
        head += bytes([mask_bit | length])
    elif form == 16:
        head += bytes([mask_bit | 126]) + struct.pack("!H", length)
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", length)
    return head + (mask + masked_by(mask, payload) if masked else payload)


def masked_by(mask, payload):
    wide = (mask * (len(payload) // 4 + 1))[:len(payload)]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(wide, "little")).to_bytes(len(payload), "little")


def text(payload=b"", **options):
    return frame(TEXT, payload, **options)


def binary(payload=b"", **options):
    return frame(BINARY, payload, **options)


def more(payload=b"", **options):
    """A continuation; the message's last one unless final=False."""
    return frame(CONTINUATION, payload, **options)


def ping(payload=b"", **options):
    return frame(PING, payload, **options)


def pong(payload=b"", **options):
    return frame(PONG, payload, **options)


def close(code=None, reason=b"", **options):
    reason = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason, **options)


def chopped(data, size):
    """The bytes in segments of that size."""
    return [data[at:at + size] for at in range(0, len(data), size)]


def fragments(opcode, payload, *cuts):
    """One message as frames, cut at these places."""
    payload = payload.encode() if isinstance(payload, str) else payload
    edges = [0, *cuts, len(payload)]
    parts = [payload[a:b] for a, b in zip(edges, edges[1:])]
    return [frame(opcode if index == 0 else CONTINUATION, part, final=index == len(parts) - 1)
            for index, part in enumerate(parts)]
