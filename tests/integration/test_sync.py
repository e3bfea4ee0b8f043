"""Sync: everything missed in every room, by one call that is paged."""

import pytest

from client import new_tenant
from shapes import assert_gapless, assert_members

PAGES_MAX = 100


async def rooms_with_messages(gateway, counts):
    """Alice's rooms with that many messages each, Bob in all of them: (alice, bob, room ids)."""
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    rooms = [await alice.new_room("group", bob) for _ in counts]
    for room_id, count in zip(rooms, counts):
        await alice.send_many(room_id, [f"{number}" for number in range(1, count + 1)])
    return alice, bob, rooms


async def sync_by_rest(user, body):
    return (await user.post("/sync", body)).ok()


async def sync_by_socket(user, body):
    socket = await user.connect(rooms="none")
    return await socket.ok("sync", **body)


@pytest.fixture(params=[sync_by_rest, sync_by_socket], ids=["REST", "WebSocket"])
def sync(request):
    return request.param


async def walk(sync, user, positions, limit):
    """All pages: {room_id: [event, …]} in the order they came, and how many pages it took."""
    events, cursor = {room_id: [] for room_id in positions}, None
    for pages in range(1, PAGES_MAX):
        page = await sync(user, {"rooms": positions, "limit": limit, **({"cursor": cursor} if cursor else {})})
        assert sum(len(room["events"]) for room in page["rooms"]) <= limit
        for room in page["rooms"]:
            events[room["room_id"]] += room["events"]
        cursor = page["next"]
        if cursor is None:
            return events, pages
    raise AssertionError(f"{PAGES_MAX} pages and no end")


async def test_syncs_of_one_socket_at_a_time_do_not_fill_its_queue(gateway):
    """Their pages are short, so that many of them may wait: a long one would be most of what a socket may be owed."""
    alice, bob, (room_id,) = await rooms_with_messages(gateway, [0])
    await alice.send_many(room_id, ["x" * 9_000] * 120)
    epoch, _ = await bob.position(room_id)
    socket = await bob.connect(rooms="none")
    positions = {"rooms": {room_id: [epoch, 0]}}
    asked = [await socket.begin("sync", **positions) for _ in range(8)]
    for page in [await socket.answer(request_id) for request_id in asked]:
        assert page["next"] is not None and 0 < len(page["rooms"][0]["events"]) < 60
    events, _ = await walk(sync_by_socket, bob, {room_id: [epoch, 0]}, 1000)
    assert [event["seq"] for event in events[room_id]] == list(range(1, 121))


async def test_sync_gives_everything_missed_in_every_room(gateway, sync):
    alice, bob, rooms = await rooms_with_messages(gateway, [5, 3, 0, 7])
    epoch, _ = await bob.position(rooms[0])
    since = [2, 3, 0, 0]
    page = await sync(bob, {"rooms": {room_id: [epoch, seq] for room_id, seq in zip(rooms, since)}})
    assert page["next"] is None
    answered = {room["room_id"]: room for room in page["rooms"]}
    for room_id, seq, head in zip(rooms, since, [5, 3, 0, 7]):
        if seq == head and room_id not in answered:
            continue  # nothing was missed there, so nothing need be said
        room = answered[room_id]
        assert_members(room, ("room_id", "epoch", "recovered", "from", "head", "events"))
        assert (room["epoch"], room["recovered"], room["from"], room["head"]) == (epoch, True, seq + 1, head)
        assert_gapless(room["events"], seq + 1, head)


async def test_synced_events_are_the_pushes_themselves(gateway, sync):
    alice, bob, (room_id,) = await rooms_with_messages(gateway, [0])
    socket = await bob.connect()
    await alice.send(room_id, "x", meta={"n": 1})
    await alice.add_members(room_id, alice.tenant.user("carol"))
    pushes = await socket.collect(room_id, 2)
    page = await sync(bob, {"rooms": {room_id: [socket.room(room_id)["epoch"], 0]}})
    assert page["rooms"][0]["events"] == pushes


@pytest.mark.parametrize("limit", [1, 4, 7, 1000])
async def test_sync_is_paged_over_all_rooms(gateway, sync, limit):
    counts = [9, 1, 0, 6, 4]
    alice, bob, rooms = await rooms_with_messages(gateway, counts)
    epoch, _ = await bob.position(rooms[0])
    events, pages = await walk(sync, bob, {room_id: [epoch, 0] for room_id in rooms}, limit)
    for room_id, count in zip(rooms, counts):
        assert_gapless(events[room_id], 1, count)
    assert pages >= sum(counts) / limit


async def test_sync_that_ends_before_a_room_judges_it_on_the_next_page(gateway, sync):
    alice, bob, rooms = await rooms_with_messages(gateway, [3, 3])
    epoch, _ = await bob.position(rooms[0])
    body = {"rooms": {rooms[0]: [epoch, 0], rooms[1]: [epoch + 5, 2]}, "limit": 3}
    first = await sync(bob, body)
    assert [room["recovered"] for room in first["rooms"]] == [True]
    second = await sync(bob, {**body, "cursor": first["next"]})
    room, = second["rooms"]
    assert (room["room_id"], room["recovered"], second["next"]) == (rooms[1], False, None)
    assert_gapless(room["events"], room["from"], 3)


async def test_sync_of_positions_that_never_were_is_said(gateway, sync):
    alice, bob, (room_id,) = await rooms_with_messages(gateway, [3])
    epoch, _ = await bob.position(room_id)
    room, = (await sync(bob, {"rooms": {room_id: [epoch, 99]}}))["rooms"]
    assert room["recovered"] is False and room["head"] == 3
    assert_gapless(room["events"], room["from"], 3)


async def test_sync_shows_nothing_of_foreign_rooms(gateway):
    alice, bob, rooms = await rooms_with_messages(gateway, [2])
    private_id = await alice.new_room("group", is_private=True)
    await alice.send(private_id, "secret-canary")
    epoch, _ = await bob.position(rooms[0])
    answer = await bob.post("/sync", {"rooms": {private_id: [epoch, 0], "no-such-room": [1, 0], rooms[0]: [epoch, 0]}})
    assert "secret-canary" not in answer.text
    if answer.status == 200:
        assert [len(room["events"]) for room in answer.json()["rooms"] if room["room_id"] == rooms[0]] == [2]
        assert [room for room in answer.json()["rooms"] if room["room_id"] == private_id and room.get("events")] == []
    else:
        answer.problem(403, 404)


@pytest.mark.parametrize("body", ['{"rooms":[]}', '{"rooms":{"x":1}}', '{"rooms":{"x":[1]}}',
                                  '{"rooms":{"x":["a","b"]}}', '{"rooms":{},"limit":"x"}',
                                  '{"rooms":{},"limit":-1}', '{"rooms":7}', "[]"])
async def test_malformed_sync_is_refused(gateway, body):
    alice, _, _ = await rooms_with_messages(gateway, [])
    (await alice.call("POST", "/sync", raw=body)).problem(400)


async def test_sync_across_a_kill(make_gateway):
    gateway = make_gateway()
    alice, bob, rooms = await rooms_with_messages(gateway, [4, 2])
    epoch, _ = await bob.position(rooms[0])
    gateway.restart("kill")
    page = await sync_by_rest(bob, {"rooms": {rooms[0]: [epoch, 1], rooms[1]: [epoch, 0]}})
    answered = {room["room_id"]: room for room in page["rooms"]}
    assert all(room["recovered"] and room["epoch"] > epoch for room in answered.values())
    assert_gapless(answered[rooms[0]]["events"], 2, 4)
    assert_gapless(answered[rooms[1]]["events"], 1, 2)
