"""A request that is sent again does nothing again."""

import asyncio

import pytest

from client import Operator, call, new_tenant

MISMATCH = "idempotency.mismatch"


async def room_of(gateway, *user_ids):
    users = (await new_tenant(gateway)).users(*user_ids)
    return (await users[0].new_room("group", *users[1:]), *users)


def essence(answer):
    """What a repeated send must repeat, by REST or WebSocket."""
    return {name: answer[name] for name in ("message_id", "room_id", "seq", "created_at")}


async def test_same_client_id_and_body_gives_the_first_answer_again(gateway):
    room_id, alice = await room_of(gateway, "alice")
    first = await alice.send(room_id, "once", client_id="c-1", meta={"a": 1})
    for _ in range(3):
        assert await alice.send(room_id, "once", client_id="c-1", meta={"a": 1}) == first
    assert len(await alice.events(room_id)) == 1


async def test_same_client_id_is_one_message_over_rest_and_websocket(gateway):
    room_id, alice = await room_of(gateway, "alice")
    socket, other = await alice.connect(), await alice.connect()
    first = await alice.send(room_id, "once", client_id="c-1")
    assert essence(await socket.message(room_id, "once", client_id="c-1")) == essence(first)
    assert essence(await other.message(room_id, "once", client_id="c-1")) == essence(first)
    second = await socket.message(room_id, "twice", client_id="c-2")
    assert essence(await alice.send(room_id, "twice", client_id="c-2")) == essence(second)
    assert len(await alice.events(room_id)) == 2


@pytest.mark.parametrize("change", [{"content": "other"}, {"meta": {"a": 2}}, {"meta": None}, {"message_type": "note"}],
                         ids=["content", "meta", "no meta", "message_type"])
async def test_same_client_id_with_another_body_is_a_mismatch(gateway, change):
    room_id, alice = await room_of(gateway, "alice")
    body = {"content": "once", "client_id": "c-1", "meta": {"a": 1}}
    first = (await alice.post(f"/rooms/{room_id}/messages", body)).ok(201)
    (await alice.post(f"/rooms/{room_id}/messages", {**body, **change})).problem(422, code=MISMATCH)
    socket = await alice.connect()
    await socket.refused("send_message", MISMATCH, room_id=room_id, **{**body, **change})
    assert (await alice.post(f"/rooms/{room_id}/messages", body)).ok(201) == first
    assert len(await alice.events(room_id)) == 1


async def test_client_id_belongs_to_one_sender_and_one_room(gateway):
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    other_room = await alice.new_room("group")
    sent = [await alice.send(room_id, "x", client_id="same"), await bob.send(room_id, "y", client_id="same"),
            await alice.send(other_room, "z", client_id="same")]
    assert len({message["message_id"] for message in sent}) == 3
    assert [message["content"] for message in await bob.messages(room_id, after_seq=0)] == ["x", "y"]


async def test_client_id_of_64_bytes_is_the_longest(gateway):
    room_id, alice = await room_of(gateway, "alice")
    first = await alice.send(room_id, "x", client_id="é" * 32)
    assert await alice.send(room_id, "x", client_id="é" * 32) == first
    await alice.send(room_id, "x", client_id="é" * 31 + "xy")
    (await alice.post(f"/rooms/{room_id}/messages", {"content": "x", "client_id": "é" * 32 + "x"})).problem(400)
    assert len(await alice.events(room_id)) == 2


async def test_concurrent_duplicates_are_one_append(gateway_of_each_size):
    room_id, alice, bob = await room_of(gateway_of_each_size, "alice", "bob")
    sockets = [await alice.connect() for _ in range(4)]
    listener = await bob.connect()
    by_rest = [alice.send(room_id, "once", client_id="c-1") for _ in range(10)]
    by_socket = [socket.message(room_id, "once", client_id="c-1") for socket in sockets]
    answers = await asyncio.gather(*by_rest, *by_socket)
    assert [essence(answer) for answer in answers] == [essence(answers[0])] * 14
    assert len(await alice.events(room_id)) == 1
    await alice.send(room_id, "fence")
    assert [push["content"] for push in await listener.collect(room_id, 2)] == ["once", "fence"]


async def test_concurrent_duplicates_with_different_bodies_have_one_winner(gateway):
    room_id, alice = await room_of(gateway, "alice")
    answers = await asyncio.gather(*(alice.post(f"/rooms/{room_id}/messages", {"content": f"{n}", "client_id": "c"})
                                     for n in range(8)))
    assert sorted(answer.status for answer in answers) == [201] + [422] * 7
    winner, = [number for number, answer in enumerate(answers) if answer.status == 201]
    assert [event["content"] for event in await alice.events(room_id)] == [f"{winner}"]


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_client_id_is_remembered_across_a_restart(make_gateway, how):
    gateway = make_gateway()
    room_id, alice = await room_of(gateway, "alice")
    first = [await alice.send(room_id, f"{number}", client_id=f"c-{number}") for number in range(20)]
    gateway.restart(how)
    again = [await alice.send(room_id, f"{number}", client_id=f"c-{number}") for number in range(20)]
    assert again == first
    (await alice.post(f"/rooms/{room_id}/messages", {"content": "other", "client_id": "c-3"})).problem(
        422, code=MISMATCH)
    assert len(await alice.events(room_id)) == 20


# --- Idempotency-Key ------------------------------------------------------------------------------------------------


async def test_idempotency_key_covers_messages(gateway):
    room_id, alice = await room_of(gateway, "alice")

    async def send(content, key="k-1", user=alice):
        return await user.post(f"/rooms/{room_id}/messages", {"content": content}, headers={"Idempotency-Key": key})

    first = (await send("once")).ok(201)
    assert (await send("once")).ok(201) == first
    (await send("other")).problem(422, code=MISMATCH)
    assert (await send("once", key="k-2")).ok(201)["seq"] == 2
    assert len(await alice.events(room_id)) == 2


async def test_idempotency_key_covers_room_creation(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")

    async def create(name, user=alice, key="k-1"):
        return await user.post("/rooms", {"type": "group", "name": name}, headers={"Idempotency-Key": key})

    first = (await create("one")).ok(201)
    assert (await create("one")).ok(201)["room_id"] == first["room_id"]
    (await create("two")).problem(422, code=MISMATCH)
    assert len((await alice.get("/rooms")).ok()["items"]) == 1
    assert (await create("one", user=bob)).ok(201)["room_id"] != first["room_id"]
    assert (await create("one", key="k-2")).ok(201)["room_id"] != first["room_id"]


async def test_idempotency_key_covers_joins(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", is_private=False)
    answers = [await bob.post(f"/rooms/{room_id}/join", headers={"Idempotency-Key": "k"}) for _ in range(3)]
    assert len({(answer.status, answer.body) for answer in answers}) == 1
    answers[0].succeeded()
    assert [event["type"] for event in await alice.events(room_id)] == ["user_joined"]


async def test_concurrent_room_creations_under_one_key_make_one_room(gateway):
    alice, = (await new_tenant(gateway)).users("alice")
    answers = await asyncio.gather(*(alice.post("/rooms", {"type": "group", "name": "x"},
                                                headers={"Idempotency-Key": "k"}) for _ in range(8)))
    assert len({answer.ok(201)["room_id"] for answer in answers}) == 1
    assert len((await alice.get("/rooms")).ok()["items"]) == 1


async def test_idempotency_key_is_remembered_across_a_kill(make_gateway):
    gateway = make_gateway()
    room_id, alice = await room_of(gateway, "alice")
    headers = {"Idempotency-Key": "k-1"}
    message = (await alice.post(f"/rooms/{room_id}/messages", {"content": "once"}, headers=headers)).ok(201)
    room = (await alice.post("/rooms", {"type": "group", "name": "x"}, headers=headers)).ok(201)
    gateway.restart("kill")
    assert (await alice.post(f"/rooms/{room_id}/messages", {"content": "once"}, headers=headers)).ok(201) == message
    assert (await alice.post("/rooms", {"type": "group", "name": "x"}, headers=headers)).ok(201)["room_id"] == \
        room["room_id"]
    assert len(await alice.events(room_id)) == 1
    assert len((await alice.get("/rooms")).ok()["items"]) == 2


async def test_repeated_send_is_answered_after_its_sender_has_left(gateway):
    room_id, _, bob = await room_of(gateway, "alice", "bob")
    first = await bob.send(room_id, "once", client_id="c-1")
    (await bob.post(f"/rooms/{room_id}/leave")).ok()
    assert await bob.send(room_id, "once", client_id="c-1") == first
    (await bob.post(f"/rooms/{room_id}/messages", {"content": "new", "client_id": "c-2"})).problem(403, 404)


async def test_repeated_send_in_a_fast_room_says_so_again(gateway):
    tenant = await new_tenant(gateway)
    (await Operator(gateway).call("PATCH", f"/tenants/{tenant.tenant_id}", {"durability": "fast"})).ok()
    alice = tenant.user("alice")
    room_id = await alice.new_room("group")
    assert (await alice.get(f"/rooms/{room_id}")).ok()["durability"] == "fast"
    first = await alice.send(room_id, "once", client_id="c-1")
    assert first["durability"] == "fast"
    assert await alice.send(room_id, "once", client_id="c-1") == first
    socket = await alice.connect()
    assert (await socket.message(room_id, "once", client_id="c-1"))["durability"] == "fast"


async def test_idempotency_key_covers_tenants_and_keys(make_gateway):
    gateway = make_gateway()
    operator = Operator(gateway, by_socket=True)  # which has no headers of its own
    once = {"Idempotency-Key": "k-1"}

    async def make(path, body):
        return await call(gateway, "POST", f"/v1/admin{path}", {"X-Master-Key": gateway.master_key, **once}, body)

    tenant = (await make("/tenants", {"name": "once"})).ok(201)
    assert (await make("/tenants", {"name": "once"})).ok(201) == tenant
    (await make("/tenants", {"name": "other"})).problem(422, code=MISMATCH)
    keys = f"/tenants/{tenant['tenant_id']}/keys"
    key = (await make(keys, {"role": "read"})).ok(201)
    assert (await make(keys, {"role": "read"})).ok(201) == key
    assert len((await operator.call("GET", keys)).ok()["items"]) == 2
    gateway.restart("kill")
    expired = (await make("/tenants", {"name": "once"})).problem(409, code="idempotency.expired")
    assert tenant["tenant_id"] in expired["detail"]
    assert key["key_id"] in (await make(keys, {"role": "read"})).problem(409, code="idempotency.expired")["detail"]
    assert len((await operator.call("GET", "/tenants")).ok()["items"]) == 1
