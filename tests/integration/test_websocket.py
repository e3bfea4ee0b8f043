"""The WebSocket: handshake, hello, requests and their answers, subscriptions, and the protocol's edges (RFC 6455)."""

import asyncio
import json

import pytest
import websockets

from client import SUBPROTOCOL, new_tenant, open_socket
from shapes import assert_error_frame, assert_members, assert_time
from wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, FrameWire, close_bytes, frame_bytes

MESSAGE_BYTES_MAX = 256 * 1024


async def room_of(gateway, *user_ids, **settings):
    users = (await new_tenant(gateway)).users(*user_ids)
    return (await users[0].new_room("group", *users[1:], **settings), *users)


async def wire_of(user, subprotocol=None):
    """A socket of hand-made frames, past its hello when it has a subprotocol."""
    wire = await FrameWire.connect(user.gateway, user.headers, subprotocol)
    if subprotocol is not None:
        await wire.send_frame(TEXT, '{"type":"hello"}')
        await wire.text(lambda event: event["type"] == "welcome")
    return wire


async def assert_alive(wire):
    """The connection still answers requests."""
    await wire.send_frame(TEXT, '{"type":"ping","id":"alive"}')
    assert (await wire.text(lambda event: event.get("re") == "alive"))["type"] == "pong"


# --- handshake and hello ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ws", "/v1/ws", "/api/v1/ws"])
async def test_socket_opens_on_each_path(gateway, path):
    room_id, alice = await room_of(gateway, "alice")
    socket = await open_socket(gateway, alice.headers, [SUBPROTOCOL], path=path)
    assert socket.websocket.subprotocol == SUBPROTOCOL
    assert (await socket.hello())["user_id"] == "alice"


async def test_offered_compression_is_optional(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect_silent(compression="deflate")
    await socket.hello()
    await socket.message(room_id, "x" * 5000)
    assert (await socket.expect("message"))["content"] == "x" * 5000


async def test_unknown_subprotocol_is_not_negotiated(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await open_socket(gateway, alice.headers, ["soap", SUBPROTOCOL])
    assert socket.websocket.subprotocol == SUBPROTOCOL
    wire = await FrameWire.open(gateway)
    answer = await wire.upgrade(alice.headers, "soap")
    assert answer.status in (101, 400) and "sec-websocket-protocol" not in answer.headers, answer


@pytest.mark.parametrize("change", [{"Sec-WebSocket-Version": "8"}, {"Sec-WebSocket-Key": "too short"},
                                    {"Sec-WebSocket-Version": ""}])
async def test_malformed_handshake_is_refused(gateway, change):
    room_id, alice = await room_of(gateway, "alice")
    answer = await (await FrameWire.open(gateway)).upgrade({**alice.headers, **change})
    assert answer.status in (400, 426), answer


async def test_upgrade_route_without_upgrade_is_refused(gateway):
    room_id, alice = await room_of(gateway, "alice")
    (await alice.get("/ws")).problem(400, 426)


async def test_hello_is_answered_by_a_welcome(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abc")
    (await bob.post("/acks", {"room_id": room_id, "seq": 2})).ok()
    (await bob.post("/reads", {"room_id": room_id, "seq": 1})).ok()
    socket = await bob.connect()
    assert_members(socket.welcome, ("session_id", "user_id", "server_time", "limits", "rooms"))
    assert socket.welcome["user_id"] == "bob" and isinstance(socket.welcome["limits"], dict)
    assert_time(socket.welcome["server_time"])
    room = socket.room(room_id)
    assert {name: room[name] for name in ("head", "delivered", "read")} == {"head": 3, "delivered": 2, "read": 1}
    assert room["epoch"] >= 1
    other = await bob.connect()
    assert other.welcome["session_id"] != socket.welcome["session_id"]


async def test_hello_with_an_id_is_answered_with_it(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect_silent()
    await socket.send("hello", id="h-1")
    assert (await socket.expect("welcome"))["re"] == "h-1"


async def test_rooms_all_hears_all_and_list_hears_the_listed_and_none_hears_none(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    rooms = [await alice.new_room("group", bob) for _ in range(3)]
    of_all, of_list, of_none = await bob.connect(rooms="all"), await bob.connect(rooms=rooms[:1]), \
        await bob.connect(rooms="none")
    later = await alice.new_room("group", bob)
    for room_id in [*rooms, later]:
        await alice.send(room_id, "x")
    for room_id in [*rooms, later]:
        await of_all.expect("message", room_id=room_id)
    await of_list.expect("message", room_id=rooms[0])
    for room_id in [*rooms[1:], later]:
        await of_list.expect_silence(room_id, 0.1)
    for room_id in [*rooms, later]:
        await of_none.expect_silence(room_id, 0.1)


async def test_foreign_room_in_hello_gives_nothing(gateway):
    room_id, alice = await room_of(gateway, "alice", is_private=True)
    eve = alice.tenant.user("eve")
    socket = await eve.connect_silent()
    await socket.send("hello", rooms=[room_id, "no-such-room"], resume={room_id: [1, 0]})
    answer = await socket.next()
    assert answer["type"] in ("welcome", "error"), answer
    assert answer["type"] == "error" or answer["rooms"] == []
    await alice.send(room_id, "secret")
    await socket.expect_silence(room_id)


async def test_second_hello_is_misuse(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    await socket.send("hello", id=1)
    try:
        answer = await socket.answer(1)
    except AssertionError:
        assert await socket.closed() == 4008
    else:
        assert_error_frame(answer)


async def test_request_before_hello_is_misuse(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect_silent()
    await socket.send("send_message", id=1, room_id=room_id, content="x")
    try:
        answer = await socket.answer(1)
    except AssertionError:
        assert await socket.closed() == 4008
    else:
        assert_error_frame(answer)
    assert await alice.events(room_id) == []


async def test_nothing_is_pushed_before_hello(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect_silent()
    await alice.send(room_id, "x")
    await socket.expect_silence(room_id)


# --- requests and answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_id", [0, 1, -1, 9007199254740991, "", "7", "abc", "ä" * 32, "quote\" \\ \n"],
                         ids=lambda request_id: repr(request_id)[:20])
async def test_answer_carries_the_id_as_it_was(gateway, request_id):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect(rooms="none")
    for frame_type, expected in (("ping", "pong"), ("send_message", "ok"), ("no_such_type", "error"),
                                 ("ack", "error")):
        await socket.send(frame_type, id=request_id, room_id=room_id if expected == "ok" else "none", content="x",
                          seq=1)
        answer = await socket.take(lambda event: "re" in event, f"the answer to {frame_type}")
        assert answer["type"] == expected, answer
        assert answer["re"] == request_id and type(answer["re"]) is type(request_id), answer


@pytest.mark.parametrize("request_id", ["x" * 65, 1.5, True, [], {}, -1.0e3],
                         ids=lambda request_id: repr(request_id)[:20])
async def test_malformed_id_is_an_error(gateway, request_id):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect(rooms="none")
    await socket.send("send_message", id=request_id, room_id=room_id, content="x")
    assert_error_frame(await socket.next())
    assert (await socket.request("ping"))["type"] == "pong"
    assert await alice.events(room_id) == []


async def test_without_id_only_errors_are_answered(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    await socket.send("send_message", room_id=room_id, content="x")
    push = await socket.expect("message", content="x")
    assert "re" not in push
    await socket.send("send_message", room_id="no-such-room", content="x")
    assert_error_frame(await socket.expect("error"))
    await socket.send("ack", room_id=room_id, seq=1)
    assert (await socket.request("ping"))["type"] == "pong"
    assert [event for event in socket.waiting if event["type"] in ("ok", "error")] == []


@pytest.mark.parametrize("text", ["", "{", "nonsense", "[]", "null", '"hello"', "7", '{"type":"ping"', "{}",
                                  '{"type":7,"id":1}', '{"type":null}', '{"type":"ping"}{"type":"ping"}',
                                  '{"type":"ping","x":' + "[" * 500 + "]" * 500 + "}"],
                         ids=lambda text: repr(text[:40]))
async def test_malformed_frame_is_an_error_and_the_connection_stays(gateway, text):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect(rooms="none")
    await socket.send_text(text)
    assert_error_frame(await socket.next())
    assert (await socket.request("ping"))["type"] == "pong"


async def test_unknown_type_is_an_error_with_its_id(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    refused = await socket.refused("make_coffee")
    assert refused["temporary"] is False


async def test_errors_have_the_codes_of_rest(gateway):
    room_id, alice = await room_of(gateway, "alice", is_private=False)
    eve = alice.tenant.user("eve")
    socket = await eve.connect()
    await socket.refused("send_message", "room.not_member", room_id=room_id, content="x")
    by_rest = (await eve.post("/rooms/no-such-room/messages", {"content": "x"})).problem(404)
    await socket.refused("send_message", by_rest["code"], room_id="no-such-room", content="x")


async def test_many_requests_in_flight_are_all_answered(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    ids = [await socket.begin("send_message", room_id=room_id, content=f"{number}") for number in range(600)]
    answers = [await socket.answer(request_id) for request_id in ids]
    assert [answer["seq"] for answer in answers] == list(range(1, 601))
    assert [push["content"] for push in await socket.collect(room_id, 600)] == [f"{number}" for number in range(600)]


# --- subscriptions ------------------------------------------------------------------------------------------------


async def test_subscribe_starts_at_the_live_position(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await alice.send_many(room_id, "abc")
    socket = await alice.connect(rooms="none")
    assert (await socket.ok("subscribe", room_id=room_id))["head"] == 3
    await alice.send(room_id, "d")
    assert [event["seq"] for event in await socket.collect(room_id, 4)] == [4]


async def test_subscribe_after_a_seq_replays_from_there(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await alice.send_many(room_id, "abcde")
    socket = await alice.connect(rooms="none")
    assert (await socket.ok("subscribe", room_id=room_id, after_seq=2))["head"] == 5
    await alice.send(room_id, "f")
    assert [event["content"] for event in await socket.collect(room_id, 6)] == list("cdef")


async def test_unsubscribed_room_is_not_heard(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    socket, listener = await bob.connect(), await bob.connect()
    await alice.send(room_id, "heard")
    await socket.expect("message", content="heard")
    await socket.ok("unsubscribe", room_id=room_id)
    await alice.send(room_id, "not heard")
    await listener.expect("message", content="not heard")
    await socket.expect_silence(room_id)
    await socket.ok("subscribe", room_id=room_id, after_seq=1)
    await socket.expect("message", content="not heard")


async def test_subscribe_to_a_foreign_room_is_refused(gateway):
    room_id, alice = await room_of(gateway, "alice", is_private=True)
    public_id = await alice.new_room("group", is_private=False)
    socket = await alice.tenant.user("eve").connect()
    unknown = await socket.refused("subscribe", room_id="no-such-room")
    await socket.refused("subscribe", unknown["code"], room_id=room_id)
    await socket.refused("subscribe", "room.not_member", room_id=public_id)
    await alice.send(room_id, "secret")
    await socket.expect_silence(room_id)


# --- sockets served at once -----------------------------------------------------------------------------------------


async def test_automatic_socket_gets_what_it_missed_and_then_live(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abcdef")
    (await bob.post("/acks", {"room_id": room_id, "seq": 2})).ok()
    socket = await bob.connect_automatic()
    resumed = await socket.next()
    assert {name: resumed[name] for name in ("type", "room_id", "recovered", "from", "head")} == {
        "type": "resumed", "room_id": room_id, "recovered": True, "from": 3, "head": 6}
    assert resumed["epoch"] >= 1
    await alice.send(room_id, "g")
    assert [event["content"] for event in await socket.collect(room_id, 7)] == list("cdefg")


async def test_automatic_socket_acks_and_comes_back_without_repetition(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abc")
    first = await bob.connect_automatic()
    await first.collect(room_id, 3)
    await first.ok("ack", room_id=room_id, seq=3)
    first.drop()
    await alice.send(room_id, "d")
    second = await bob.connect_automatic()
    assert (await second.expect("resumed", room_id=room_id))["from"] == 4
    assert [event["content"] for event in await second.collect(room_id, 4)] == ["d"]


async def test_automatic_socket_does_everything_else_too(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect_automatic()
    assert (await socket.message(room_id, "x"))["seq"] == 1
    await socket.expect("message", content="x")
    assert len((await socket.ok("history", room_id=room_id, after_seq=0, limit=10))["items"]) == 1


async def test_late_hello_is_welcomed_but_changes_nothing(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect_automatic()
    assert (await socket.hello())["user_id"] == "alice"
    for late in ({"rooms": "none"}, {"rooms": [room_id]}, {"resume": {room_id: [1, 0]}}):
        await socket.send("hello", **late)
        assert_error_frame(await socket.expect("error", code="hello.late"))
    await alice.send(room_id, "still heard")
    await socket.expect("message", content="still heard")


# --- frames (RFC 6455) ----------------------------------------------------------------------------------------------


@pytest.fixture(params=[None, SUBPROTOCOL], ids=["automatic", "with hello"])
def subprotocol(request):
    return request.param


async def test_ping_frames_are_answered_with_their_payload(gateway, subprotocol):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice, subprotocol)
    for payload in (b"", b"carillon", bytes(range(125))):
        await wire.send_frame(PING, payload)
        while True:
            opcode, echoed = await wire.frame()
            if opcode == PONG:
                break
        assert echoed == payload
    await wire.send_frame(PONG, b"unasked")
    await assert_alive(wire)


async def test_fragmented_message_with_control_frames_between_is_one_message(gateway, subprotocol):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice, subprotocol)
    text = json.dumps({"type": "send_message", "id": 1, "room_id": room_id, "content": "Zür🔔ich"},
                      ensure_ascii=False).encode()
    pieces = [text[at:at + 7] for at in range(0, len(text), 7)]  # cuts characters in the middle, too
    for index, piece in enumerate(pieces):
        await wire.send_frame(TEXT if index == 0 else CONTINUATION, piece, final=index == len(pieces) - 1)
        await wire.send_frame(PING, b"%d" % index)
    pongs = []
    ok = None
    while ok is None or len(pongs) < len(pieces):
        opcode, payload = await wire.frame()
        if opcode == PONG:
            pongs.append(payload)
        elif opcode == TEXT and json.loads(payload).get("re") == 1:
            ok = json.loads(payload)
    assert pongs == [b"%d" % index for index in range(len(pieces))]
    assert ok["type"] == "ok" and ok["seq"] == 1
    assert (await alice.messages(room_id, after_seq=0))[0]["content"] == "Zür🔔ich"


async def test_frames_may_arrive_byte_by_byte_or_all_at_once(gateway):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice)
    for byte in frame_bytes(TEXT, '{"type":"ping","id":"slowly"}'):
        await wire.send(bytes([byte]))
        await asyncio.sleep(0.001)
    await wire.text(lambda event: event.get("re") == "slowly")
    await wire.send(b"".join(frame_bytes(TEXT, '{"type":"ping","id":%d}' % number) for number in range(200)))
    assert [(await wire.text(lambda event: event["type"] == "pong"))["re"] for _ in range(200)] == list(range(200))


async def test_message_at_the_bound_is_taken_and_one_above_closes_with_1009(gateway, subprotocol):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice, subprotocol)
    head, tail = b'{"type":"ping","id":1,"pad":"', b'"}'
    await wire.send_frame(TEXT, head + b"x" * (MESSAGE_BYTES_MAX - len(head) - len(tail)) + tail)
    assert (await wire.text(lambda event: event.get("re") == 1))["type"] == "pong"
    await wire.send_frame(TEXT, head + b"x" * (MESSAGE_BYTES_MAX - len(head) - len(tail) + 1) + tail)
    assert await wire.close_frame() == 1009


async def test_oversize_is_refused_from_its_header_alone(gateway):
    """No buffer is grown towards a length that will be refused."""
    room_id, alice = await room_of(gateway, "alice")
    for length in (MESSAGE_BYTES_MAX + 1, 1 << 40, (1 << 63) - 1):
        wire = await wire_of(alice)
        await wire.send_frame(TEXT, b'{"type"', claimed_length=length)
        assert await wire.close_frame() == 1009


async def test_oversize_in_fragments_closes_with_1009(gateway):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice)
    await wire.send_frame(TEXT, b'{"type":"ping","pad":"', final=False)
    for _ in range(5):
        await wire.send_frame(CONTINUATION, b"x" * 60_000, final=False)
    assert await wire.close_frame() == 1009


@pytest.mark.parametrize("payload", [b'{"type":"\xff"}', b'{"type":"ping","x":"\xc3"}', b"\xed\xa0\x80",
                                     b"\xf5\x80\x80\x80", b"\xc0\x80", b'"\xf0\x9f\x94'])
async def test_invalid_utf8_closes_with_1007(gateway, payload):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice)
    await wire.send_frame(TEXT, payload)
    assert await wire.close_frame() == 1007


async def test_invalid_utf8_is_refused_at_its_first_byte(gateway):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice)
    await wire.send_frame(TEXT, b'{"type":"\xff', final=False)
    assert await wire.close_frame() == 1007


@pytest.mark.parametrize("frames", [
    [frame_bytes(TEXT, '{"type":"ping"}', masked=False)],
    [frame_bytes(TEXT, '{"type":"ping"}', reserved=4)],
    [frame_bytes(TEXT, '{"type":"ping"}', reserved=1)],
    [frame_bytes(3, "x")],
    [frame_bytes(11, "x")],
    [frame_bytes(CONTINUATION, "x")],
    [frame_bytes(TEXT, "{", final=False), frame_bytes(TEXT, "}")],
    [frame_bytes(PING, "x", final=False)],
    [frame_bytes(PING, b"x" * 126)],
    [frame_bytes(CLOSE, b"x")],
    [frame_bytes(CLOSE, close_bytes(1005))],
    [frame_bytes(CLOSE, close_bytes(999))],
    [frame_bytes(CLOSE, close_bytes(1016))],
    [frame_bytes(TEXT, "", claimed_length=(1 << 64) - 1)],
], ids=["unmasked", "RSV1", "RSV3", "opcode 3", "opcode 11", "continuation of nothing", "text within text",
        "fragmented ping", "long ping", "close of one byte", "close 1005", "close 999", "close 1016",
        "length with the top bit"])
async def test_protocol_error_closes_with_1002(gateway, frames):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice)
    await wire.send(b"".join(frames))
    assert await wire.close_frame() == 1002
    await wire.reply_to_close(1002)
    await wire.assert_ended(half_close=True)


async def test_close_reason_must_be_utf8(gateway):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice)
    await wire.send_frame(CLOSE, close_bytes(1000, b"\xff"))
    assert await wire.close_frame() == 1007


@pytest.mark.parametrize("payload, codes", [(close_bytes(1000, "bye".encode()), (1000,)), (b"", (1000, 1005)),
                                            (close_bytes(4000), (1000, 4000)), (close_bytes(1001), (1000, 1001))])
async def test_close_is_answered_and_the_connection_ends(gateway, subprotocol, payload, codes):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice, subprotocol)
    await wire.send_frame(CLOSE, payload)
    assert await wire.close_frame() in codes
    await wire.assert_ended()


async def test_nothing_after_a_close_is_served(gateway):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice)
    late = json.dumps({"type": "send_message", "room_id": room_id, "content": "too late"})
    await wire.send(frame_bytes(CLOSE, close_bytes(1000)) + frame_bytes(TEXT, late))
    assert await wire.close_frame() == 1000
    await alice.send(room_id, "fence")
    assert [event["content"] for event in await alice.events(room_id)] == ["fence"]


async def test_binary_frame_is_an_error_or_closes_with_1003(gateway, subprotocol):
    room_id, alice = await room_of(gateway, "alice")
    wire = await wire_of(alice, subprotocol)
    await wire.send_frame(BINARY, json.dumps({"type": "send_message", "room_id": room_id, "content": "x"}))
    while True:
        opcode, payload = await wire.frame()
        if opcode == CLOSE:
            assert int.from_bytes(payload[:2], "big") == 1003
            break
        if json.loads(payload)["type"] == "error":
            assert_error_frame(json.loads(payload))
            break
    assert await alice.events(room_id) == []


async def test_vanished_client_does_not_disturb_the_room(gateway):
    room_id, alice, bob, carol = await room_of(gateway, "alice", "bob", "carol")
    listener = await bob.connect()
    for number in range(20):
        gone = await carol.connect()
        gone.drop()
        await alice.send(room_id, f"{number}")
    assert [push["content"] for push in await listener.collect(room_id, 20)] == [f"{number}" for number in range(20)]


async def test_library_clients_close_cleanly(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    await socket.close()
    assert socket.websocket.close_code == 1000
    with pytest.raises(websockets.ConnectionClosed):
        await socket.next()
