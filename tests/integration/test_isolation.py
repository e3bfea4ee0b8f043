"""No tenant sees another's bytes: not in an answer, a push, a log line or a metric."""

import secrets
from pathlib import Path

from client import Operator, call, new_tenant


async def test_foreign_room_is_answered_like_one_that_does_not_exist(gateway):
    owner, stranger = (await new_tenant(gateway)).user("alice"), (await new_tenant(gateway)).user("alice")
    room_id = await owner.new_room("group", is_private=False)
    await owner.send(room_id, "x")
    requests = [("GET", "", None), ("GET", "/messages", None), ("GET", "/events", None), ("GET", "/members", None),
                ("POST", "/messages", {"content": "x"}), ("POST", "/join", {}), ("POST", "/leave", {}),
                ("POST", "/members", {"members": ["alice"]}), ("DELETE", "/members/alice", None)]
    for method, path, body in requests:
        foreign = (await stranger.call(method, f"/rooms/{room_id}{path}", body)).problem(404)
        unknown = (await stranger.call(method, f"/rooms/no-such-room{path}", body)).problem(404)
        assert (foreign["code"], foreign["title"]) == (unknown["code"], unknown["title"]), path
    for path in ("/acks", "/reads"):
        (await stranger.post(path, {"room_id": room_id, "seq": 1})).problem(404)
    socket = await stranger.connect()
    for frame_type, members in (("send_message", {"content": "x"}), ("subscribe", {}), ("subscribe", {"after_seq": 0}),
                                ("unsubscribe", {}), ("history", {"limit": 1}), ("ack", {"seq": 1}),
                                ("read", {"seq": 1})):
        foreign = await socket.refused(frame_type, room_id=room_id, **members)
        unknown = await socket.refused(frame_type, room_id="no-such-room", **members)
        assert foreign["code"] == unknown["code"], frame_type
    assert [event["type"] for event in await owner.events(room_id)] == ["message"]


async def test_foreign_users_do_not_exist(gateway):
    owner, stranger = (await new_tenant(gateway)).user("alice"), (await new_tenant(gateway)).user("bob")
    (await owner.get("/users/me")).ok()
    (await stranger.get("/users/alice")).problem(404)


async def test_same_names_in_two_tenants_never_meet(gateway):
    """The same users, DM, client ids and keys in two tenants: two of everything."""
    pairs = [(await new_tenant(gateway)).users("alice", "bob") for _ in range(2)]
    rooms = [await alice.new_room("dm", bob) for alice, bob in pairs]
    sockets = [await bob.connect() for _, bob in pairs]
    assert rooms[0] != rooms[1]
    for number, (alice, _) in enumerate(pairs):
        sent = (await alice.post(f"/rooms/{rooms[number]}/messages", {"content": f"of {number}", "client_id": "c"},
                                 headers={"Idempotency-Key": "k"})).ok(201)
        assert sent["seq"] == 1
    for number, socket in enumerate(sockets):
        assert [room["room_id"] for room in socket.welcome["rooms"]] == [rooms[number]]
        await socket.expect("message", room_id=rooms[number], content=f"of {number}")
        await socket.expect_silence(rooms[1 - number], 0.1)


async def test_canaries_stay_in_their_tenant(gateway):
    """One tenant fills every text it can with a unique string; nothing the other may read contains it, nor any log."""
    canary, secret = f"canary{secrets.token_hex(8)}", f"secret{secrets.token_hex(8)}"
    owner = await new_tenant(gateway)
    alice, bob = owner.user(f"{canary}-alice"), owner.user(f"{canary}-bob")
    room_id = await alice.new_room("group", bob, name=canary, description=canary, is_private=False)
    other = (await new_tenant(gateway)).user("eve")
    other_room = await other.new_room("group")
    socket = await other.connect()
    await alice.send(room_id, f"{secret} in content", meta={"in meta": secret}, client_id=canary)
    await (await bob.connect()).message(room_id, f"{secret} by socket")
    (await alice.post(f"/rooms/{room_id}/messages", {"content": secret, "client_id": "c" * 65})).problem(400)
    (await alice.call("POST", f"/rooms/{room_id}/messages", raw='{"content":"%s"' % secret)).problem(400)

    answers = [await other.get(path) for path in ("/rooms", "/users/me", f"/users/{canary}-alice", f"/rooms/{room_id}",
                                                  f"/rooms/{room_id}/events", f"/rooms/{other_room}/events")]
    answers.append(await other.post("/sync", {"rooms": {room_id: [1, 0]}}))
    answers += [await call(gateway, "GET", path) for path in ("/health", "/ready", "/metrics")]
    for answer in answers:
        shown = answer.text.replace(f"{canary}-alice", "") if answer.status == 404 else answer.text
        assert canary not in shown and secret not in shown, answer
    await other.send(other_room, "fence")
    await socket.expect("message", content="fence")
    assert all(canary not in event.text and secret not in event.text for event in [socket.welcome, *socket.waiting])
    # Contents and keys never reach the log, whoever reads it.
    log = gateway.log_text()
    assert secret not in log
    assert owner.api_key not in log and gateway.master_key not in log


async def test_master_key_is_not_left_in_the_argument_vector(gateway):
    arguments = Path(f"/proc/{gateway.process.pid}/cmdline").read_bytes()
    assert b"carillon" in arguments, arguments
    assert gateway.master_key.encode() not in arguments


async def test_operator_reads_tenants_but_no_messages(gateway):
    tenant = await new_tenant(gateway)
    alice = tenant.user("alice")
    room_id = await alice.new_room("group")
    await alice.send(room_id, "not the operator's")
    master = {"X-Master-Key": gateway.master_key}
    for path in (f"/v1/rooms/{room_id}", f"/v1/rooms/{room_id}/messages", "/v1/rooms"):
        answer = await call(gateway, "GET", path, {**master, "X-User-Id": "alice"})
        answer.problem(401)
    assert "not the operator's" not in str(await Operator(gateway).tenants())
