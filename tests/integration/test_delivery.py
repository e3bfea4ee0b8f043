"""Live pushes, membership while connected, acknowledgements and cursors."""

import asyncio
import time

import pytest

from client import new_tenant
from recorder import limit
from shapes import MESSAGE_PUSH, assert_gapless, assert_members, assert_time


async def room_of(gateway, *user_ids, **settings):
    users = (await new_tenant(gateway)).users(*user_ids)
    return (await users[0].new_room("group", *users[1:], **settings), *users)


# --- pushes -------------------------------------------------------------------------------------------------------


async def test_message_is_pushed_byte_identical_to_everyone(gateway_of_each_size):
    """On one core or several, on either kind of socket, and to the sender's own sockets too."""
    room_id, alice, bob, carol = await room_of(gateway_of_each_size, "alice", "bob", "carol")
    sockets = [await user.connect() for user in (alice, alice, bob, bob, carol)]
    sockets += [await user.connect_automatic() for user in (alice, bob, carol)]
    sent = await sockets[0].message(room_id, "to äll", meta={"n": 12345678901234567890}, client_id="c-1")
    await alice.send(room_id, "by REST")
    pushes = [await socket.collect(room_id, 2) for socket in sockets]
    for first, second in pushes:
        assert (first.text, second.text) == (pushes[0][0].text, pushes[0][1].text)
    push = pushes[0][0]
    assert_members(push, MESSAGE_PUSH)
    assert_time(push["created_at"])
    assert {name: push[name] for name in ("type", "room_id", "message_id", "seq", "sender_id", "content", "meta",
                                          "message_type", "client_id", "created_at")} == {
        "type": "message", "room_id": room_id, "message_id": sent["message_id"], "seq": 1, "sender_id": "alice",
        "content": "to äll", "meta": {"n": 12345678901234567890}, "message_type": "text", "client_id": "c-1",
        "created_at": sent["created_at"]}
    assert "id" not in push and "re" not in push


async def test_a_room_with_more_sockets_than_a_turn_sends_to_reaches_all_in_order(gateway_of_each_size):
    room_id, alice, bob = await room_of(gateway_of_each_size, "alice", "bob")
    sockets = await asyncio.gather(*(bob.connect() for _ in range(limit("FANOUT_SLICE") + 6)))
    sender = await alice.connect()
    sent = [await sender.message(room_id, f"no. {number}") for number in range(1, 6)]
    await sockets.pop(3).close()  # the last one takes its place
    sent += [await sender.message(room_id, f"no. {number}") for number in range(6, 11)]
    for socket in sockets:
        pushes = await socket.collect(room_id, 10)
        assert [push["seq"] for push in pushes] == [answer["seq"] for answer in sent] == list(range(1, 11))


async def test_only_members_hear_a_room(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob", is_private=False)
    eve = await alice.tenant.user("eve").connect()
    listener = await bob.connect()
    await alice.send(room_id, "not for eve")
    await listener.expect("message", content="not for eve")
    await eve.expect_silence(room_id)


async def test_room_made_while_connected_is_heard_from_its_first_event(gateway_of_each_size):
    alice, bob = (await new_tenant(gateway_of_each_size)).users("alice", "bob")
    sockets = [await user.connect() for user in (alice, bob, bob)]
    sockets += [await user.connect_automatic() for user in (alice, bob, bob)]
    for room_type in ("group", "channel", "dm"):
        room_id = await alice.new_room(room_type, bob)
        await alice.send(room_id, room_type)
        for socket in sockets:
            push = await socket.expect("message", room_id=room_id)
            assert (push["seq"], push["content"]) == (1, room_type)


async def test_room_joined_while_connected_is_heard_on_every_socket(gateway_of_each_size):
    room_id, alice = await room_of(gateway_of_each_size, "alice", is_private=False)
    await alice.send(room_id, "before")
    bob = alice.tenant.user("bob")
    sockets = [await bob.connect() for _ in range(3)] + [await bob.connect_automatic() for _ in range(3)]
    (await bob.post(f"/rooms/{room_id}/join")).succeeded()
    await alice.send(room_id, "after")
    for socket in sockets:
        push = await socket.expect("message", room_id=room_id)
        assert (push["seq"], push["content"]) == (3, "after")


async def test_added_member_hears_the_room_on_live_sockets(gateway):
    room_id, alice = await room_of(gateway, "alice", is_private=True)
    bob = alice.tenant.user("bob")
    socket = await bob.connect()
    await alice.add_members(room_id, bob)
    await alice.send(room_id, "welcome")
    await socket.expect("message", room_id=room_id, content="welcome")


async def test_members_are_told_who_comes_and_goes(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob", is_private=False)
    socket = await alice.connect()
    carol, dave = alice.tenant.users("carol", "dave")
    (await carol.post(f"/rooms/{room_id}/join")).succeeded()
    await alice.add_members(room_id, dave)
    (await bob.post(f"/rooms/{room_id}/leave")).succeeded()
    await alice.remove_member(room_id, carol)
    assert [(event["seq"], event["type"], event["user_ids"]) for event in await socket.collect(room_id, 4)] == [
        (1, "user_joined", ["carol"]), (2, "user_joined", ["dave"]), (3, "user_left", ["bob"]),
        (4, "user_left", ["carol"])]


@pytest.mark.parametrize("how", ["removed", "left"])
async def test_who_is_out_hears_nothing_more_on_any_socket(gateway_of_each_size, how):
    room_id, alice, bob, carol = await room_of(gateway_of_each_size, "alice", "bob", "carol", is_private=True)
    sockets = [await bob.connect() for _ in range(3)] + [await bob.connect_automatic() for _ in range(3)]
    listener = await carol.connect()
    await alice.send(room_id, "for all")
    for socket in sockets:
        await socket.expect("message", content="for all")
    if how == "removed":
        await alice.remove_member(room_id, bob)
    else:
        (await bob.post(f"/rooms/{room_id}/leave")).succeeded()
    await alice.send(room_id, "without bob")
    await listener.expect("message", content="without bob")
    await asyncio.sleep(0.3)
    for socket in sockets:
        assert (await socket.request("ping"))["type"] == "pong"
        assert [event for event in socket.waiting if event["type"] == "message"] == []
        for frame_type, members in (("send_message", {"content": "let me in"}), ("history", {"limit": 1}),
                                    ("subscribe", {}), ("subscribe", {"after_seq": 0}), ("ack", {"seq": 1})):
            await socket.refused(frame_type, room_id=room_id, **members)
    assert await bob.position(room_id) is None, "still among bob's rooms"


async def test_returning_member_hears_the_room_again(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob", is_private=False)
    socket = await bob.connect()
    await alice.remove_member(room_id, bob)
    await alice.send(room_id, "missed")
    (await bob.post(f"/rooms/{room_id}/join")).succeeded()
    await alice.send(room_id, "back")
    contents = [event["content"] for event in await socket.collect(room_id, 4) if event["type"] == "message"]
    assert contents == ["back"]


async def test_many_rooms_of_one_user_arrive_on_one_socket(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    rooms = [await alice.new_room("group", bob) for _ in range(20)]
    socket = await bob.connect()
    assert {room["room_id"] for room in socket.welcome["rooms"]} == set(rooms)
    await asyncio.gather(*(alice.send(room_id, f"{n}") for room_id in rooms for n in range(5)))
    for room_id in rooms:
        assert_gapless(await socket.collect(room_id, 5), 1, 5)


# --- acknowledgements ---------------------------------------------------------------------------------------------


async def cursors(user, room_id):
    """[delivered, read] of this user's device, as its welcome says."""
    socket = await user.connect()
    room = socket.room(room_id)
    socket.drop()
    return [room["delivered"], room["read"]]


async def test_acks_and_reads_move_cursors_by_rest(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abcde")
    assert await cursors(bob, room_id) == [0, 0]
    assert (await bob.post("/acks", {"room_id": room_id, "seq": 3})).ok() == {"success": True}
    assert (await cursors(bob, room_id))[0] == 3
    assert (await bob.post("/reads", {"room_id": room_id, "seq": 2})).ok() == {"success": True}
    assert await cursors(bob, room_id) == [3, 2]
    assert await cursors(alice, room_id) == [0, 0]


async def test_acks_and_reads_move_cursors_by_websocket(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abcde")
    socket = await bob.connect()
    await socket.ok("ack", room_id=room_id, seq=4)
    await socket.ok("read", room_id=room_id, seq=1)
    assert await cursors(bob, room_id) == [4, 1]


async def test_ack_moves_its_device_and_the_user_upwards_only(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abcdefgh")
    phone, desk = bob.on_device("phone"), bob.on_device("desk")
    (await phone.post("/acks", {"room_id": room_id, "seq": 5})).ok()
    assert (await cursors(phone, room_id))[0] == 5
    assert (await cursors(bob, room_id))[0] == 5
    # A device never seen before starts at the user's own cursor, and moves alone from its own first ack.
    assert (await cursors(desk, room_id))[0] == 5
    (await desk.post("/acks", {"room_id": room_id, "seq": 7})).ok()
    assert (await cursors(desk, room_id))[0] == 7
    assert (await cursors(phone, room_id))[0] == 5
    assert (await cursors(bob, room_id))[0] == 7
    (await phone.post("/acks", {"room_id": room_id, "seq": 6})).ok()
    assert (await cursors(phone, room_id))[0] == 6
    assert (await cursors(bob, room_id))[0] == 7


async def test_device_is_named_by_hello_or_header_or_query(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abc")
    by_hello = await bob.connect(device="tablet")
    await by_hello.ok("ack", room_id=room_id, seq=2)
    await (await bob.on_device("other").connect()).ok("ack", room_id=room_id, seq=3)
    assert (await bob.connect(device="tablet")).room(room_id)["delivered"] == 2
    assert (await bob.on_device("tablet").connect()).room(room_id)["delivered"] == 2
    by_query = await bob.connect_silent(path="/v1/ws?device=tablet")
    assert (await by_query.hello())["rooms"][0]["delivered"] == 2


async def test_cursors_survive_a_kill(make_gateway):
    gateway = make_gateway()
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    await alice.send_many(room_id, "abcde")
    phone = bob.on_device("phone")
    (await phone.post("/acks", {"room_id": room_id, "seq": 4})).ok()
    (await phone.post("/reads", {"room_id": room_id, "seq": 3})).ok()
    await asyncio.sleep(0.4)  # a moved cursor is written within 100 ms
    gateway.restart("kill")
    assert await cursors(phone, room_id) == [4, 3]
    assert (await cursors(bob, room_id))[0] == 4


async def test_delivery_does_not_wait_for_acks(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    socket = await bob.connect()
    for number in range(100):
        await alice.send(room_id, f"{number}")
    assert_gapless(await socket.collect(room_id, 100), 1, 100)
    assert await cursors(bob, room_id) == [0, 0]


async def test_ack_of_a_foreign_room_is_refused(gateway):
    room_id, alice = await room_of(gateway, "alice", is_private=True)
    eve = alice.tenant.user("eve")
    (await eve.post("/acks", {"room_id": room_id, "seq": 1})).problem(404)
    (await eve.post("/reads", {"room_id": room_id, "seq": 1})).problem(404)
    for body in ({"room_id": room_id}, {"seq": 1}, {"room_id": room_id, "seq": "1"}, {"room_id": room_id, "seq": -1}):
        (await alice.post("/acks", body)).problem(400)


async def test_cursors_of_a_new_member_start_at_the_join(gateway):
    room_id, alice = await room_of(gateway, "alice", is_private=False)
    await alice.send_many(room_id, "abc")
    bob = alice.tenant.user("bob")
    (await bob.post(f"/rooms/{room_id}/join")).succeeded()
    assert await cursors(bob, room_id) in ([3, 3], [4, 4])  # just before the join's own event, or at it
    socket = await bob.connect_automatic()
    assert (await socket.expect("resumed", room_id=room_id))["from"] >= 4


async def test_a_burst_of_sends_is_answered_at_once_on_an_idle_gateway(make_gateway):
    """Every answer follows the one before it without waiting for anything else to happen on the core."""
    alice, = (await new_tenant(make_gateway(cores=1))).users("alice")
    room_id = await alice.new_room("group")
    sender = await alice.connect(rooms="none")
    started = time.monotonic()
    ids = [await sender.begin("send_message", room_id=room_id, content=f"{number}") for number in range(256)]
    for request_id in ids:
        assert (await sender.answer(request_id))["type"] == "ok"
    assert time.monotonic() - started < 0.8, "answers waited for a timer"
