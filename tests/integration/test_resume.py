"""Coming back: a client that says where it stopped gets everything since, in order, or is told that it cannot."""

import asyncio
import random

import pytest

from client import new_tenant
from shapes import assert_gapless, assert_members


async def room_of(gateway, *user_ids, **settings):
    users = (await new_tenant(gateway)).users(*user_ids)
    return (await users[0].new_room("group", *users[1:], **settings), *users)


async def resume(user, room_id, epoch, seq):
    """A socket that resumes one room, and what it was told about it."""
    socket = await user.connect(resume={room_id: [epoch, seq]})
    return socket, await socket.expect("resumed", room_id=room_id)


async def test_resume_replays_what_was_missed_and_goes_on_live(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abcdef")
    epoch, _ = await bob.position(room_id)
    socket, resumed = await resume(bob, room_id, epoch, 2)
    assert_members(resumed, ("room_id", "epoch", "recovered", "from", "head"))
    assert (resumed["epoch"], resumed["recovered"], resumed["from"], resumed["head"]) == (epoch, True, 3, 6)
    await alice.send(room_id, "g")
    assert [event["content"] for event in await socket.collect(room_id, 7)] == list("cdefg")


async def test_resume_is_said_before_its_replay(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abc")
    epoch, _ = await bob.position(room_id)
    socket = await bob.connect_silent()
    await socket.send("hello", resume={room_id: [epoch, 0]})
    frames = [await socket.next() for _ in range(5)]
    assert [frame["type"] for frame in frames] == ["welcome", "resumed", "message", "message", "message"]


@pytest.mark.parametrize("start", ["warm", "cold"])
async def test_resume_holds_when_a_subscription_follows_at_once(make_gateway, start):
    gateway = make_gateway()
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abcde")
    epoch, _ = await bob.position(room_id)
    if start == "cold":
        gateway.restart("stop")
    socket = await bob.connect_silent()
    await socket.send("hello", resume={room_id: [epoch, 2]})
    await socket.send("subscribe", id="s", room_id=room_id)
    frames = [await socket.next() for _ in range(6)]
    kinds = [frame["type"] for frame in frames]
    assert sorted(kinds) == ["message"] * 3 + ["ok", "resumed", "welcome"]
    resumed = frames[kinds.index("resumed")]
    assert (resumed["recovered"], resumed["from"]) == (True, 3)
    assert_gapless([frame for frame in frames[kinds.index("resumed"):] if frame["type"] == "message"], 3, 5)


async def test_resume_at_the_head_replays_nothing(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abc")
    epoch, head = await bob.position(room_id)
    socket, resumed = await resume(bob, room_id, epoch, head)
    assert (resumed["recovered"], resumed["from"], resumed["head"]) == (True, 4, 3)
    await alice.send(room_id, "d")
    assert [event["seq"] for event in await socket.collect(room_id, 4)] == [4]


async def test_resume_from_the_beginning_replays_everything(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    epoch, head = await bob.position(room_id)
    assert head == 0
    await alice.send_many(room_id, "abc")
    socket, resumed = await resume(bob, room_id, epoch, 0)
    assert (resumed["recovered"], resumed["from"]) == (True, 1)
    assert_gapless(await socket.collect(room_id, 3), 1, 3)


async def test_replayed_events_are_the_pushes_themselves(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob", is_private=False)
    epoch, _ = await bob.position(room_id)
    live = await bob.connect()
    await alice.send(room_id, "with meta", meta={"n": 1}, client_id="c")
    (await alice.tenant.user("carol").post(f"/rooms/{room_id}/join")).succeeded()
    pushes = await live.collect(room_id, 2)
    socket, _ = await resume(bob, room_id, epoch, 0)
    assert await socket.collect(room_id, 2) == pushes


@pytest.mark.parametrize("position", [(0, 50), (0, 1_000_000), (1000, 1)],
                         ids=["above the head", "far above", "an epoch that never was"])
async def test_position_that_never_was_is_not_recovered(gateway, position):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abc")
    epoch, _ = await bob.position(room_id)
    socket, resumed = await resume(bob, room_id, epoch + position[0], position[1])
    assert resumed["recovered"] is False and resumed["head"] == 3
    assert 1 <= resumed["from"] <= 4
    await alice.send(room_id, "d")
    assert_gapless(await socket.collect(room_id, 4), resumed["from"], 4)


@pytest.mark.parametrize("positions", ['"x"', "[]", "7", '{"%s":1}', '{"%s":[1]}', '{"%s":["1","2"]}', '{"%s":[1,-1]}',
                                       '{"%s":[1,2,3]}'])
async def test_malformed_position_is_an_error(gateway, positions):
    room_id, alice = await room_of(gateway, "alice")
    socket = await alice.connect_silent()
    await socket.send_text('{"type":"hello","id":1,"resume":%s}' % (positions.replace("%s", room_id)))
    assert (await socket.next())["type"] == "error"


async def test_many_rooms_resume_at_once(gateway_of_each_size):
    alice, bob = (await new_tenant(gateway_of_each_size)).users("alice", "bob")
    rooms = [await alice.new_room("group", bob) for _ in range(30)]
    for room_id in rooms:
        await alice.send_many(room_id, "abc")
    epoch, _ = await bob.position(rooms[0])
    socket = await bob.connect(resume={room_id: [epoch, index % 4] for index, room_id in enumerate(rooms)})
    for index, room_id in enumerate(rooms):
        resumed = await socket.expect("resumed", room_id=room_id)
        assert (resumed["recovered"], resumed["from"], resumed["head"]) == (True, index % 4 + 1, 3)
        await alice.send(room_id, "d")
        assert_gapless(await socket.collect(room_id, 4), index % 4 + 1, 4)


async def test_no_hole_and_no_repetition_while_others_send(gateway_of_each_size):
    """Clients come and go at random moments while four senders write; each says where it stopped, and together its
    connections saw every event once."""
    room_id, alice, bob = await room_of(gateway_of_each_size, "alice", "bob")
    epoch, _ = await bob.position(room_id)
    total = 400
    senders = [await alice.connect(rooms="none") for _ in range(4)]

    async def write(socket):
        for number in range(total // len(senders)):
            await socket.message(room_id, f"{number}")

    async def read(seed):
        moments, seen = random.Random(seed), []
        while len(seen) < total:
            socket, resumed = await resume(bob, room_id, epoch, len(seen))
            assert resumed["recovered"] is True and resumed["from"] == len(seen) + 1
            seen += await socket.collect(room_id, min(total, len(seen) + moments.randrange(1, 60)), timeout_s=30)
            socket.drop()
        assert_gapless(seen, 1, total)

    await asyncio.gather(*(write(socket) for socket in senders), *(read(seed) for seed in range(6)))


async def test_automatic_sockets_see_no_hole_while_others_send(gateway_of_each_size):
    room_id, alice, bob = await room_of(gateway_of_each_size, "alice", "bob")
    total = 300

    async def write():
        socket = await alice.connect(rooms="none")
        for number in range(total):
            await socket.message(room_id, f"{number}")

    async def read(device):
        moments, acked = random.Random(device), 0
        while acked < total:
            socket = await bob.on_device(f"device-{device}").connect_automatic()
            resumed = await socket.expect("resumed", room_id=room_id)
            upto = min(total, resumed["from"] - 1 + moments.randrange(1, 60))
            seen = await socket.collect(room_id, upto, timeout_s=30)
            if acked > 0:  # before its first ack the device starts where the user's other devices are
                assert resumed["from"] == acked + 1
            assert_gapless(seen, resumed["from"], upto)
            await socket.ok("ack", room_id=room_id, seq=upto)
            acked = upto
            socket.drop()

    await asyncio.gather(write(), *(read(device) for device in range(4)))


@pytest.mark.parametrize("length", [1000, 3000])
async def test_long_replay_is_whole_and_in_order(gateway, length):
    """Longer than any one read of the store, and live events arrive meanwhile."""
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    epoch, _ = await bob.position(room_id)
    socket = await alice.connect(rooms="none")
    for start in range(0, length, 200):
        ids = [await socket.begin("send_message", room_id=room_id, content=f"{number}" + "x" * 200)
               for number in range(start, start + 200)]
        for request_id in ids:
            assert (await socket.answer(request_id))["type"] == "ok"
    reader, resumed = await resume(bob, room_id, epoch, 0)
    assert resumed["from"] == 1
    await asyncio.gather(*(alice.send(room_id, "live") for _ in range(20)))
    assert_gapless(await reader.collect(room_id, length + 20, timeout_s=30), 1, length + 20)


# --- restarts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_resume_across_a_restart(make_gateway, how):
    gateway = make_gateway()
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    socket = await bob.connect()
    epoch = socket.room(room_id)["epoch"]
    await alice.send_many(room_id, "abcdef")
    seen = await socket.collect(room_id, 3)
    gateway.restart(how)
    await alice.send(room_id, "g")
    again, resumed = await resume(bob, room_id, epoch, 3)
    assert (resumed["recovered"], resumed["from"], resumed["head"]) == (True, 4, 7)
    assert resumed["epoch"] == epoch if how == "stop" else resumed["epoch"] > epoch
    await alice.send(room_id, "h")
    assert_gapless(seen + await again.collect(room_id, 8), 1, 8)


async def test_epoch_rises_at_every_kill_and_old_positions_stay_good(make_gateway):
    gateway = make_gateway()
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    positions = []
    for _ in range(4):
        await alice.send(room_id, "x")
        positions.append(await bob.position(room_id))
        gateway.restart("kill")
    epochs = [epoch for epoch, _ in positions]
    assert epochs == sorted(set(epochs)), epochs
    for epoch, seq in positions:
        socket, resumed = await resume(bob, room_id, epoch, seq)
        assert (resumed["recovered"], resumed["from"], resumed["head"]) == (True, seq + 1, 4)
        if seq < 4:
            assert_gapless(await socket.collect(room_id, 4), seq + 1, 4)


async def test_position_that_an_old_epoch_never_reached_is_not_recovered(make_gateway):
    """seq 3 exists, but was written by a later epoch than the client claims to have seen it in."""
    gateway = make_gateway()
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send(room_id, "a")
    epoch, _ = await bob.position(room_id)
    gateway.restart("kill")
    await alice.send_many(room_id, "bc")
    socket, resumed = await resume(bob, room_id, epoch, 3)
    assert resumed["recovered"] is False
    assert 1 <= resumed["from"] <= 4


async def test_sockets_are_served_right_after_a_kill(make_gateway):
    """The first connection after a start finds cold rooms: automatic replay works from the store alone."""
    gateway = make_gateway()
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abcdef")
    (await bob.post("/acks", {"room_id": room_id, "seq": 2})).ok()
    await asyncio.sleep(0.4)  # a moved cursor is written within 100 ms
    gateway.restart("kill")
    socket = await bob.connect_automatic()
    assert (await socket.expect("resumed", room_id=room_id))["from"] == 3
    assert [event["content"] for event in await socket.collect(room_id, 6)] == list("cdef")
