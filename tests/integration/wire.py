"""Peers at the level of bytes: for what well-behaved clients cannot be made to send, and for what they hide.

`HttpWire` speaks HTTP/1.1 by hand, `FrameWire` WebSocket frames (RFC 6455 5.2).
"""

import asyncio
import base64
import os
import socket
import struct

import client
import recorder

WAIT_S = client.WAIT_S
TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


class HttpAnswer:
    def __init__(self, status, reason, headers, body):
        self.status, self.reason, self.headers, self.body = status, reason, headers, body

    def __repr__(self):
        return f"{self.status} {self.reason} {self.headers} {self.body[:500]!r}"


class HttpWire:
    """A TCP connection to the gateway."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self._frames = recorder.Frames()

    @classmethod
    async def open(cls, gateway, receive_buffer_bytes=None):
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plain.setblocking(False)
        if receive_buffer_bytes is not None:  # before the connect: the window is agreed on there
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        await asyncio.get_running_loop().sock_connect(plain, (gateway.host, gateway.port))
        # A small limit lets the stream stop reading early: an unread connection then really fills up.
        wire = cls(*await asyncio.open_connection(sock=plain, limit=64 * 1024))
        client.current_resources().callback(wire.drop)
        return wire

    async def send(self, data):
        self.writer.write(data.encode() if isinstance(data, str) else data)
        await self.writer.drain()

    async def request(self, method, path, headers=None, body=b""):
        await self.send(request_bytes(method, path, headers, body))

    async def answer(self, head_only=False):
        """Reads one answer: its head, and its body by Content-Length or chunks. `head_only`: it answers a HEAD."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WAIT_S)
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        version, status, reason = first.split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0"), first
        headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
        bodiless = head_only or int(status) < 200 or int(status) in (204, 304)
        body = b"" if bodiless else await asyncio.wait_for(self._body(headers), WAIT_S)
        if int(status) >= 400:  # which request it answers is the test's to know, so a success says nothing here
            recorder.answered("", "", int(status), body, headers.get("content-type", ""))
        return HttpAnswer(int(status), reason, headers, body)

    async def assert_ended(self, half_close=False):
        """Nothing more comes but the connection's end. `half_close` ends this side first, so that a gateway that
        lingers for what is still on its way need not wait for it."""
        try:
            if half_close:
                self.writer.write_eof()
            rest = await asyncio.wait_for(self.reader.read(), WAIT_S)
        except (ConnectionError, OSError):
            return
        assert rest == b"", f"expected the end, got {rest[:500]!r}"

    def drop(self):
        self.writer.transport.abort()

    async def _body(self, headers):
        if headers.get("transfer-encoding") != "chunked":
            assert "content-length" in headers, f"an answer without a length: {headers}"
            return await self.reader.readexactly(int(headers["content-length"]))
        body = b""
        while True:
            size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
            chunk = await self.reader.readexactly(size + 2)
            if size == 0:
                return body
            body += chunk[:-2]


class FrameWire(HttpWire):
    """A WebSocket whose every frame is written by hand."""

    @classmethod
    async def connect(cls, gateway, headers, subprotocol=None, **options):
        wire = await cls.open(gateway, **options)
        status = await wire.upgrade(headers, subprotocol)
        assert status.status == 101, status
        return wire

    async def upgrade(self, headers, subprotocol=None, path="/v1/ws"):
        """Asks for the upgrade and returns the answer, whose body stands for itself unless it is a 101."""
        fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                  "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(), **headers}
        if subprotocol is not None:
            fields["Sec-WebSocket-Protocol"] = subprotocol
        await self.request("GET", path, fields)
        answer = await self.answer()
        recorder.answered("GET", path, answer.status, answer.body, answer.headers.get("content-type", ""))
        return answer

    async def send_frame(self, opcode, payload=b"", **options):
        await self.send(frame_bytes(opcode, payload, **options))

    async def frame(self, timeout_s=WAIT_S):
        """The next frame: (opcode, payload). The gateway sends whole, unmasked frames only."""
        return await asyncio.wait_for(self._frame(), timeout_s)

    async def text(self, wanted=None):
        """The next text frame as an event, or the next one for which wanted(event) holds."""
        while True:
            opcode, payload = await self.frame()
            assert opcode != CLOSE, f"closed with {close_code(payload)}: {payload[2:]!r}"
            if opcode == TEXT:
                event = client.Event(payload.decode())
                self._frames.received(event)
                if wanted is None or wanted(event):
                    return event

    async def close_frame(self):
        """Reads up to the close frame and returns its code."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                recorder.closed(close_code(payload))
                return close_code(payload)
            if opcode == TEXT:
                self._frames.received(client.Event(payload.decode()))

    async def reply_to_close(self, code):
        """Ends the closing handshake from this side, unless the gateway has already left."""
        try:
            await self.send_frame(CLOSE, close_bytes(code))
        except ConnectionError:
            pass

    async def _frame(self):
        first, second = await self.reader.readexactly(2)
        assert first & 0x80, "a fragmented frame from the gateway"
        assert not first & 0x70, "reserved bits from the gateway"
        assert not second & 0x80, "a masked frame from the gateway"
        length = second & 0x7F
        if length == 126:
            length, = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            length, = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(length)


def request_bytes(method, path, headers=None, body=b""):
    """A well-formed request; a Host is added, and a Content-Length when there is a body."""
    fields = {"Host": "localhost", **(headers or {})}
    if body:
        fields.setdefault("Content-Length", str(len(body)))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode() + body


def frame_bytes(opcode, payload=b"", final=True, masked=True, reserved=0, claimed_length=None):
    """One frame. `claimed_length` writes another length than the payload's.

      byte 0: FIN | RSV1–3 | opcode      byte 1: MASK | length (126: u16 follows, 127: u64)      mask 4      payload
    """
    payload = payload.encode() if isinstance(payload, str) else payload
    length = len(payload) if claimed_length is None else claimed_length
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if length < 126:
        head += bytes([mask_bit | length])
    elif length < 1 << 16:
        head += bytes([mask_bit | 126]) + struct.pack("!H", length)
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", length)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def close_bytes(code, reason=b""):
    return struct.pack("!H", code) + reason


def close_code(payload):
    """A close frame's code; 1005 stands for none."""
    return struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
