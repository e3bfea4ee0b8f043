"""What is no proper WebSocket closes with the code that RFC 6455 has for it; what is no proper request is answered by an
error, and the socket stays. Nobody else notices either."""

import asyncio
import base64
import json
import os
import struct

import pytest

from bystander import Bystander
from client import SUBPROTOCOL, new_tenant
from recorder import limit
from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameWire, HttpWire, close_bytes, frame_bytes

PING_TEXT = '{"type":"ping"}'


async def served(gateway, subprotocol=SUBPROTOCOL):
    """A wire of a user's socket that is past its hello, and a room of theirs."""
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    wire = await FrameWire.connect(gateway, alice.headers, subprotocol)
    await wire.send_frame(TEXT, '{"type":"hello","id":"h"}')
    await wire.text(lambda event: event.get("re") == "h")
    return alice, room_id, wire


# --- frames -------------------------------------------------------------------------------------------------------


def with_length(opcode, payload, form):
    """A masked frame whose length stands in a longer form than it needs (RFC 6455 section 5.2: the shortest must be)."""
    length = struct.pack("!H", len(payload)) if form == 126 else struct.pack("!Q", len(payload))
    return bytes([0x80 | opcode, 0x80 | form]) + length + bytes(4) + payload


CLOSED = {
    "RSV1": ([frame_bytes(TEXT, PING_TEXT, reserved=4)], 1002),
    "RSV2": ([frame_bytes(TEXT, PING_TEXT, reserved=2)], 1002),
    "RSV3": ([frame_bytes(TEXT, PING_TEXT, reserved=1)], 1002),
    "RSV1 of a ping": ([frame_bytes(PING, "x", reserved=4)], 1002),
    **{f"opcode {opcode}": ([frame_bytes(opcode, "x")], 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "unmasked text": ([frame_bytes(TEXT, PING_TEXT, masked=False)], 1002),
    "unmasked ping": ([frame_bytes(PING, "x", masked=False)], 1002),
    "unmasked close": ([frame_bytes(CLOSE, close_bytes(1000), masked=False)], 1002),
    "short length in 16 bits": ([with_length(TEXT, PING_TEXT.encode(), 126)], 1002),
    "short length in 64 bits": ([with_length(TEXT, PING_TEXT.encode(), 127)], 1002),
    "middling length in 64 bits": ([with_length(TEXT, b" " * 300, 127)], 1002),
    "length with the top bit": ([frame_bytes(TEXT, "", claimed_length=(1 << 64) - 1)], 1002),
    "length of 2^63 - 1": ([frame_bytes(TEXT, "", claimed_length=(1 << 63) - 1)], 1009),
    "ping of 126 bytes": ([frame_bytes(PING, b"x" * 126)], 1002),
    "close of 126 bytes": ([frame_bytes(CLOSE, close_bytes(1000) + b"x" * 124)], 1002),
    "ping in fragments": ([frame_bytes(PING, "x", final=False)], 1002),
    "close in fragments": ([frame_bytes(CLOSE, close_bytes(1000), final=False)], 1002),
    "continuation of nothing": ([frame_bytes(CONTINUATION, "x")], 1002),
    "continuation after the end": ([frame_bytes(TEXT, "{", final=False), frame_bytes(CONTINUATION, "}"),
                                    frame_bytes(CONTINUATION, "}")], 1002),
    "text within text": ([frame_bytes(TEXT, "{", final=False), frame_bytes(TEXT, "}")], 1002),
    "binary within text": ([frame_bytes(TEXT, "{", final=False), frame_bytes(BINARY, "}")], 1002),
    "close of one byte": ([frame_bytes(CLOSE, b"x")], 1002),
    **{f"close {code}": ([frame_bytes(CLOSE, close_bytes(code))], 1002)
       for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)},
    "close with a reason that is not UTF-8": ([frame_bytes(CLOSE, close_bytes(1000, b"\xff"))], 1007),
    "overlong UTF-8": ([frame_bytes(TEXT, b'"\xc0\xaf"')], 1007),
    "surrogate in UTF-8": ([frame_bytes(TEXT, b'"\xed\xa0\x80"')], 1007),
    "above U+10FFFF": ([frame_bytes(TEXT, b'"\xf4\x90\x80\x80"')], 1007),
    "UTF-8 cut off at the end": ([frame_bytes(TEXT, b'"\xe2\x82')], 1007),
    "invalid UTF-8 in the first of many fragments": ([frame_bytes(TEXT, b'"\xff', final=False)], 1007),
    "invalid UTF-8 across fragments": ([frame_bytes(TEXT, b'"\xe2', final=False), frame_bytes(PING, b"between"),
                                        frame_bytes(CONTINUATION, b"\x28", final=False)], 1007),
    "binary": ([frame_bytes(BINARY, PING_TEXT)], 1003),
}


@pytest.mark.parametrize("name", CLOSED)
async def test_broken_framing_closes_with_its_code(gateway, name):
    frames, code = CLOSED[name]
    bystander = await Bystander.arrive(gateway)
    alice, room_id, wire = await served(gateway)
    late = json.dumps({"type": "send_message", "room_id": room_id, "content": "smuggled"})
    await wire.send(b"".join(frames) + frame_bytes(TEXT, late))
    assert await wire.close_frame() == code
    await wire.reply_to_close(code)
    await wire.assert_ended(half_close=True)
    await alice.send(room_id, "fence")
    assert [message["content"] for message in await alice.messages(room_id)] == ["fence"]
    await bystander.unharmed()


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
async def test_close_codes_that_may_be_sent_are_sent_back(gateway, code):
    _, _, wire = await served(gateway)
    await wire.send_frame(CLOSE, close_bytes(code, "bye".encode()))
    assert await wire.close_frame() == code
    await wire.assert_ended()


async def test_utf8_may_be_split_anywhere(gateway):
    alice, room_id, wire = await served(gateway)
    text = json.dumps({"type": "send_message", "id": 1, "room_id": room_id, "content": "ä€😀"}, ensure_ascii=False).encode()
    frames = [frame_bytes(TEXT if at == 0 else CONTINUATION, text[at:at + 1], final=at == len(text) - 1)
              for at in range(len(text))]
    await wire.send(b"".join(frames))
    assert (await wire.text(lambda event: event.get("re") == 1))["type"] == "ok"
    assert (await alice.messages(room_id))[0]["content"] == "ä€😀"


async def test_empty_fragments_and_unasked_pongs_mean_nothing(gateway):
    _, _, wire = await served(gateway)
    await wire.send(frame_bytes(PONG, b"unasked") + frame_bytes(TEXT, b"", final=False) +
                    frame_bytes(CONTINUATION, b"", final=False) + frame_bytes(PONG, b"") +
                    frame_bytes(CONTINUATION, b'{"type":"ping","id":7}'))
    assert (await wire.text())["re"] == 7


async def test_flood_of_empty_fragments_and_pings_is_bounded(gateway):
    bystander = await Bystander.arrive(gateway)
    _, _, wire = await served(gateway)
    await wire.send(frame_bytes(TEXT, b"", final=False))
    for _ in range(10):
        await wire.send(frame_bytes(CONTINUATION, b"", final=False) * 1000 + frame_bytes(PING, b"p" * 125) * 10)
        await bystander.say()
    await wire.send(frame_bytes(CONTINUATION, b'{"type":"ping","id":1}'))
    pongs = 0
    while True:
        opcode, payload = await wire.frame()
        if opcode == TEXT:
            assert json.loads(payload)["re"] == 1
            break
        pongs += opcode == PONG
    assert pongs == 100
    await bystander.unharmed()


# --- the handshake ------------------------------------------------------------------------------------------------


HANDSHAKE = {
    "no key": ({"Sec-WebSocket-Key": None}, 400, "upgrade.invalid"),
    "empty key": ({"Sec-WebSocket-Key": ""}, 400, "upgrade.invalid"),
    "key of 15 bytes": ({"Sec-WebSocket-Key": base64.b64encode(bytes(15)).decode()}, 400, "upgrade.invalid"),
    "key of 17 bytes": ({"Sec-WebSocket-Key": base64.b64encode(bytes(17)).decode()}, 400, "upgrade.invalid"),
    "key that is not base64": ({"Sec-WebSocket-Key": "!" * 22 + "=="}, 400, "upgrade.invalid"),
    "no version": ({"Sec-WebSocket-Version": None}, 426, "upgrade.version"),
    "version 8": ({"Sec-WebSocket-Version": "8"}, 426, "upgrade.version"),
    "version 130": ({"Sec-WebSocket-Version": "130"}, 426, "upgrade.version"),
    "no upgrade": ({"Upgrade": None}, 400, "upgrade.invalid"),
    "another upgrade": ({"Upgrade": "h2c"}, 400, "upgrade.invalid"),
    "connection does not name it": ({"Connection": "keep-alive"}, 400, "upgrade.invalid"),
}


@pytest.mark.parametrize("name", HANDSHAKE)
async def test_malformed_handshake_is_refused_and_the_connection_stays(gateway, name):
    change, status, code = HANDSHAKE[name]
    alice = (await new_tenant(gateway)).user("alice")
    fields = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
              "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(), **alice.headers, **change}
    wire = await HttpWire.open(gateway)
    await wire.request("GET", "/ws", {name: text for name, text in fields.items() if text is not None})
    answer = await wire.answer()
    assert (answer.status, json.loads(answer.body)["code"]) == (status, code), answer
    if status == 426:
        assert answer.headers["sec-websocket-version"] == "13"
    await wire.request("GET", "/health")
    assert (await wire.answer()).status == 200


async def test_stopping_server_takes_no_socket(make_gateway):
    gateway = make_gateway(cores=1, drain__timeout_s="20")
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    await alice.send(room_id, "x")
    holds_it_up = await FrameWire.connect(gateway, alice.headers)
    waiting = await HttpWire.open(gateway)
    gateway.process.terminate()
    assert await holds_it_up.close_frame() == 1001
    answer = await FrameWire(waiting.reader, waiting.writer).upgrade(alice.headers)
    assert (answer.status, json.loads(answer.body)["code"]) == (503, "server.draining")
    assert answer.headers["retry-after"] == "1"


# --- the order of requests ----------------------------------------------------------------------------------------


async def test_requests_in_the_wrong_order_are_told_so_and_the_socket_stays(gateway):
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    socket = await alice.connect_silent()
    for frame_type in ("send_message", "ack", "read", "subscribe", "unsubscribe", "history", "sync"):
        await socket.refused(frame_type, "hello.required", room_id=room_id, seq=1, content="too early")
    await socket.hello()
    await socket.refused("hello", "hello.repeated")
    await socket.refused("hello", "hello.repeated", rooms="none")
    assert (await socket.message(room_id, "x"))["seq"] == 1
    automatic = await alice.connect_automatic()
    await automatic.refused("hello", "hello.late", resume={room_id: [1, 0]})
    assert (await automatic.message(room_id, "y"))["seq"] == 2


async def test_token_that_is_not_valid_ends_the_socket(gateway):
    alice = (await new_tenant(gateway)).user("alice")
    socket = await alice.connect_silent()
    await socket.refused("hello", "auth.invalid_token", token="eyJhbGciOiJub25lIn0.e30.")
    assert await socket.closed() == 4001


async def test_binary_message_is_told_so_before_the_close(gateway):
    alice = (await new_tenant(gateway)).user("alice")
    socket = await alice.connect()
    await socket.websocket.send(b'{"type":"ping"}')
    await socket.expect("error", code="message.binary")
    assert await socket.closed() == 1003


async def test_unsubscribe_right_behind_subscribe_holds(gateway_of_each_size):
    """It follows the subscription that is on its way, so it neither fails nor is undone by it."""
    alice, bob = (await new_tenant(gateway_of_each_size)).users("alice", "bob")
    rooms = [await alice.new_room("group", bob) for _ in range(8)]
    socket = await bob.connect(rooms="none")
    for room_id in rooms:
        asked = [await socket.begin(frame_type, room_id=room_id)
                 for frame_type in ("subscribe", "unsubscribe", "unsubscribe", "subscribe", "subscribe", "unsubscribe")]
        answers = [await socket.answer(request_id) for request_id in asked]
        assert [answer.get("code", "ok") for answer in answers] == ["ok", "ok", "subscription.none", "ok", "ok", "ok"]
        await alice.send(room_id, "unheard")
        await socket.expect_silence(room_id, seconds=0.1)
        asked = [await socket.begin(frame_type, room_id=room_id) for frame_type in ("subscribe", "unsubscribe", "subscribe")]
        for request_id in asked:
            assert (await socket.answer(request_id))["type"] == "ok"
        await alice.send(room_id, "heard")
        await socket.expect("message", room_id=room_id, content="heard")


async def test_subscribe_beyond_the_head_starts_live(gateway):
    """A seq that does not exist yet is no position to replay from, however large it is."""
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    await alice.send(room_id, "1")
    for after_seq in (1, 2, 1 << 53, (1 << 64) - 2, (1 << 64) - 1):
        socket = await alice.connect(rooms="none")
        answer = await socket.ok("subscribe", room_id=room_id, after_seq=after_seq)
        resumed = await socket.expect("resumed", room_id=room_id)
        assert (answer["head"], resumed["from"], resumed["head"]) == (1, 2, 1), after_seq
        page = await socket.ok("history", room_id=room_id, after_seq=after_seq)
        assert page["items"] == [], after_seq


async def test_more_rooms_than_a_socket_may_subscribe_to_are_refused(make_gateway):
    gateway = make_gateway(cores=2)
    alice = (await new_tenant(gateway)).user("alice")
    most = limit("SUBSCRIPTIONS_MAX")
    rooms = []
    while len(rooms) < most + 1:
        made = await asyncio.gather(*[alice.post("/rooms", {"type": "group"}) for _ in range(min(200, most + 1 - len(rooms)))])
        rooms += [answer.ok(201)["room_id"] for answer in made]
    socket = await alice.connect_silent()
    await socket.refused("hello", "field.too_many", rooms=rooms)
    welcome = await socket.hello(rooms=rooms[:most])
    assert len(welcome["rooms"]) == most == welcome["limits"]["subscriptions"]
    await socket.refused("subscribe", "subscription.full", room_id=rooms[-1])
    await socket.ok("unsubscribe", room_id=rooms[0])
    await socket.ok("subscribe", room_id=rooms[-1])


async def test_flood_of_malformed_requests_is_answered_one_by_one(gateway):
    """Ten thousand in a row on one socket: each has its error, in bounded memory, and the socket still works."""
    bystander = await Bystander.arrive(gateway)
    alice, room_id, wire = await served(gateway)
    kinds = [("{", "json.malformed"), ("[]", "json.not_object"), ("{}", "type.missing"), ('{"type":"x"}', "type.unknown"),
             ('{"type":"ping","id":1.5}', "id.invalid"), ('{"type":"ack"}', "field.missing"),
             ('{"type":"subscribe","room_id":7}', "field.invalid"), ('{"type":"unsubscribe","room_id":"x"}', "subscription.none"),
             ('{"type":"send_message","room_id":"r_x","content":"y"}', "room.not_found"),
             ("[" * 1000 + "]" * 1000, "json.too_deep")]
    number = 10_000

    async def send_all():
        for start in range(0, number, 100):
            await wire.send(b"".join(frame_bytes(TEXT, kinds[index % len(kinds)][0]) for index in range(start, start + 100)))

    sending = asyncio.ensure_future(send_all())
    for index in range(number):
        event = await wire.text()
        assert (event["type"], event["code"]) == ("error", kinds[index % len(kinds)][1])
        if index % 2000 == 0:
            await bystander.say()
    await sending
    await wire.send_frame(TEXT, '{"type":"ping","id":"still here"}')
    assert (await wire.text())["re"] == "still here"
    await bystander.unharmed()
