"""RFC 6455 against /debug/ws-echo: framing (5), fragments (5.4), control frames (5.5), UTF-8 (8.1), closing (7).

A row: what is sent, each part in a segment of its own, and every frame that comes back, in order. Behind a row that
ends without a close the socket must still be of use, and end by a closing handshake; behind a close must come the end of
the connection and not one frame more.
"""

from dataclasses import dataclass, field

import pytest

from cases import named
from peer import (BINARY, CLOSE, PING, PONG, TEXT, Pause, Peer, binary, chopped, close, fragments, frame, more, ping,
                  pong, text)


@dataclass
class Case:
    section: str
    name: str
    sent: list
    frames: list = field(default_factory=list)  # (opcode, payload)
    closed: object = None  # the code of the close frame that ends it; 1005: one without a code


def echo(payload, opcode=TEXT):
    return (opcode, payload.encode() if isinstance(payload, str) else payload)


KIB, MIB = 1 << 10, 1 << 20
ASTERISKS = b"*" * (16 * MIB + 1)


# --- messages of every class of length, whole and in segments ---------------------------------------------------------

LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 124, 125, 126, 127, 128, 129, 255, 256, 1000, 4095, 4096, 4097, 8191, 16384, 16385,
           65533, 65534, 65535, 65536, 65537, 65 * KIB, 128 * KIB, 256 * KIB, MIB]
SEGMENTS = [1, 2, 3, 7, 13, 64, 125, 997]

MESSAGES = []
for length in LENGTHS:
    MESSAGES.append(Case("5.2", f"text of {length} bytes", [text(ASTERISKS[:length])], [echo(ASTERISKS[:length])]))
    MESSAGES.append(Case("5.2", f"binary of {length} bytes", [binary(bytes([0xFE]) * length)],
                         [echo(bytes([0xFE]) * length, BINARY)]))
for opcode, name in ((TEXT, "text"), (BINARY, "binary")):
    for length, segment in ((0, 1), (1, 1), (125, 1), (126, 1), (127, 1), (300, 1), (1000, 2), (1000, 3), (4097, 7),
                            (4097, 13), (16 * KIB + 1, 64), (65535, 997), (65536, 997), (70000, 125), (MIB, 65536)):
        MESSAGES.append(Case("5.2", f"{name} of {length} bytes in segments of {segment}",
                             chopped(frame(opcode, ASTERISKS[:length]), segment), [echo(ASTERISKS[:length], opcode)]))
MESSAGES += [
    Case("5.3", "masking key of zeros", [text("zeros", mask=b"\0\0\0\0")], [echo("zeros")]),
    Case("5.3", "masking key of ones", [text("ones", mask=b"\xff\xff\xff\xff")], [echo("ones")]),
    Case("5.3", "each frame has its own masking key",
         [text("a" * 99, mask=b"abcd"), text("b" * 99, mask=b"efgh"), *[text("c" * n, mask=bytes([n, 1, 2, 3]))
                                                                       for n in range(1, 9)]],
         [echo("a" * 99), echo("b" * 99), *[echo("c" * n) for n in range(1, 9)]]),
    Case("5.3", "masking key that looks like a frame", [text("x" * 50, mask=b"\x81\x80\x81\x80")], [echo("x" * 50)]),
    Case("5.6", "binary that is not UTF-8", [binary(bytes(range(256)))], [echo(bytes(range(256)), BINARY)]),
    Case("5.6", "text and binary in turns", [text("t1"), binary(b"\xb1"), text("t2"), binary(b"\xb2")],
         [echo("t1"), echo(b"\xb1", BINARY), echo("t2"), echo(b"\xb2", BINARY)]),
    Case("5.6", "text with NUL bytes", [text(b"a\0b\0")], [echo(b"a\0b\0")]),
    Case("5.6", "hundred messages in one segment", [b"".join(text(f"m{n}") for n in range(100))],
         [echo(f"m{n}") for n in range(100)]),
    Case("5.6", "empty messages in one segment", [text() * 50 + binary() * 50],
         [echo("")] * 50 + [echo("", BINARY)] * 50),
    Case("5.6", "segment that ends inside the next header", [text("one") + text("two")[:1], text("two")[1:]],
         [echo("one"), echo("two")]),
    Case("5.6", "segment that ends inside the next masking key", [text("one") + text("two")[:4], text("two")[4:]],
         [echo("one"), echo("two")]),
    Case("5.6", "segment that ends inside the next length",
         [text("one") + text("x" * 300)[:3], Pause(), text("x" * 300)[3:]], [echo("one"), echo("x" * 300)]),
]
for head in range(1, 14):
    whole = binary(ASTERISKS[:65536])
    MESSAGES.append(Case("5.2", f"pause behind byte {head} of a frame", [whole[:head], Pause(), whole[head:]],
                         [echo(ASTERISKS[:65536], BINARY)]))


# --- bad frames -------------------------------------------------------------------------------------------------------

FRAMING = []
for reserved in range(1, 8):
    FRAMING.append(Case("5.2", f"reserved bits {reserved:03b} in a text", [text("x", reserved=reserved)], [], 1002))
for opcode, name in ((BINARY, "binary"), (CLOSE, "close"), (PING, "ping"), (PONG, "pong")):
    for reserved in (1, 2, 4):
        FRAMING.append(Case("5.2", f"reserved bit {reserved:03b} in a {name}", [frame(opcode, reserved=reserved)], [], 1002))
FRAMING += [
    Case("5.2", "reserved bit in a continuation", [text("a", final=False), more("b", reserved=4)], [], 1002),
    Case("5.2", "reserved bits behind a good message", [text("good"), text("bad", reserved=4)], [echo("good")], 1002),
    Case("5.2", "reserved bits behind a good message, one segment", [text("good") + text("bad", reserved=2)],
         [echo("good")], 1002),
    Case("5.2", "reserved bits behind a good message, octet-wise", chopped(text("good") + text("bad", reserved=1), 1),
         [echo("good")], 1002),
    Case("5.2", "reserved bits before a ping, which is not answered", [text("bad", reserved=5) + ping("late")], [], 1002),
    Case("5.2", "reserved bits told before the payload has come", [text("x" * 100, reserved=4)[:6]], [], 1002),
]
for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
    bare = frame(opcode)
    FRAMING += [
        Case("5.2", f"opcode {opcode}, empty", [bare], [], 1002),
        Case("5.2", f"opcode {opcode} with a payload", [frame(opcode, "payload")], [], 1002),
        Case("5.2", f"opcode {opcode} behind a message", [text("good") + bare + ping()], [echo("good")], 1002),
        Case("5.2", f"opcode {opcode} between fragments", [text("a", final=False), bare, more("b")], [], 1002),
        Case("5.2", f"opcode {opcode}, not final", [frame(opcode, "x", final=False)], [], 1002),
    ]
for opcode, name in ((TEXT, "text"), (BINARY, "binary"), (CLOSE, "close"), (PING, "ping"), (PONG, "pong")):
    FRAMING.append(Case("5.1", f"unmasked {name}", [frame(opcode, masked=False)], [], 1002))
FRAMING += [
    Case("5.1", "unmasked text with a payload", [text("unmasked", masked=False)], [], 1002),
    Case("5.1", "unmasked frame behind a message", [text("good") + text("bad", masked=False)], [echo("good")], 1002),
    Case("5.1", "unmasked continuation", [text("a", final=False), more("b", masked=False)], [], 1002),
    Case("5.2", "125 bytes, length in 16 bits", [text("x" * 125, form=16)], [], 1002),
    Case("5.2", "nothing, length in 16 bits", [text("", form=16)], [], 1002),
    Case("5.2", "nothing, length in 64 bits", [text("", form=64)], [], 1002),
    Case("5.2", "125 bytes, length in 64 bits", [binary(b"x" * 125, form=64)], [], 1002),
    Case("5.2", "126 bytes, length in 64 bits", [binary(b"x" * 126, form=64)], [], 1002),
    Case("5.2", "65535 bytes, length in 64 bits", [binary(b"x" * 65535, form=64)], [], 1002),
    Case("5.2", "top bit of a 64-bit length", [binary(b"", length=1 << 63, form=64)], [], 1002),
    Case("5.2", "every bit of a 64-bit length", [binary(b"", length=(1 << 64) - 1, form=64)], [], 1002),
    Case("5.2", "top bit of a 64-bit length in a continuation",
         [text("a", final=False), more(b"", length=1 << 63 | 5, form=64)], [], 1002),
    Case("10.4", "the largest length there is", [binary(b"", length=(1 << 63) - 1, form=64)], [], 1009),
    Case("10.4", "4 GiB declared", [binary(b"", length=1 << 32, form=64)], [], 1009),
    Case("10.4", "message above 16 MiB by its header", [text(b"", length=16 * MIB + 1)], [], 1009),
    Case("10.4", "fragments above 16 MiB by the last header",
         [binary(ASTERISKS[:MIB], final=False), more(b"", length=15 * MIB + 1)], [], 1009),
    Case("10.4", "fragments above 16 MiB by an unbounded one",
         [binary(b"x", final=False), more(b"", length=(1 << 63) - 1, form=64)], [], 1009),
    Case("10.4", "message above its bound behind a good one", [text("good") + text(b"", length=16 * MIB + 1)],
         [echo("good")], 1009),
]


for name, start in (("reserved bit", b"\xc1\x80"), ("opcode 3", b"\x83\x80"), ("unmasked", b"\x81\x01"),
                    ("continuation of nothing", b"\x80\x80"), ("ping of 126 bytes", b"\x89\xfe"), ("ping in 64 bits", b"\x89\xff"),
                    ("close of 126 bytes", b"\x88\xfe"), ("ping that is not final", b"\x09\x80")):
    FRAMING.append(Case("5.2", f"{name}, told by the first two bytes", [start], [], 1002))


# --- control frames ---------------------------------------------------------------------------------------------------

CONTROL = []
for length in (0, 1, 2, 3, 4, 5, 8, 64, 124, 125):
    CONTROL.append(Case("5.5.2", f"ping of {length} bytes", [ping(ASTERISKS[:length])], [echo(ASTERISKS[:length], PONG)]))
for length in (126, 127, 65535, 65536):
    for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
        payload = b"\x03\xe8" + ASTERISKS[:length - 2]
        CONTROL.append(Case("5.5", f"{name} of {length} bytes", [frame(opcode, payload)], [], 1002))
for opcode, name in ((PING, "ping"), (PONG, "pong"), (CLOSE, "close")):
    CONTROL += [
        Case("5.5", f"{name} that is not final", [frame(opcode, final=False)], [], 1002),
        Case("5.5", f"{name} that is not final, with its continuation",
             [frame(opcode, b"\x03\xe8", final=False) + more("x")], [], 1002),
        Case("5.5", f"{name} that is not final inside a message",
             [text("a", final=False), frame(opcode, final=False), more("b")], [], 1002),
        Case("5.5", f"{name} with its length in 16 bits", [frame(opcode, b"\x03\xe8", form=16)], [], 1002),
        Case("5.5", f"{name} with its length in 64 bits", [frame(opcode, b"\x03\xe8", form=64)], [], 1002),
        Case("5.5", f"{name} of 126 bytes, told before its payload", [frame(opcode, length=126)], [], 1002),
    ]
CONTROL += [
    Case("5.5.2", "ping of bytes that are not UTF-8", [ping(bytes(range(0x80, 0xFD)))], [echo(bytes(range(0x80, 0xFD)), PONG)]),
    Case("5.5.2", "ping of zeros", [ping(b"\0" * 125)], [echo(b"\0" * 125, PONG)]),
    Case("5.5.2", "ping octet-wise", chopped(ping("octet by octet"), 1), [echo("octet by octet", PONG)]),
    Case("5.5.2", "ping of 125 bytes octet-wise", chopped(ping(ASTERISKS[:125]), 1), [echo(ASTERISKS[:125], PONG)]),
    Case("5.5.2", "ten pings in order", [ping(f"p{n}") for n in range(10)], [echo(f"p{n}", PONG) for n in range(10)]),
    Case("5.5.2", "ten pings in one segment", [b"".join(ping(f"p{n}") for n in range(10))],
         [echo(f"p{n}", PONG) for n in range(10)]),
    Case("5.5.2", "ten pings octet-wise", chopped(b"".join(ping(f"p{n}") for n in range(10)), 1),
         [echo(f"p{n}", PONG) for n in range(10)]),
    Case("5.5.2", "thousand pings of 125 bytes in one segment",
         [b"".join(ping(f"{n:0125d}") for n in range(1000))], [echo(f"{n:0125d}", PONG) for n in range(1000)]),
    Case("5.5.2", "pings and messages in turns", [ping("1") + text("2") + ping("3") + binary(b"4")],
         [echo("1", PONG), echo("2"), echo("3", PONG), echo("4", BINARY)]),
    Case("5.5.3", "pong nobody asked for", [pong()]),
    Case("5.5.3", "pong nobody asked for, with a payload", [pong("unsolicited")]),
    Case("5.5.3", "pong of 125 bytes that are not UTF-8", [pong(b"\xff" * 125)]),
    Case("5.5.3", "pong, then a ping", [pong("not asked for"), ping("asked")], [echo("asked", PONG)]),
    Case("5.5.3", "thousand pongs in one segment", [pong("x") * 1000]),
    Case("5.5.3", "pong between fragments", [text("a", final=False), pong("x"), more("b")], [echo("ab")]),
    Case("5.5.3", "pong that the gateway's own bytes look like", [pong(b"\x88\x02\x03\xe8")]),
]


# --- fragments --------------------------------------------------------------------------------------------------------

SPLIT = "fragment me"
FRAGMENTS = []
for cut in range(len(SPLIT) + 1):
    FRAGMENTS.append(Case("5.4", f"text in two, cut at {cut}", fragments(TEXT, SPLIT, cut), [echo(SPLIT)]))
for cut in (0, 1, 5, 11):
    FRAGMENTS += [
        Case("5.4", f"binary in two, cut at {cut}", fragments(BINARY, SPLIT, cut), [echo(SPLIT, BINARY)]),
        Case("5.4", f"text in two in one segment, cut at {cut}", [b"".join(fragments(TEXT, SPLIT, cut))], [echo(SPLIT)]),
        Case("5.4", f"text in two octet-wise, cut at {cut}", chopped(b"".join(fragments(TEXT, SPLIT, cut)), 1),
             [echo(SPLIT)]),
        Case("5.4", f"ping between, cut at {cut}",
             [fragments(TEXT, SPLIT, cut)[0], ping("between"), fragments(TEXT, SPLIT, cut)[1]],
             [echo("between", PONG), echo(SPLIT)]),
    ]
for size in (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB):
    cuts = range(size, 128 * KIB, size)
    FRAGMENTS.append(Case("5.4", f"128 KiB of binary in frames of {size}",
                          [b"".join(fragments(BINARY, ASTERISKS[:128 * KIB], *cuts))],
                          [echo(ASTERISKS[:128 * KIB], BINARY)]))
FRAGMENTS += [
    Case("5.4", "each character a fragment", fragments(TEXT, SPLIT, *range(1, 11)), [echo(SPLIT)]),
    Case("5.4", "empty fragments only", [text("", final=False), more("", final=False), more("")], [echo("")]),
    Case("5.4", "hundred empty fragments, then one", [text("", final=False), more("", final=False) * 100, more("x")],
         [echo("x")]),
    Case("5.4", "empty fragments around one", [text("", final=False) + more("x", final=False) + more("")], [echo("x")]),
    Case("5.4", "empty fragments only, binary", [binary(b"", final=False), more("")], [echo("", BINARY)]),
    Case("5.4", "ten pings between ten fragments",
         [part for n in range(10) for part in (frame(TEXT if n == 0 else 0, f"{n}", final=n == 9), ping(f"p{n}"))],
         [*[echo(f"p{n}", PONG) for n in range(9)], echo("0123456789"), echo("p9", PONG)]),
    Case("5.4", "pings between, octet-wise",
         chopped(text("a", final=False) + ping("1") + more("b", final=False) + ping("2") + more("c"), 1),
         [echo("1", PONG), echo("2", PONG), echo("abc")]),
    Case("5.4", "pings of 125 bytes between fragments",
         [binary(b"a" * 70000, final=False), ping(b"p" * 125), more(b"b" * 70000)],
         [echo(b"p" * 125, PONG), echo(b"a" * 70000 + b"b" * 70000, BINARY)]),
    Case("5.4", "fragmented messages one behind the other",
         fragments(TEXT, "first", 2) + fragments(BINARY, "second", 3) + [text("third")],
         [echo("first"), echo("second", BINARY), echo("third")]),
    Case("5.4", "close between fragments", [text("a", final=False), close(1000)], [], 1000),
    Case("5.4", "continuation with nothing to continue", [more("x")], [], 1002),
    Case("5.4", "continuation with nothing to continue, not final", [more("x", final=False)], [], 1002),
    Case("5.4", "empty continuation with nothing to continue", [more()], [], 1002),
    Case("5.4", "continuation behind a whole message", [text("whole") + more("x")], [echo("whole")], 1002),
    Case("5.4", "continuation behind the last fragment", [*fragments(TEXT, "abc", 1), more("x")], [echo("abc")], 1002),
    Case("5.4", "continuation behind a ping alone", [ping("p"), more("x")], [echo("p", PONG)], 1002),
    Case("5.4", "continuation first, then a message", [more("x", final=False) + text("y")], [], 1002),
    Case("5.4", "text inside a text", [text("a", final=False), text("b")], [], 1002),
    Case("5.4", "text inside a text, not final", [text("a", final=False), text("b", final=False), more("c")], [], 1002),
    Case("5.4", "binary inside a text", [text("a", final=False), binary(b"b")], [], 1002),
    Case("5.4", "text inside a binary", [binary(b"a", final=False), text("b")], [], 1002),
    Case("5.4", "text inside an empty beginning", [text("", final=False), text("b")], [], 1002),
    Case("5.4", "text inside a text, octet-wise", chopped(text("a", final=False) + text("b"), 1), [], 1002),
    Case("5.4", "text inside a text behind a ping", [text("a", final=False), ping("p"), text("b")],
         [echo("p", PONG)], 1002),
]


# --- UTF-8 (RFC 3629) -------------------------------------------------------------------------------------------------

VALID = {
    "Greek": "κόσμε", "two bytes": "\u0080\u07ff", "three bytes": "\u0800\uffff", "four bytes": "\U00010000\U0010ffff",
    "around the surrogates": "\ud7ff\ue000", "replacement character": "\ufffd", "noncharacters": "\ufffe\uffff\U0001fffe",
    "byte order mark": "\ufeffx", "combining": "e\u0301", "emoji of five characters": "👨\u200d👩\u200d👧",
    "NUL and DEL": "\0\x7f", "all ASCII": "".join(map(chr, range(128))), "planes": "".join(chr(n << 16) for n in range(1, 17)),
    "long": "täglich €𝄞" * 500,
}
# name: bytes that begin a valid text, and the byte that ends it
INVALID = {
    "continuation alone": (b"", 0x80), "last continuation alone": (b"", 0xBF), "continuation behind ASCII": (b"ab", 0x80),
    "two continuations behind a two-byte character": (b"\xc3\xa4", 0xA4),
    "C0": (b"", 0xC0), "C1": (b"", 0xC1), "F5": (b"", 0xF5), "F8": (b"", 0xF8), "FC": (b"", 0xFC), "FE": (b"", 0xFE),
    "FF": (b"", 0xFF), "FF behind a four-byte character": ("𝄞".encode(), 0xFF),
    "two-byte lead, then ASCII": (b"\xc3", 0x28), "two-byte lead, then a lead": (b"\xc3", 0xC3),
    "two-byte lead, then FF": (b"\xdf", 0xFF),
    "three-byte lead, then ASCII": (b"\xe2", 0x28), "three bytes cut at the last": (b"\xe2\x82", 0x28),
    "three bytes with a lead at the last": (b"\xe2\x82", 0xE2),
    "overlong E0 80": (b"\xe0", 0x80), "overlong E0 9F": (b"\xe0", 0x9F),
    "surrogate ED A0": (b"\xed", 0xA0), "surrogate ED AF": (b"\xed", 0xAF), "surrogate ED B0": (b"\xed", 0xB0),
    "surrogate ED BF": (b"\xed", 0xBF), "surrogate behind a text": (b"text \xed", 0xA0),
    "overlong F0 80": (b"\xf0", 0x80), "overlong F0 8F": (b"\xf0", 0x8F),
    "above U+10FFFF: F4 90": (b"\xf4", 0x90), "above U+10FFFF: F4 BF": (b"\xf4", 0xBF),
    "four-byte lead, then ASCII": (b"\xf0", 0x41), "four bytes cut at the third": (b"\xf0\x9f", 0x41),
    "four bytes cut at the last": (b"\xf0\x9f\x98", 0x41), "four bytes with a lead at the last": (b"\xf0\x9f\x98", 0xC3),
    "five continuations": (b"\xf4\x8f\xbf\xbf", 0xBF),
}
CUT_OFF = {"two bytes": b"\xc3", "three bytes, one": b"\xe2", "three bytes, two": b"\xe2\x82", "four bytes, one": b"\xf0",
           "four bytes, two": b"\xf0\x9f", "four bytes, three": b"\xf0\x9f\x98", "behind a text": "κόσμ".encode() + b"\xce"}

UTF8 = []
for name, content in VALID.items():
    content = content.encode("utf-8", "surrogatepass")
    UTF8.append(Case("8.1", f"valid: {name}", [text(content)], [echo(content)]))
    if len(content) < 200:
        UTF8.append(Case("8.1", f"valid, each byte a fragment: {name}", fragments(TEXT, content, *range(1, len(content))),
                         [echo(content)]))
        UTF8.append(Case("8.1", f"valid, octet-wise: {name}", chopped(text(content), 1), [echo(content)]))
for cut in range(len("κόσμε𝄞€".encode()) + 1):
    content = "κόσμε𝄞€".encode()
    UTF8.append(Case("8.1", f"valid text cut at byte {cut}", fragments(TEXT, content, cut), [echo(content)]))
    UTF8.append(Case("8.1", f"valid text cut at byte {cut}, ping between",
                     [fragments(TEXT, content, cut)[0], ping("p"), fragments(TEXT, content, cut)[1]],
                     [echo("p", PONG), echo(content)]))
for name, (good, bad) in INVALID.items():
    payload = good + bytes([bad])
    UTF8 += [
        Case("8.1", f"invalid: {name}", [text(payload)], [], 1007),
        Case("8.1", f"invalid in a second fragment: {name}", [text("good", final=False), more(payload + b"more")], [], 1007),
        # The rest never comes: the verdict needs no more than the byte that makes it.
        Case("8.1", f"at once, inside a frame: {name}", [text(payload + b"x" * 100)[:6 + len(payload)]], [], 1007),
        Case("8.1", f"at once, inside a message: {name}", [text(good, final=False), more(bytes([bad]), final=False)], [],
             1007),
    ]
for name, payload in CUT_OFF.items():
    UTF8 += [
        Case("8.1", f"cut off: {name}", [text(payload)], [], 1007),
        Case("8.1", f"cut off in a last fragment: {name}", [text("good", final=False), more(payload)], [], 1007),
        Case("8.1", f"cut off by an empty last fragment: {name}", [text(payload, final=False), more()], [], 1007),
        Case("8.1", f"as binary: {name}", [binary(payload)], [echo(payload, BINARY)]),
    ]
UTF8 += [
    Case("8.1", "invalid behind a good message", [text("good") + text(b"\xff")], [echo("good")], 1007),
    Case("8.1", "cut off behind a good message is no prefix of the next", [text("κ"), text(b"\xba")], [echo("κ")], 1007),
    Case("8.1", "invalid in a large frame, before its end",
         [text(ASTERISKS[:65536], length=MIB) + b"", Pause(), bytes([0xFF ^ 0x37])], [], 1007),
    Case("8.1", "invalid at once, octet-wise",
         [*chopped(text(b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited", length=20)[:6 + 6], 1), Pause(),
          *chopped(text(b"\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited", length=20)[12:13], 1)], [], 1007),
    Case("8.1", "invalid text inside a message, ping before is answered",
         [text("a", final=False), ping("p"), more(b"\xff")], [echo("p", PONG)], 1007),
]


# --- closing ----------------------------------------------------------------------------------------------------------

GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001, 3999, 4000, 4001, 4500, 4999]
BAD_CODES = [0, 1, 100, 125, 126, 500, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1100, 1500, 1999, 2000, 2500, 2999, 5000, 5001,
             9999, 32768, 65534, 65535]
CLOSING = [Case("7.4", f"code {code}", [close(code)], [], code) for code in GOOD_CODES]
CLOSING += [Case("7.4", f"code {code} with a reason", [close(code, "going")], [], code) for code in (1000, 1001, 3000, 4999)]
CLOSING += [Case("7.4", f"code {code} may not be sent", [close(code)], [], 1002) for code in BAD_CODES]
CLOSING += [Case("7.4", f"code {code} with a reason may not be sent", [close(code, "why")], [], 1002)
            for code in (0, 999, 1005, 1006, 1015, 2000, 65535)]
for name in ("FF", "C0", "surrogate ED A0", "overlong E0 80", "above U+10FFFF: F4 90", "continuation alone",
             "three bytes cut at the last"):
    good, bad = INVALID[name]
    CLOSING.append(Case("5.5.1", f"reason that is not UTF-8: {name}", [close(1000, b"why " + good + bytes([bad]))], [], 1007))
for name, payload in CUT_OFF.items():
    CLOSING.append(Case("5.5.1", f"reason that is cut off: {name}", [close(1000, payload)], [], 1007))
CLOSING += [
    Case("5.5.1", "empty close", [close()], [], 1005),
    Case("5.5.1", "close of one byte", [frame(CLOSE, b"\x03")], [], 1002),
    Case("5.5.1", "close of one byte zero", [frame(CLOSE, b"\x00")], [], 1002),
    Case("5.5.1", "reason of one byte", [close(1000, "x")], [], 1000),
    Case("5.5.1", "reason of 123 bytes", [close(1000, "x" * 123)], [], 1000),
    Case("5.5.1", "reason of 123 bytes in UTF-8", [close(1000, "ä" * 61 + "x")], [], 1000),
    Case("5.5.1", "reason of 124 bytes", [close(1000, "x" * 124)], [], 1002),
    Case("5.5.1", "reason in Chinese", [close(1000, "再见")], [], 1000),
    Case("5.5.1", "reason with a NUL", [close(1000, b"a\0b")], [], 1000),
    Case("5.5.1", "close octet-wise", chopped(close(1000, "bye"), 1), [], 1000),
    Case("5.5.1", "text behind the close", [close(1000) + text("late")], [], 1000),
    Case("5.5.1", "ping behind the close", [close(1000) + ping("late")], [], 1000),
    Case("5.5.1", "ping behind the close, by itself", [close(1000), ping("late")], [], 1000),
    Case("5.5.1", "second close", [close(1000) + close(1001)], [], 1000),
    Case("5.5.1", "second close, by itself", [close(1000), Pause(), close(1001)], [], 1000),
    Case("5.5.1", "garbage behind the close", [close(1000) + b"\xff" * 1000], [], 1000),
    Case("5.5.1", "garbage behind the close, by itself", [close(1000), b"\xff" * 1000], [], 1000),
    Case("5.5.1", "much behind the close, by itself", [close(1000), *[ASTERISKS[:65536]] * 12], [], 1000),
    Case("5.5.1", "much behind what is wrong, by itself", [text("x", reserved=1), *[ASTERISKS[:65536]] * 12], [], 1002),
    Case("5.5.1", "message, then close, in one segment", [text("last words") + close(1000)], [echo("last words")], 1000),
    Case("5.5.1", "hundred messages, then close, in one segment", [text("x") * 100 + close(1000)], [echo("x")] * 100, 1000),
    Case("5.5.1", "256 KiB, then close", [text(ASTERISKS[:256 * KIB]) + close(1000)], [echo(ASTERISKS[:256 * KIB])], 1000),
    Case("5.5.1", "ping, then close", [ping("p") + close(1000)], [echo("p", PONG)], 1000),
    Case("7.1.7", "message behind what is wrong is not echoed", [text("x", reserved=1) + text("late")], [], 1002),
    Case("7.1.7", "close behind what is wrong is not answered again", [text("x", reserved=1) + close(1000)], [], 1002),
]


# --- the runner -------------------------------------------------------------------------------------------------------

def run(gateway, case):
    with Peer(gateway).handshake() as peer:
        peer.send(*case.sent)
        for wanted in case.frames:
            assert peer.frame() == wanted
        if case.closed is None:
            peer.send(ping("still there?"))
            assert peer.frame() == (PONG, b"still there?")
            peer.send(close(1000))
        code = case.closed or 1000
        assert peer.frame() == (CLOSE, b"" if code == 1005 else code.to_bytes(2, "big"))
        peer.assert_ended()


@pytest.mark.parametrize("case", **named(MESSAGES))
def test_message_of_any_length_and_cut_is_echoed(gateway, case):
    run(gateway, case)


@pytest.mark.parametrize("case", **named(FRAMING))
def test_malformed_frame_fails_the_connection_and_nothing_before_it(gateway, case):
    run(gateway, case)


@pytest.mark.parametrize("case", **named(CONTROL))
def test_control_frames_are_answered_in_order_and_kept_to_their_form(gateway, case):
    run(gateway, case)


@pytest.mark.parametrize("case", **named(FRAGMENTS))
def test_fragments_become_one_message_and_keep_their_order(gateway, case):
    run(gateway, case)


@pytest.mark.parametrize("case", **named(UTF8))
def test_text_is_utf8_and_refused_at_the_byte_that_is_not(gateway, case):
    run(gateway, case)


@pytest.mark.parametrize("case", **named(CLOSING))
def test_close_is_answered_once_by_its_code_and_ends_the_connection(gateway, case):
    run(gateway, case)
