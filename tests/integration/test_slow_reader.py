"""A reader that does not keep up misses nothing, is let go in the end, and costs the others nothing."""

import asyncio
import time

from client import SUBPROTOCOL, Event, metric, new_tenant
from recorder import exercised, limit
from shapes import assert_gapless
from wire import CLOSE, TEXT, FrameWire, close_code

TOO_SLOW = 4200
FLOOD_MESSAGES = 150
FLOOD_META = "m" * 60_000  # bytes: 9 MB in all, above the queue's cap and what the kernel holds for one socket


async def stalled_reader(user):
    """A subscribed socket with a small window that reads its welcome and then stops."""
    wire = await FrameWire.connect(user.gateway, user.headers, SUBPROTOCOL, receive_buffer_bytes=8192)
    await wire.send_frame(TEXT, '{"type":"hello"}')
    return wire, await wire.text(lambda event: event["type"] == "welcome")


async def flood(sender, room_id):
    ids = [await sender.begin("send_message", room_id=room_id, content=f"{number}", meta=FLOOD_META)
           for number in range(FLOOD_MESSAGES)]
    for request_id in ids:
        assert (await sender.answer(request_id))["type"] == "ok"


async def rest_of(wire, last_seq):
    """What a reader that stalled finds when it reads on: its durable events up to last_seq, or up to the close frame,
    whose code is the second value."""
    events = []
    while not events or events[-1]["seq"] < last_seq:
        opcode, payload = await wire.frame()
        if opcode == CLOSE:
            return events, close_code(payload)
        if opcode == TEXT and Event(payload.decode()).is_durable:
            events.append(Event(payload.decode()))
    return events, None


async def slow_readers_closed(gateway):
    return await metric(gateway, "carillon_slow_readers_closed_total")


async def test_stalled_reader_misses_nothing_and_disturbs_nobody(gateway_of_each_size):
    """It is caught up on its own socket, or closed with 4200 and resumes: either way nothing is missing."""
    alice, bob, carol = (await new_tenant(gateway_of_each_size)).users("alice", "bob", "carol")
    room_id = await alice.new_room("group", bob, carol)
    wire, welcome = await stalled_reader(bob)
    listener, sender = await carol.connect(), await alice.connect(rooms="none")
    _, heard = await asyncio.gather(flood(sender, room_id), listener.collect(room_id, FLOOD_MESSAGES, timeout_s=20))
    assert_gapless(heard, 1, FLOOD_MESSAGES)

    events, code = await rest_of(wire, FLOOD_MESSAGES)
    assert code in (None, TOO_SLOW)
    assert_gapless(events, 1, len(events))
    if code == TOO_SLOW:
        again = await bob.connect(resume={room_id: [welcome["rooms"][0]["epoch"], len(events)]})
        assert (await again.expect("resumed", room_id=room_id))["recovered"] is True
        events += await again.collect(room_id, FLOOD_MESSAGES, timeout_s=20)
    assert_gapless(events, 1, FLOOD_MESSAGES)
    assert [event.text for event in events] == [event.text for event in heard]


async def reader_that_takes_nothing_is_let_go(gateway):
    """Takes half a minute; test_limits.py has it run beside others who are closed as late."""
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    before = await slow_readers_closed(gateway)
    wire, _ = await stalled_reader(bob)
    keeping_up, sender = await bob.connect(), await alice.connect(rooms="none")
    await flood(sender, room_id)
    assert_gapless(await keeping_up.collect(room_id, FLOOD_MESSAGES), 1, FLOOD_MESSAGES)
    deadline = time.monotonic() + 1.5 * limit("STALL_TIMEOUT_MS") / 1000
    while await slow_readers_closed(gateway) == before:
        assert time.monotonic() < deadline, "a reader that takes nothing is held for ever"
        await asyncio.sleep(0.2)
    assert await slow_readers_closed(gateway) == before + 1, "the reader that keeps up stays"
    assert (await keeping_up.request("ping"))["type"] == "pong"
    last = None
    while last is None:  # what the kernel still holds for it comes first
        opcode, payload = await wire.frame()
        last = close_code(payload) if opcode == CLOSE else None
    assert last == TOO_SLOW
    exercised("close code", str(last))
    wire.drop()


async def test_resume_longer_than_the_cap_does_not_count_as_slow(gateway):
    """A replay is paged as the socket drains, so even a small window gets all of it."""
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    epoch, _ = await bob.position(room_id)
    for number in range(100):
        await alice.send(room_id, f"{number}", meta=FLOOD_META)
    wire = await FrameWire.connect(gateway, bob.headers, SUBPROTOCOL, receive_buffer_bytes=8192)
    await wire.send_frame(TEXT, '{"type":"hello","resume":{"%s":[%d,0]}}' % (room_id, epoch))
    await asyncio.sleep(0.5)  # the replay meets a reader that does not read yet
    events = [await wire.text(lambda event: event.is_durable) for _ in range(100)]
    assert_gapless(events, 1, 100)
    await wire.send_frame(TEXT, '{"type":"ping","id":1}')
    await wire.text(lambda event: event.get("re") == 1)


async def test_reader_that_keeps_up_is_never_closed(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    listener, sender = await bob.connect(), await alice.connect(rooms="none")
    reading = asyncio.create_task(listener.collect(room_id, FLOOD_MESSAGES, timeout_s=30))
    for number in range(FLOOD_MESSAGES):
        await sender.message(room_id, f"{number}", meta=FLOOD_META)
    assert_gapless(await reading, 1, FLOOD_MESSAGES)
    assert (await listener.request("ping"))["type"] == "pong"
