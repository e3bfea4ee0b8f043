"""Messages: what may be sent, what comes back, and the room's log."""

import asyncio
import json

import aiohttp
import pytest

from client import new_tenant
from shapes import MESSAGE, MESSAGE_PUSH, assert_gapless, assert_members, assert_time

CONTENT_CHARS_MAX = 10_000


async def room_of(gateway, *user_ids, **settings):
    """A group room of those users, the first its admin: (room_id, user, …)."""
    users = (await new_tenant(gateway)).users(*user_ids)
    return (await users[0].new_room("group", *users[1:], **settings), *users)


# --- one message --------------------------------------------------------------------------------------------------


async def test_sent_message_reads_back_whole(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    sent = await alice.send(room_id, "héllo", meta={"a": [1, None]}, message_type="note", client_id="c-1")
    assert (sent["room_id"], sent["seq"]) == (room_id, 1)
    assert_time(sent["created_at"])
    assert "content" not in sent
    message, = await bob.messages(room_id, after_seq=0)
    assert_members(message, MESSAGE)
    assert {name: message[name] for name in MESSAGE} == {
        "message_id": sent["message_id"], "room_id": room_id, "seq": 1, "sender_id": "alice", "content": "héllo",
        "meta": {"a": [1, None]}, "message_type": "note", "client_id": "c-1", "reply_to": None,
        "created_at": sent["created_at"], "edited_at": None, "deleted_at": None}


async def test_members_that_were_not_sent_are_null(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await alice.send(room_id, "bare")
    message, = await alice.messages(room_id, after_seq=0)
    assert [message[name] for name in ("meta", "client_id", "reply_to", "edited_at", "deleted_at")] == [None] * 5
    assert message["message_type"] == "text"


async def test_message_by_websocket_is_the_same_as_by_rest(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    ok = await socket.message(room_id, "by socket", meta=[1], client_id="w", message_type="note")
    assert_members(ok, ("type", "re", "room_id", "message_id", "seq", "created_at"))
    assert (ok["room_id"], ok["seq"]) == (room_id, 1) and "content" not in ok
    assert_time(ok["created_at"])
    message, = await alice.messages(room_id, after_seq=0)
    assert [message[name] for name in ("message_id", "seq", "content", "meta", "client_id", "message_type",
                                       "created_at")] == \
        [ok["message_id"], 1, "by socket", [1], "w", "note", ok["created_at"]]


async def test_message_ids_are_unique(gateway):
    room_id, alice = await room_of(gateway, "alice")
    other_id = await alice.new_room("group")
    sent = await alice.send_many(room_id, "abc") + await alice.send_many(other_id, "abc")
    assert len({message["message_id"] for message in sent}) == 6


async def test_created_at_never_goes_backwards(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await asyncio.gather(*(alice.send(room_id, f"{number}") for number in range(30)))
    times = [message["created_at"] for message in await alice.messages(room_id, after_seq=0)]
    assert len(times) == 30 and times == sorted(times)


async def test_unknown_members_are_ignored(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await alice.send(room_id, "x", colour="red", nested={"deep": [1]})
    socket = await alice.connect()
    await socket.message(room_id, "y", colour="red")
    assert "colour" not in (await alice.messages(room_id, after_seq=0))[0]


# --- content and its bound ------------------------------------------------------------------------------------------


CONTENTS = ["plain", " leading and trailing ", "line\nbreak\ttab\r", '"quoted" \\ and / </script>',
            "\x01\x1f\x7f", "naïve Ünïcödé", "日本語", "🔔👩‍👩‍👧‍👦🏳️‍🌈", "עברית مرحبا", "\u2028\u2029\ufeff",
            "{\"type\":\"message\"}", "0", "null"]


async def test_content_comes_back_as_sent(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    for content in CONTENTS:
        await alice.send(room_id, content)
        await socket.message(room_id, content)
    twice = [content for content in CONTENTS for _ in range(2)]
    assert [message["content"] for message in await alice.messages(room_id, after_seq=0)] == twice
    assert [event["content"] for event in await socket.collect(room_id, len(twice))] == twice


@pytest.mark.parametrize("character", ["x", "é", "字", "🔔", "\n", '"'])
async def test_content_is_bounded_in_characters_not_bytes(gateway, character):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    fits, exceeds = character * CONTENT_CHARS_MAX, character * (CONTENT_CHARS_MAX + 1)
    await alice.send(room_id, fits)
    await socket.message(room_id, fits)
    by_rest = (await alice.post(f"/rooms/{room_id}/messages", {"content": exceeds})).problem(400, 413)
    by_socket = await socket.refused("send_message", room_id=room_id, content=exceeds)
    assert by_rest["code"] == by_socket["code"]
    assert [message["content"] for message in await alice.messages(room_id, after_seq=0)] == [fits, fits]


@pytest.mark.parametrize("body, field", [
    ('{}', "content"), ('{"content":null}', "content"), ('{"content":7}', "content"), ('{"content":["x"]}', "content"),
    ('{"content":"x","client_id":7}', "client_id"),
    ('{"content":"x","client_id":"%s"}' % ("c" * 65), "client_id"),
    ('{"content":"x","message_type":7}', "message_type"),
    ('{"content":"x","message_type":"%s"}' % ("t" * 33), "message_type"),
], ids=lambda value: value[:40])
async def test_malformed_message_is_refused_with_its_field(gateway, body, field):
    room_id, alice = await room_of(gateway, "alice")
    problem = (await alice.call("POST", f"/rooms/{room_id}/messages", raw=body)).problem(400)
    assert problem["field"] == field
    socket = await alice.connect()
    refused = await socket.refused("send_message", room_id=room_id, **json.loads(body))
    assert refused["code"] == problem["code"]
    assert await alice.events(room_id) == []


@pytest.mark.parametrize("body", ["", "{", "[]", '"x"', "null", '{"content":"x"', '{"content":"x"} x',
                                  "{'content':'x'}", '{"content":"x",}', b'{"content":"\xff\xfe"}',
                                  b'{"content":"\xed\xa0\x80"}',
                                  b'{"content":"\xc0\x80"}', '{"content":"a\nb"}', '{"content":"\\x"}',
                                  '{"content":"x","meta":' + "[" * 500 + "]" * 500 + "}"],
                         ids=lambda body: repr(body[:40]))
async def test_body_that_is_no_json_object_is_refused(gateway, body):
    room_id, alice = await room_of(gateway, "alice")
    (await alice.call("POST", f"/rooms/{room_id}/messages", raw=body)).problem(400)
    assert await alice.events(room_id) == []


# --- meta ----------------------------------------------------------------------------------------------------------


METAS = ["null", "true", "false", "0", "-0", "1.50", "1E+2", '""', '"text"', "[]", "{}",
         "12345678901234567890123456789", "-9007199254740993", "3.14159265358979323846264338327950288", "1e400",
         '{"b":1,"a":2}', '{"a":1,"a":2}', '{"nested":{"deep":[[[[{"x":null}]]]]}}', '{"é":"\\u00e9\\ud83d\\udd14🔔"}',
         '{ "spaced" : [ 1 , 2 ] }', '{"slash":"\\/"}', '{"content":"not the content"}', '[0.1,1e-7,1E7]']


@pytest.mark.parametrize("meta", METAS)
async def test_meta_is_returned_exactly_as_sent(gateway, meta):
    """Byte for byte: a reader may use any number type, so the text itself must survive."""
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    body = '{"content":"x","meta":%s,"client_id":"m"}' % meta
    (await alice.call("POST", f"/rooms/{room_id}/messages", raw=body)).ok(201)
    await socket.send_text('{"type":"send_message","id":1,"room_id":"%s","meta":%s,"content":"x"}' % (room_id, meta))
    pushes = await socket.collect(room_id, 2)
    pages = [(await alice.get(f"/rooms/{room_id}/{kind}", after_seq=0)).text for kind in ("messages", "events")]
    member = f'"meta":{meta}'
    assert [push.text.count(member) for push in pushes] == [1, 1], pushes
    assert [page.count(member) for page in pages] == [2, 2], pages


async def test_meta_is_bounded(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await alice.send(room_id, "x", meta="m" * 60_000)
    (await alice.post(f"/rooms/{room_id}/messages", {"content": "x", "meta": "m" * 70_000})).problem(400, 413)
    assert len(await alice.events(room_id)) == 1


# --- history --------------------------------------------------------------------------------------------------------


async def test_history_pages_forwards_and_backwards_in_ascending_order(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await alice.send_many(room_id, [f"{number}" for number in range(1, 21)])

    async def seqs(**params):
        return [message["seq"] for message in await alice.messages(room_id, **params)]

    assert await seqs(after_seq=0, limit=5) == [1, 2, 3, 4, 5]
    assert await seqs(after_seq=5, limit=5) == [6, 7, 8, 9, 10]
    assert await seqs(after_seq=18, limit=5) == [19, 20]
    assert await seqs(after_seq=20) == []
    assert await seqs(after_seq=1000) == []
    assert await seqs(before_seq=21, limit=5) == [16, 17, 18, 19, 20]
    assert await seqs(before_seq=16, limit=5) == [11, 12, 13, 14, 15]
    assert await seqs(before_seq=4, limit=5) == [1, 2, 3]
    assert await seqs(before_seq=1) == []
    assert await seqs(before_seq=1000, limit=3) == [18, 19, 20]


async def test_history_limit_is_50_unless_told(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    for number in range(60):
        await socket.send("send_message", room_id=room_id, content=f"{number}")
    await socket.collect(room_id, 60)
    for kind in ("messages", "events"):
        assert_gapless((await alice.get(f"/rooms/{room_id}/{kind}", after_seq=0)).ok()["items"], 1, 50)
        assert_gapless((await alice.get(f"/rooms/{room_id}/{kind}", before_seq=61)).ok()["items"], 11, 60)
        assert_gapless((await alice.get(f"/rooms/{room_id}/{kind}", after_seq=0, limit=1000)).ok()["items"], 1, 60)


async def test_history_walks_by_next(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await alice.send_many(room_id, [f"{number}" for number in range(1, 11)])
    for kind in ("messages", "events"):
        walked, params = [], {"after_seq": 0}
        for _ in range(10):
            page = (await alice.get(f"/rooms/{room_id}/{kind}", limit=4, **params)).ok()
            walked += page["items"]
            if page["next"] is None:
                break
            params = {"cursor": page["next"]}
        assert_gapless(walked, 1, 10)


@pytest.mark.parametrize("params", [{"limit": "x"}, {"limit": "-1"}, {"after_seq": "x"}, {"after_seq": "-1"},
                                    {"before_seq": "1.5"}, {"after_seq": "99999999999999999999999"},
                                    {"cursor": "not-a-cursor"}])
async def test_malformed_paging_is_refused(gateway, params):
    room_id, alice = await room_of(gateway, "alice")
    (await alice.get(f"/rooms/{room_id}/messages", **params)).problem(400)
    (await alice.get(f"/rooms/{room_id}/events", **params)).problem(400)


async def test_limit_above_1000_gives_no_more_than_1000(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect()
    for number in range(1010):
        await socket.send("send_message", room_id=room_id, content=f"{number}")
        if number % 100 == 99:  # stay well below what may be in flight
            await socket.collect(room_id, number + 1)
    await socket.collect(room_id, 1010)
    assert_gapless((await alice.get(f"/rooms/{room_id}/events", after_seq=0, limit=1000)).ok()["items"], 1, 1000)
    above = await alice.get(f"/rooms/{room_id}/events", after_seq=0, limit=5000)
    if above.status == 200:
        assert_gapless(above.json()["items"], 1, 1000)
    else:
        above.problem(400)


async def test_history_over_websocket_is_the_same(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await alice.send_many(room_id, [f"{number}" for number in range(1, 11)])
    socket = await alice.connect()
    for params in ({"after_seq": 0, "limit": 4}, {"before_seq": 9, "limit": 3}, {"after_seq": 10, "limit": 5}):
        by_rest = (await alice.get(f"/rooms/{room_id}/messages", **params)).ok()
        by_socket = await socket.ok("history", room_id=room_id, **params)
        assert by_socket["items"] == by_rest["items"]
        assert (by_socket["next"] is None) == (by_rest["next"] is None)
    await socket.refused("history", room_id="no-such-room", limit=1)


async def test_event_log_holds_the_pushes_themselves(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob", is_private=False)
    socket = await bob.connect()
    await alice.send(room_id, "first", meta={"x": 1}, client_id="c")
    (await alice.tenant.user("carol").post(f"/rooms/{room_id}/join")).succeeded()
    await alice.send(room_id, "second")
    (await alice.tenant.user("carol").post(f"/rooms/{room_id}/leave")).succeeded()
    pushes = await socket.collect(room_id, 4)
    assert [push["type"] for push in pushes] == ["message", "user_joined", "message", "user_left"]
    assert pushes == await bob.events(room_id)
    assert_members(pushes[0], MESSAGE_PUSH)
    page = (await bob.get(f"/rooms/{room_id}/events", before_seq=4, limit=2)).ok()["items"]
    assert page == pushes[1:3]


async def test_new_member_reads_the_whole_log(gateway):
    room_id, alice = await room_of(gateway, "alice", is_private=False)
    await alice.send_many(room_id, ["before", "they came"])
    bob = alice.tenant.user("bob")
    (await bob.post(f"/rooms/{room_id}/join")).succeeded()
    assert [message["content"] for message in await bob.messages(room_id, after_seq=0)] == ["before", "they came"]


async def test_acknowledged_messages_survive_a_kill(make_gateway):
    gateway = make_gateway()
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    socket = await alice.connect()
    for number in range(50):
        await socket.message(room_id, f"{number}", meta={"n": number})
    before = await alice.events(room_id)
    gateway.restart("kill")
    assert await bob.events(room_id) == before and len(before) == 50
    assert (await alice.send(room_id, "after"))["seq"] == 51


async def test_acknowledged_messages_survive_a_kill_in_the_middle(make_gateway):
    """Every `ok` that came is in the log after the kill, and nothing else took its seq."""
    gateway = make_gateway()
    room_id, alice = await room_of(gateway, "alice")
    acknowledged = {}

    async def sender(name):
        for number in range(2000):
            try:
                sent = await alice.send(room_id, f"{name}/{number}")
            except (aiohttp.ClientError, ConnectionError):  # the gateway is gone: this one is not acknowledged
                return
            acknowledged[sent["seq"]] = f"{name}/{number}"

    senders = [asyncio.create_task(sender(f"sender-{number}")) for number in range(4)]
    while len(acknowledged) < 100:
        await asyncio.sleep(0.005)
    gateway.kill()
    await asyncio.gather(*senders)
    gateway.start()
    events = await alice.events(room_id)
    assert_gapless(events, 1, len(events))
    stored = {event["seq"]: event["content"] for event in events}
    assert len(acknowledged) >= 100
    assert {seq: stored.get(seq) for seq in acknowledged} == acknowledged
