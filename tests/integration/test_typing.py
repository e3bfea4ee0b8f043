"""Who types: told to the others in the room, throttled, and ended by whatever ends it."""

import asyncio
import time

import pytest

from client import Event, metric, new_tenant
from test_slow_reader import FLOOD_MESSAGES, flood, stalled_reader
from shapes import assert_gapless
from wire import TEXT

TIMEOUT_S = 10.0  # typing ends by itself after this
ROOMS = 400       # typing in so many is more than the 64 KiB that wait for one socket: 210 bytes each


def typing(room_id, user, action):
    return {"room_id": room_id, "user_id": user.user_id, "action": action}


async def test_start_and_stop_are_told_to_the_others(gateway_of_each_size):
    alice, bob, carol = (await new_tenant(gateway_of_each_size)).users("alice", "bob", "carol")
    room_id = await alice.new_room("group", bob, carol)
    writer, own = await alice.connect(), await alice.connect()
    listeners = [await bob.connect(), await bob.connect(), await carol.connect()]
    before = await metric(gateway_of_each_size, "carillon_typing_total")
    await writer.ok("typing.start", room_id=room_id)
    for listener in listeners:
        assert dict(await listener.expect("typing")) == {"type": "typing", **typing(room_id, alice, "start")}
    await writer.ok("typing.stop", room_id=room_id)
    for listener in listeners:
        await listener.expect("typing", **typing(room_id, alice, "stop"))
    await asyncio.gather(*(socket.expect_none("typing") for socket in (writer, own, *listeners)))
    assert await metric(gateway_of_each_size, "carillon_typing_total") == before + 2 * len(listeners)


async def test_a_burst_of_starts_and_stops_is_told_once(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("dm", bob)
    writer, listener = await alice.connect(), await bob.connect()
    for _ in range(5):
        await writer.ok("typing.start", room_id=room_id)
    await listener.expect("typing", **typing(room_id, alice, "start"))
    await writer.ok("typing.stop", room_id=room_id)
    await listener.expect("typing", **typing(room_id, alice, "stop"))
    for _ in range(5):
        await writer.ok("typing.start", room_id=room_id)
        await writer.ok("typing.stop", room_id=room_id)
    await writer.ok("typing.start", room_id=room_id)
    await listener.expect_none("typing", 0.5)
    await listener.expect("typing", **typing(room_id, alice, "start"))  # it still types when the time is over
    await listener.expect_none("typing")


async def test_a_message_ends_it(gateway_of_each_size):
    alice, bob = (await new_tenant(gateway_of_each_size)).users("alice", "bob")
    room_id, other = await alice.new_room("group", bob), await alice.new_room("group", bob)
    writer, listener = await alice.connect(), await bob.connect()
    for room in (room_id, other):
        await writer.ok("typing.start", room_id=room)
        await listener.expect("typing", **typing(room, alice, "start"))
    await alice.send(room_id, "done")  # however it is sent
    await listener.expect("typing", **typing(room_id, alice, "stop"))
    await listener.expect("message", room_id=room_id)
    await listener.expect_none("typing", room_id=other, action="stop")


async def test_it_ends_when_the_last_socket_goes_or_the_user_leaves(gateway_of_each_size):
    alice, bob = (await new_tenant(gateway_of_each_size)).users("alice", "bob")
    rooms = [await alice.new_room("group", bob) for _ in range(3)]
    writer, listener = await alice.connect(), await bob.connect()
    for room_id in rooms:
        await writer.ok("typing.start", room_id=room_id)
        await listener.expect("typing", **typing(room_id, alice, "start"))
    await bob.send(rooms[0], "somebody else's message ends nothing")
    await listener.expect_none("typing")
    await alice.call("POST", f"/rooms/{rooms[0]}/leave")
    await listener.expect("typing", **typing(rooms[0], alice, "stop"))
    writer.drop()
    for room_id in rooms[1:]:
        await listener.expect("typing", timeout_s=TIMEOUT_S - 2, **typing(room_id, alice, "stop"))


@pytest.mark.slow
async def test_it_ends_by_itself(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    writer, listener = await alice.connect(), await bob.connect()
    await writer.send("typing.start", room_id=room_id)  # nobody needs an answer
    await listener.expect("typing", **typing(room_id, alice, "start"))
    await listener.expect_none("typing", TIMEOUT_S - 3)
    await listener.expect("typing", timeout_s=20, **typing(room_id, alice, "stop"))


async def test_who_may_not_write_does_not_type(gateway):
    tenant = await new_tenant(gateway)
    alice, bob, carol = tenant.users("alice", "bob", "carol")
    public = await alice.new_room("group")
    hidden = await alice.new_room("group", is_private=True)
    channel = await alice.new_room("channel", bob)
    socket = await bob.connect()
    for operation in ("typing.start", "typing.stop"):
        await socket.refused(operation, "room.not_member", room_id=public)
        await socket.refused(operation, "room.not_found", room_id=hidden)
        await socket.refused(operation, "room.read_only", room_id=channel)
        await socket.refused(operation, "field.missing")
        await socket.refused(operation, "field.invalid", room_id=7)
        await socket.refused(operation, "room.not_found", room_id="lobby")
    foreign = await (await new_tenant(gateway)).user("alice").connect()
    await foreign.refused("typing.start", "room.not_found", room_id=public)


async def test_in_a_large_room_only_those_who_asked_are_told(make_gateway):
    gateway = make_gateway(limits__presence_room_members="2")
    alice, bob, carol = (await new_tenant(gateway)).users("alice", "bob", "carol")
    room_id = await alice.new_room("group", bob, carol)
    writer, asked, silent = await alice.connect(), await bob.connect(), await carol.connect()
    await asked.ok("presence.subscribe", room_id=room_id)
    await writer.ok("typing.start", room_id=room_id)
    await asked.expect("typing", **typing(room_id, alice, "start"))
    await silent.expect_none("typing")
    await asked.ok("presence.unsubscribe", room_id=room_id)
    await writer.ok("typing.stop", room_id=room_id)
    await asked.expect_none("typing")


async def test_a_reader_that_is_behind_misses_typing_and_no_message(gateway):
    """Typing is the first to be dropped, and is dropped alone."""
    tenant = await new_tenant(gateway)
    alice, bob, carol = tenant.user("alice"), tenant.user("bob"), tenant.user("c" * 128)
    room_id = await alice.new_room("group", bob)
    others = await asyncio.gather(*(carol.new_room("group", bob) for _ in range(ROOMS)))
    wire, _ = await stalled_reader(bob)
    sender, listener = await alice.connect(rooms="none"), await alice.connect()
    await asyncio.gather(flood(sender, room_id), listener.collect(room_id, FLOOD_MESSAGES, timeout_s=30))
    before = await metric(gateway, "carillon_ephemerals_dropped_total")
    typist = await carol.connect(rooms="none")
    requests = [await typist.begin("typing.start", room_id=other) for other in others]
    for request in requests:
        assert (await typist.answer(request))["type"] == "ok"
    await alice.send(room_id, "the last one")

    events, shown = [], 0
    while len(events) <= FLOOD_MESSAGES:
        opcode, payload = await wire.frame()
        event = Event(payload.decode()) if opcode == TEXT else {}
        if opcode == TEXT and event.is_durable:
            events.append(event)
        shown += event.get("type") == "typing" and event["action"] == "start"
    assert_gapless(events, 1, FLOOD_MESSAGES + 1)
    assert shown < ROOMS
    deadline = time.monotonic() + 10
    while (dropped := await metric(gateway, "carillon_ephemerals_dropped_total") - before) < ROOMS - shown:
        assert time.monotonic() < deadline, f"{shown} shown, {dropped} dropped"
        await asyncio.sleep(0.1)
