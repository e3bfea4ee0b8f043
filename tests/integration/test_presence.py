"""Who is online: told to those who share a room, a moment after the last socket is gone, and to nobody else."""

import asyncio
import time

from client import Operator, call, metric, new_tenant
from shapes import assert_time

GRACE_S = 5.0   # between the last socket and offline
LATE_S = 20.0   # when offline must have been told, on a machine that is busy with other things


def update(user, status):
    return {"user_id": user.user_id, "status": status}


async def eventually(get, wanted, timeout_s=LATE_S):
    """Asks until the answer is the wanted one: what one core says may be known to another a moment later."""
    deadline = time.monotonic() + timeout_s
    while (got := await get()) != wanted:
        assert time.monotonic() < deadline, f"{got} is not {wanted}"
        await asyncio.sleep(0.05)


# --- pushes -----------------------------------------------------------------------------------------------------------

async def test_first_socket_is_online_and_offline_comes_after_the_last(shared_gateways):
    await asyncio.gather(*(come_and_go(shared_gateways.get(cores)) for cores in (1, 2, 4)))


async def come_and_go(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    await alice.new_room("group", bob)
    listener = await bob.connect()
    sockets = [await alice.connect() for _ in range(4)]  # on several cores
    assert dict(await listener.expect("presence.update")) == {"type": "presence.update", **update(alice, "online")}
    for socket in sockets[1:]:
        socket.drop()
    await listener.expect_none("presence.update", 0.5)   # one socket is left, and the others came without a word
    gone = time.monotonic()
    sockets[0].drop()                                    # without a close frame: a client that was killed
    await listener.expect("presence.update", timeout_s=LATE_S, **update(alice, "offline"))
    assert time.monotonic() - gone > GRACE_S - 0.5


async def test_who_comes_back_within_the_grace_was_never_away(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    await alice.new_room("group", bob)
    listener, socket = await bob.connect(), await alice.connect()
    await listener.expect("presence.update", **update(alice, "online"))
    await socket.close()
    await asyncio.sleep(1)
    await alice.connect()
    await listener.expect_none("presence.update", GRACE_S + 1)


async def test_one_update_for_somebody_who_shares_many_rooms(gateway_of_each_size):
    alice, bob = (await new_tenant(gateway_of_each_size)).users("alice", "bob")
    for _ in range(10):
        await alice.new_room("group", bob)
    listener = await bob.connect()
    await alice.connect()
    await listener.expect("presence.update", **update(alice, "online"))
    await listener.expect_none("presence.update")


async def test_nobody_else_is_told(gateway):
    tenant, others = await new_tenant(gateway), await new_tenant(gateway)
    alice, bob, carol = tenant.users("alice", "bob", "carol")
    await alice.new_room("group", bob)
    await carol.new_room("group")
    foreign = others.user("bob")
    await foreign.new_room("group", others.user("alice"))
    listener, stranger, foreigner, own = [await user.connect() for user in (bob, carol, foreign, alice)]
    await listener.expect("presence.update", **update(alice, "online"))
    await asyncio.gather(*(socket.expect_none("presence.update") for socket in (stranger, foreigner, own)))


async def test_a_socket_that_is_served_at_once_counts_and_is_told_too(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    await alice.new_room("group", bob)
    listener = await bob.connect_automatic()
    await asyncio.sleep(0.2)
    await alice.connect_automatic()
    await listener.expect("presence.update", **update(alice, "online"))


async def test_a_socket_without_hello_is_not_online(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    await alice.new_room("group", bob)
    listener = await bob.connect()
    await alice.connect_silent()
    await listener.expect_none("presence.update")


async def test_who_joins_while_online_is_told_to_the_room(gateway_of_each_size):
    alice, bob = (await new_tenant(gateway_of_each_size)).users("alice", "bob")
    room_id = await alice.new_room("group")
    listener = await alice.connect()
    await bob.connect()
    await listener.expect_none("presence.update")
    await bob.call("POST", f"/rooms/{room_id}/join")
    await listener.expect("presence.update", **update(bob, "online"))


# --- subscribing ------------------------------------------------------------------------------------------------------

async def test_subscribing_says_who_is_online_and_then_what_changes(gateway_of_each_size):
    alice, bob, carol = (await new_tenant(gateway_of_each_size)).users("alice", "bob", "carol")
    room_id = await alice.new_room("group", bob, carol)
    await bob.connect()
    socket = await alice.connect(rooms="none")  # asking needs no subscription to the room's log
    answer = await socket.ok("presence.subscribe", room_id=room_id)
    assert answer["room_id"] == room_id and answer["next"] is None
    assert sorted(item["user_id"] for item in answer["items"]) == ["alice", "bob"]
    assert {item["status"] for item in answer["items"]} == {"online"}
    await carol.connect()
    await socket.expect("presence.update", **update(carol, "online"))
    await socket.expect_none("presence.update")
    await socket.expect_silence(room_id)


async def test_unsubscribing_ends_it_in_a_small_room_as_well(gateway):
    alice, bob, carol = (await new_tenant(gateway)).users("alice", "bob", "carol")
    room_id = await alice.new_room("group", bob, carol)
    socket = await alice.connect()
    await socket.ok("presence.unsubscribe", room_id=room_id)
    await bob.connect()
    await socket.expect_none("presence.update")
    await socket.ok("presence.subscribe", room_id=room_id)
    await carol.connect()
    await socket.expect("presence.update", **update(carol, "online"))
    await bob.send(room_id, "still subscribed to the room itself")
    await socket.expect("message", room_id=room_id)


async def test_subscribing_needs_membership(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    public, hidden = await alice.new_room("group"), await alice.new_room("group", is_private=True)
    socket = await bob.connect()
    await socket.refused("presence.subscribe", "room.not_member", room_id=public)
    await socket.refused("presence.subscribe", "room.not_found", room_id=hidden)
    await socket.refused("presence.subscribe", "field.missing")
    await socket.refused("presence.subscribe", "field.invalid", room_id=7)
    await socket.refused("presence.unsubscribe", "subscription.none", room_id=public)
    await socket.refused("presence.unsubscribe", "field.missing")


async def test_whoever_is_removed_hears_no_more(gateway_of_each_size):
    alice, bob, carol = (await new_tenant(gateway_of_each_size)).users("alice", "bob", "carol")
    room_id = await alice.new_room("group", bob, carol)
    asked, subscribed = await bob.connect(rooms="none"), await bob.connect()
    await asked.ok("presence.subscribe", room_id=room_id)
    await alice.remove_member(room_id, bob)
    await subscribed.expect("user_left", room_id=room_id)
    await carol.connect()
    await asyncio.gather(*(socket.expect_none("presence.update") for socket in (asked, subscribed)))
    await asked.refused("presence.subscribe", "room.not_member", room_id=room_id)


# --- large rooms ------------------------------------------------------------------------------------------------------

async def test_in_a_large_room_only_those_who_asked_are_told(make_gateway):
    gateway = make_gateway(limits__presence_room_members="3")
    tenant = await new_tenant(gateway)
    alice, bob, carol, dave = tenant.users("alice", "bob", "carol", "dave")
    large = await alice.new_room("group", bob, carol, dave)
    asked, silent = await alice.connect(), await bob.connect()
    await asked.ok("presence.subscribe", room_id=large)
    await carol.connect()
    await asked.expect("presence.update", **update(carol, "online"))
    await silent.expect_none("presence.update")
    await asked.ok("presence.unsubscribe", room_id=large)
    await dave.connect()
    await asked.expect_none("presence.update", user_id="dave")


async def test_a_room_becomes_large_and_small_again(make_gateway):
    gateway = make_gateway(limits__presence_room_members="2")
    tenant = await new_tenant(gateway)
    alice, bob, carol, dave = tenant.users("alice", "bob", "carol", "dave")
    room_id = await alice.new_room("group", carol)
    listener = await alice.connect()
    await alice.add_members(room_id, bob)
    await bob.connect()
    await listener.expect_none("presence.update")  # three are too many
    await alice.remove_member(room_id, bob)
    await carol.connect()
    await listener.expect("presence.update", **update(carol, "online"))
    await dave.connect()
    await alice.add_members(room_id, dave)
    await listener.expect("user_joined", user_ids=["dave"])
    await listener.expect_none("presence.update")


async def test_a_reloaded_bound_holds_for_rooms_in_use(make_gateway):
    gateway = make_gateway(config="[limits]\npresence_room_members = 2\n")
    tenant = await new_tenant(gateway)
    alice, *others = tenant.users("alice", "bob", "carol", "dave", "eve")
    await alice.new_room("group", *others)
    listener = await alice.connect()
    await others.pop().connect()
    await listener.expect_none("presence.update")  # five are too many
    gateway.config_path.write_text("[limits]\npresence_room_members = 5\n", encoding="utf-8")
    (await Operator(gateway).call("POST", "/reload")).ok()
    await asyncio.sleep(1.5)  # an idle core looks once a second
    while True:  # and a busy machine may take longer
        comer = others.pop()
        await comer.connect()
        try:
            await listener.expect("presence.update", 5 if others else LATE_S, **update(comer, "online"))
            return
        except AssertionError:
            assert others


async def test_unsubscribing_right_behind_a_subscription_ends_it(make_gateway):
    gateway = make_gateway()
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    rooms = [await alice.new_room("group", bob) for _ in range(8)]
    gateway.restart("stop")  # the rooms must be loaded first, which takes a moment
    socket = await bob.connect(rooms="none")
    for room_id in rooms:
        asked = [await socket.begin(type, room_id=room_id) for type in ("presence.subscribe", "presence.unsubscribe")]
        for request in asked:
            assert (await socket.answer(request))["type"] == "ok"
    await alice.connect()
    await socket.expect_none("presence.update")


async def test_a_large_room_that_connects_at_once_is_told_of_each_once(make_gateway):
    gateway = make_gateway(limits__presence_room_members="10")
    tenant = await new_tenant(gateway)
    alice, crowd = tenant.user("alice"), tenant.users(*(f"user {number}" for number in range(60)))
    room_id = await alice.new_room("group", *crowd)
    watchers = [await alice.connect() for _ in range(4)]
    for watcher in watchers:
        await watcher.ok("presence.subscribe", room_id=room_id)
    sockets = await asyncio.gather(*(user.connect() for user in crowd))
    for watcher in watchers:
        heard = [await watcher.expect("presence.update") for _ in crowd]
        assert sorted(event["user_id"] for event in heard) == sorted(user.user_id for user in crowd)
        assert {event["status"] for event in heard} == {"online"}
        await watcher.expect_none("presence.update")
    for socket in sockets:
        await socket.expect_none("presence.update", 0.01)
    assert await metric(gateway, "carillon_users_online") == len(crowd) + 1
    assert await metric(gateway, "carillon_presence_updates_total") == len(crowd) * len(watchers)


# --- REST -------------------------------------------------------------------------------------------------------------

async def test_a_user_is_shown_to_those_who_share_a_room(gateway):
    tenant = await new_tenant(gateway)
    alice, bob, carol = tenant.users("alice", "bob", "carol")
    await alice.new_room("group", bob)
    await carol.new_room("group")

    async def shown():
        return (await alice.get("/users/bob/presence")).ok()

    assert await shown() == {"user_id": "bob", "status": "offline", "last_seen": None}
    socket = await bob.connect()
    await eventually(shown, {"user_id": "bob", "status": "online", "last_seen": None})
    socket.drop()
    deadline = time.monotonic() + LATE_S
    while (seen := await shown())["status"] == "online":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert seen["status"] == "offline"
    assert_time(seen["last_seen"])
    assert (await bob.get("/users/bob/presence")).ok() == seen
    for nobody in (carol, (await new_tenant(gateway)).user("alice")):
        (await nobody.get("/users/bob/presence")).problem(404, code="user.not_found")
    (await alice.get("/users/nobody/presence")).problem(404, code="user.not_found")
    (await alice.get("/users/nobody")).problem(404, code="user.not_found")  # and asking has made nobody


async def test_the_members_of_a_room_are_listed_page_by_page(gateway_of_each_size):
    tenant = await new_tenant(gateway_of_each_size)
    alice, crowd = tenant.user("alice"), tenant.users(*(f"user {number}" for number in range(7)))
    room_id = await alice.new_room("group", *crowd)
    for user in crowd[:3]:
        await user.connect()

    async def listed(limit=3):
        items, params = [], {"limit": limit}
        while True:
            page = (await alice.get(f"/rooms/{room_id}/presence", **params)).ok()
            assert len(page["items"]) <= limit
            items += page["items"]
            if page["next"] is None:
                return sorted((item["user_id"], item["status"]) for item in items)
            params["cursor"] = page["next"]

    wanted = sorted([("alice", "offline")] + [(user.user_id, "online" if at < 3 else "offline")
                                              for at, user in enumerate(crowd)])
    await eventually(listed, wanted)
    await eventually(lambda: listed(1000), wanted)
    outsider = tenant.user("outsider")
    (await outsider.get(f"/rooms/{room_id}/presence")).problem(403, code="room.not_member")
    (await alice.get("/rooms/r_0000000000000/presence")).problem(404, code="room.not_found")
    (await alice.get(f"/rooms/{room_id}/presence", cursor="x")).problem(400, code="cursor.invalid")
    (await alice.get(f"/rooms/{room_id}/presence", limit=0)).problem(400, code="field.invalid")


async def test_after_a_restart_everybody_is_offline(make_gateway):
    gateway = make_gateway()
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    await bob.connect()
    await eventually(lambda: metric(gateway, "carillon_users_online"), 1)
    gateway.restart("kill")
    assert (await alice.get("/users/bob/presence")).ok() == {"user_id": "bob", "status": "offline", "last_seen": None}
    items = (await alice.get(f"/rooms/{room_id}/presence")).ok()["items"]
    assert [item["status"] for item in items] == ["offline", "offline"]
    await bob.connect()
    await eventually(lambda: metric(gateway, "carillon_users_online"), 1)
