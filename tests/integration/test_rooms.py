"""Rooms and who is in them."""

import asyncio

import pytest

from client import new_tenant
from shapes import ROOM, assert_members, assert_time


async def people(gateway, *user_ids):
    return (await new_tenant(gateway)).users(*user_ids)


async def member_ids(user, room_id):
    items = (await user.get(f"/rooms/{room_id}/members", limit=1000)).ok()["items"]
    return sorted(item["user_id"] for item in items)


async def roles(user, room_id):
    items = (await user.get(f"/rooms/{room_id}/members", limit=1000)).ok()["items"]
    return {item["user_id"]: item["role"] for item in items}


# --- creating -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room_type", ["group", "channel"])
async def test_new_room_has_its_members_and_an_empty_log(gateway, room_type):
    alice, bob, carol = await people(gateway, "alice", "bob", "carol")
    room = await alice.create_room(room_type, bob, carol, name="Zürich 🔔")
    assert_members(room, ROOM)
    assert_time(room["created_at"])
    assert (room["type"], room["name"], room["unique_key"]) == (room_type, "Zürich 🔔", None)
    assert room["tenant_id"] == alice.tenant.tenant_id
    assert room["last_seq"] == 0 and room["epoch"] >= 1
    assert await member_ids(bob, room["room_id"]) == ["alice", "bob", "carol"]
    assert (await roles(bob, room["room_id"]))["alice"] == "admin"
    assert (await roles(bob, room["room_id"]))["bob"] == "member"
    assert await alice.events(room["room_id"]) == []


async def test_creator_may_name_themselves(gateway):
    alice, bob = await people(gateway, "alice", "bob")
    room_id = await alice.new_room("group", alice, bob)
    assert await roles(alice, room_id) == {"alice": "admin", "bob": "member"}


async def test_members_are_paged_in_one_order(gateway):
    alice, *others = await people(gateway, "alice", *(f"user {number}" for number in range(25)))
    room_id = await alice.new_room("group", *others)
    whole = (await alice.get(f"/rooms/{room_id}/members")).ok()
    assert len(whole["items"]) == 26 and whole["next"] is None
    listed, params = [], {"limit": 4}
    while "cursor" not in params or params["cursor"] is not None:
        page = (await alice.get(f"/rooms/{room_id}/members", **params)).ok()
        assert 1 <= len(page["items"]) <= 4
        listed += page["items"]
        params["cursor"] = page["next"]
    assert listed == whole["items"]
    (await alice.get(f"/rooms/{room_id}/members", cursor="x")).problem(400, code="cursor.invalid")


async def test_room_reads_back_as_created(gateway):
    alice, = await people(gateway, "alice")
    created = await alice.create_room("group", description="What for", avatar_url="https://example.org/a.png")
    read = (await alice.get(f"/rooms/{created['room_id']}")).ok()
    assert_members(read, ROOM)
    assert {name: read[name] for name in ROOM} == {name: created[name] for name in ROOM}
    assert (read["description"], read["avatar_url"]) == ("What for", "https://example.org/a.png")


@pytest.mark.parametrize("body, field", [
    ('{"name":"x"}', "type"),
    ('{"type":"salon","name":"x"}', "type"),
    ('{"type":7}', "type"),
    ('{"type":"group","name":7}', "name"),
    ('{"type":"group","name":"%s"}' % ("n" * 257), "name"),
    ('{"type":"group","name":"x","members":"bob"}', "members"),
    ('{"type":"group","name":"x","members":[7]}', "members"),
    ('{"type":"group","name":"x","members":[""]}', "members"),
    ('{"type":"group","name":"x","members":["%s"]}' % ("u" * 129), "members"),
    ('{"type":"group","name":"x","is_private":"yes"}', "is_private"),
], ids=lambda value: value[:40])
async def test_malformed_room_is_refused_with_its_field(gateway, body, field):
    alice, = await people(gateway, "alice")
    problem = (await alice.call("POST", "/rooms", raw=body)).problem(400)
    assert problem["field"] == field
    assert (await alice.get("/rooms")).ok()["items"] == []


async def test_room_is_created_with_1000_members_and_not_with_more(gateway):
    alice, = await people(gateway, "alice")
    members = [f"user-{number}" for number in range(1001)]
    (await alice.post("/rooms", {"type": "group", "name": "x", "members": members})).problem(400, 413)
    room = (await alice.post("/rooms", {"type": "group", "name": "x", "members": members[:1000]})).ok(201)
    seen, cursor = set(), None
    for _ in range(10):
        page = (await alice.get(f"/rooms/{room['room_id']}/members", limit=400,
                                **({"cursor": cursor} if cursor else {}))).ok()
        seen |= {item["user_id"] for item in page["items"]}
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == {*members[:1000], "alice"}


async def test_room_survives_a_kill(make_gateway):
    gateway = make_gateway()
    alice, bob = await people(gateway, "alice", "bob")
    room = await alice.create_room("group", bob, is_private=True, description="kept")
    dm = await alice.create_room("dm", bob)
    gateway.restart("kill")
    read = (await bob.get(f"/rooms/{room['room_id']}")).ok()
    assert (read["name"], read["description"]) == (room["name"], "kept")
    assert await roles(bob, room["room_id"]) == {"alice": "admin", "bob": "member"}
    assert (await bob.post("/rooms", {"type": "dm", "members": ["alice"]})).ok(200)["room_id"] == dm["room_id"]


# --- direct messages ----------------------------------------------------------------------------------------------


async def test_dm_is_one_room_from_either_side(gateway):
    alice, bob = await people(gateway, "alice", "bob")
    first = (await alice.post("/rooms", {"type": "dm", "members": ["bob"]})).ok(201)
    assert first["type"] == "dm" and first["unique_key"]
    for user, members in ((alice, ["bob"]), (bob, ["alice"]), (alice, ["alice", "bob"]), (bob, ["alice", "bob"])):
        again = (await user.post("/rooms", {"type": "dm", "members": members})).ok(200)
        assert again["room_id"] == first["room_id"]
        assert again["unique_key"] == first["unique_key"]
    assert await member_ids(bob, first["room_id"]) == ["alice", "bob"]


async def test_dms_of_different_pairs_are_different_rooms(gateway):
    alice, bob, carol = await people(gateway, "alice", "bob", "carol")
    rooms = [await one.create_room("dm", other) for one, other in ((alice, bob), (alice, carol), (bob, carol))]
    assert len({room["room_id"] for room in rooms}) == 3
    assert len({room["unique_key"] for room in rooms}) == 3


async def test_dm_created_by_both_at_once_is_one_room(gateway):
    alice, bob = await people(gateway, "alice", "bob")
    answers = await asyncio.gather(*(user.post("/rooms", {"type": "dm", "members": [other.user_id]})
                                     for _ in range(5) for user, other in ((alice, bob), (bob, alice))))
    assert sorted(answer.status for answer in answers) == [200] * 9 + [201]
    assert len({answer.json()["room_id"] for answer in answers}) == 1
    assert len((await alice.get("/rooms")).ok()["items"]) == 1


@pytest.mark.parametrize("members", [[], ["alice"], ["alice", "bob", "carol"], ["bob", "carol", "dave"]])
async def test_dm_has_exactly_two_people(gateway, members):
    alice, = await people(gateway, "alice")
    (await alice.post("/rooms", {"type": "dm", "members": members})).problem(400)
    assert (await alice.get("/rooms")).ok()["items"] == []


async def test_dm_is_hidden_from_others(gateway):
    alice, bob, eve = await people(gateway, "alice", "bob", "eve")
    room_id = await alice.new_room("dm", bob)
    for path in ("", "/messages", "/events", "/members"):
        (await eve.get(f"/rooms/{room_id}{path}")).problem(404)
    (await eve.post(f"/rooms/{room_id}/join")).problem(404)


# --- lists --------------------------------------------------------------------------------------------------------


async def test_list_holds_my_rooms_and_their_head(gateway):
    alice, bob = await people(gateway, "alice", "bob")
    mine = [await alice.new_room("group") for _ in range(5)]
    await bob.new_room("group")
    await alice.send_many(mine[2], ["one", "two"])
    answer = await alice.get("/rooms")
    heads = {room["room_id"]: room["last_seq"] for room in answer.ok()["items"]}
    assert heads == {room_id: 2 if room_id == mine[2] else 0 for room_id in mine}
    assert answer.headers["X-Total-Rooms"] == "5"


async def test_list_is_paged_by_limit_and_cursor(gateway):
    alice, = await people(gateway, "alice")
    mine = {await alice.new_room("group") for _ in range(7)}
    seen, cursor = [], None
    for _ in range(7):
        page = (await alice.get("/rooms", limit=3, **({"cursor": cursor} if cursor else {}))).ok()
        assert len(page["items"]) <= 3
        seen += [room["room_id"] for room in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(mine)


async def test_unknown_room_is_not_found(gateway):
    alice, = await people(gateway, "alice")
    for room_id in ("no-such-room", "0", "..", "x" * 200, "%00", "%ff"):
        (await alice.call("GET", f"/rooms/{room_id}")).problem(404, 400)
    (await alice.get("/rooms/no-such-room/messages")).problem(404)
    (await alice.post("/rooms/no-such-room/join")).problem(404)
    (await alice.post("/rooms/no-such-room/messages", {"content": "x"})).problem(404)


# --- coming and going ---------------------------------------------------------------------------------------------


async def test_anyone_may_join_a_public_room(gateway):
    alice, bob = await people(gateway, "alice", "bob")
    room_id = await alice.new_room("group", is_private=False)
    (await bob.get(f"/rooms/{room_id}/messages")).problem(403, code="room.not_member")
    (await bob.post(f"/rooms/{room_id}/messages", {"content": "x"})).problem(403, code="room.not_member")
    (await bob.post(f"/rooms/{room_id}/join")).succeeded()
    assert await member_ids(bob, room_id) == ["alice", "bob"]
    await bob.send(room_id, "now I may")
    assert room_id in [room["room_id"] for room in (await bob.get("/rooms")).ok()["items"]]


async def test_private_room_does_not_exist_for_others(gateway):
    alice, bob = await people(gateway, "alice", "bob")
    room_id = await alice.new_room("group", is_private=True)
    unknown = (await bob.get("/rooms/no-such-room")).problem(404)
    hidden = (await bob.get(f"/rooms/{room_id}")).problem(404)
    assert (hidden["code"], hidden["title"]) == (unknown["code"], unknown["title"])
    (await bob.post(f"/rooms/{room_id}/join")).problem(404)
    (await bob.get(f"/rooms/{room_id}/messages")).problem(404)
    (await bob.get(f"/rooms/{room_id}/events")).problem(404)
    (await bob.get(f"/rooms/{room_id}/members")).problem(404)
    (await bob.post(f"/rooms/{room_id}/messages", {"content": "x"})).problem(404)
    (await bob.post(f"/rooms/{room_id}/members", {"members": ["bob"]})).problem(404)
    assert await member_ids(alice, room_id) == ["alice"]


async def test_who_left_is_no_member_any_more(gateway):
    alice, bob = await people(gateway, "alice", "bob")
    room_id = await alice.new_room("group", bob, is_private=False)
    (await bob.post(f"/rooms/{room_id}/leave")).succeeded()
    assert await member_ids(alice, room_id) == ["alice"]
    (await bob.get(f"/rooms/{room_id}/messages")).problem(403, code="room.not_member")
    assert (await bob.get("/rooms")).ok()["items"] == []
    (await bob.post(f"/rooms/{room_id}/join")).succeeded()
    assert await member_ids(alice, room_id) == ["alice", "bob"]


async def test_admins_add_and_remove_members(gateway):
    alice, bob, carol, dave = await people(gateway, "alice", "bob", "carol", "dave")
    room_id = await alice.new_room("group", bob, is_private=True)
    (await bob.post(f"/rooms/{room_id}/members", {"members": ["carol"]})).problem(403)
    (await bob.delete(f"/rooms/{room_id}/members/alice")).problem(403)
    assert await member_ids(alice, room_id) == ["alice", "bob"]
    await alice.add_members(room_id, carol, dave)
    assert await member_ids(carol, room_id) == ["alice", "bob", "carol", "dave"]
    await alice.remove_member(room_id, dave)
    assert await member_ids(carol, room_id) == ["alice", "bob", "carol"]
    (await dave.get(f"/rooms/{room_id}")).problem(404)
    (await alice.delete(f"/rooms/{room_id}/members/nobody")).problem(404)


async def test_coming_and_going_takes_places_in_the_log(gateway):
    alice, bob, carol, dave = await people(gateway, "alice", "bob", "carol", "dave")
    room_id = await alice.new_room("group", is_private=False)
    await alice.send(room_id, "first")
    (await bob.post(f"/rooms/{room_id}/join")).succeeded()
    await alice.add_members(room_id, carol, dave)
    await alice.remove_member(room_id, carol)
    (await bob.post(f"/rooms/{room_id}/leave")).succeeded()
    events = await alice.events(room_id)
    assert [(event["seq"], event["type"], sorted(event.get("user_ids", []))) for event in events] == [
        (1, "message", []), (2, "user_joined", ["bob"]), (3, "user_joined", ["carol", "dave"]),
        (4, "user_left", ["carol"]), (5, "user_left", ["bob"])]
    assert all(event["room_id"] == room_id for event in events)
    assert (await alice.get(f"/rooms/{room_id}")).ok()["last_seq"] == 5
    assert [message["seq"] for message in await alice.messages(room_id, after_seq=0)] == [1]


async def test_member_list_in_one_request_is_bounded(gateway):
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    members = [f"user-{number}" for number in range(1001)]
    (await alice.post(f"/rooms/{room_id}/members", {"members": members})).problem(400, 413)
    assert await member_ids(alice, room_id) == ["alice"]
    (await alice.post(f"/rooms/{room_id}/members", {"members": members[:1000]})).ok(200)
    assert len(await alice.events(room_id)) == 1


async def test_membership_survives_a_kill(make_gateway):
    gateway = make_gateway()
    alice, bob, carol = await people(gateway, "alice", "bob", "carol")
    room_id = await alice.new_room("group", bob, is_private=False)
    (await carol.post(f"/rooms/{room_id}/join")).succeeded()
    (await bob.post(f"/rooms/{room_id}/leave")).succeeded()
    before = await alice.events(room_id)
    gateway.restart("kill")
    assert await member_ids(alice, room_id) == ["alice", "carol"]
    assert await alice.events(room_id) == before
    (await bob.get(f"/rooms/{room_id}")).problem(403)


# --- channels -----------------------------------------------------------------------------------------------------


async def test_only_admins_write_in_a_channel(gateway):
    alice, bob = await people(gateway, "alice", "bob")
    room_id = await alice.new_room("channel", bob)
    (await bob.post(f"/rooms/{room_id}/messages", {"content": "x"})).problem(403, code="room.read_only")
    socket = await bob.connect()
    await socket.refused("send_message", "room.read_only", room_id=room_id, content="x")
    await alice.send(room_id, "the admin speaks")
    await socket.expect("message", room_id=room_id, seq=1, content="the admin speaks")
    assert len(await bob.events(room_id)) == 1


async def test_who_may_not_change_members_makes_no_users(gateway):
    alice, bob, eve = (await new_tenant(gateway)).users("alice", "bob", "eve")
    room_id = await alice.new_room("group", bob)
    for user in (bob, eve):
        (await user.post(f"/rooms/{room_id}/members", {"members": ["nobody-1", "nobody-2"]})).problem(403, 404)
    for user in (alice, bob, eve):
        (await user.delete(f"/rooms/{room_id}/members/nobody-1")).problem(403, 404)
        (await user.call("PATCH", f"/rooms/{room_id}/members/nobody-2", {"role": "admin"})).problem(403, 404)
    for name in ("nobody-1", "nobody-2"):
        (await alice.get(f"/users/{name}")).problem(404, code="user.not_found")
