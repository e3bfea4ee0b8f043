"""Notifications: durable when they are answered, pushed until they are acknowledged, dead letters when nobody does."""

import asyncio
import random
import time

import pytest

from client import SUBPROTOCOL, Operator, WAIT_S, call, metric, metric_becomes, new_tenant
from recorder import limit
from shapes import assert_members, assert_time
from wire import TEXT, FrameWire

TOPIC = "orders.shipped"


def soon(**more):
    """Settings with which attempts follow each other quickly."""
    return {"notify__retry_base": "200ms", "notify__attempts": "3", **more}


async def notify(sender, targets, payload="hello", status=202, headers=None, **rest):
    """POST /notify; a list of users as targets is short for their ids."""
    if isinstance(targets, (list, tuple)):
        targets = {"user_ids": [user.user_id for user in targets]}
    body = {"topic": TOPIC, "payload": payload, "targets": targets, **rest}
    return (await sender.post("/notify", body, headers=headers)).ok(status)


async def mine(user, **params):
    return (await user.get("/notifications", **params)).ok()["items"]


async def until(probe, what):
    """Waits until the coroutine function gives something true, and returns it."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found = await probe()
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {WAIT_S} s")


async def until_status(user, status, num=1):
    async def probe():
        items = await mine(user)
        return items if len([item for item in items if item["status"] == status]) == num else None
    return await until(probe, f"{num} {status}")


async def dead_letters(gateway, tenant, **params):
    answer = await Operator(gateway).call("GET", "/dead-letters", params={"tenant_id": tenant.tenant_id, **params})
    return answer.ok()["items"]


async def no_more(socket, seconds):
    """No notification comes for that long."""
    try:
        event = await socket.take(lambda event: event.get("type") == "notification", "a notification", seconds)
    except AssertionError:
        return
    raise AssertionError(f"heard {event}")


async def counted(gateway, status):
    return await metric(gateway, "notifications_sent_total", type="websocket", provider="websocket", status=status)


# --- delivery ---------------------------------------------------------------------------------------------------------


async def test_notification_reaches_every_socket_and_is_delivered_by_one_ack(gateway_of_each_size):
    tenant = await new_tenant(gateway_of_each_size)
    backend, bob = tenant.users("backend", "bob")
    sockets = [await bob.connect() for _ in range(4)]
    payload = {"order": 1, "lines": ["ä", None, 1.50]}
    made = await notify(backend, [bob], payload, priority="high")
    assert_time(made["created_at"])
    for socket in sockets:
        push = await socket.expect("notification")
        assert push == {"type": "notification", "notification_id": made["notification_id"], "topic": TOPIC,
                        "payload": payload, "priority": "high", "created_at": made["created_at"]}
    await sockets[0].ok("ack_notification", notification_id=made["notification_id"])
    item, = await mine(bob)
    assert_members(item, ("notification_id", "topic", "payload", "priority", "created_at", "last_attempt_at"))
    assert (item["status"], item["attempts"]) == ("delivered", 1)
    assert_time(item["delivered_at"])
    assert await mine(backend) == []


async def test_payload_is_returned_as_it_was_sent(gateway):
    backend, bob = (await new_tenant(gateway)).users("backend", "bob")
    socket = await bob.connect()
    payload = '{ "n" : 12345678901234567890.10,"s":"\\u00e4" }'
    text = '{"topic":"t","targets":{"user_ids":["bob"]},"payload":' + payload + "}"
    (await backend.call("POST", "/notify", raw=text)).ok(202)
    assert f'"payload":{payload},' in (await socket.expect("notification")).text
    assert f'"payload":{payload},' in (await bob.get("/notifications")).text


async def test_acknowledged_notification_is_not_pushed_again(make_gateway):
    gateway = make_gateway(**soon())
    backend, bob = (await new_tenant(gateway)).users("backend", "bob")
    socket = await bob.connect()
    made = await notify(backend, [bob])
    await socket.expect("notification")
    await socket.ok("ack_notification", notification_id=made["notification_id"])
    await socket.ok("ack_notification", notification_id=made["notification_id"])  # again changes nothing
    await no_more(socket, 1.0)
    await no_more(await bob.connect(), 0.5)
    assert [item["attempts"] for item in await mine(bob)] == [1]
    assert await counted(gateway, "sent") == 1 and await counted(gateway, "delivered") == 1


async def test_unacknowledged_notification_is_tried_again_until_it_is_acknowledged(make_gateway):
    gateway = make_gateway(**soon(notify__attempts="10"))
    backend, bob = (await new_tenant(gateway)).users("backend", "bob")
    socket = await bob.connect()
    made = await notify(backend, [bob])
    first = await socket.expect("notification")
    for _ in range(2):
        assert await socket.expect("notification") == first
    (await bob.post(f"/notifications/{made['notification_id']}/ack")).ok()
    item, = await mine(bob)
    assert item["status"] == "delivered" and item["attempts"] >= 3


async def test_offline_user_gets_everything_on_return_by_priority_then_time(gateway_of_each_size):
    backend, bob = (await new_tenant(gateway_of_each_size)).users("backend", "bob")
    wanted = []
    for priority in ("low", "normal", "urgent", "high", "normal", "urgent"):
        made = await notify(backend, [bob], priority, priority=priority)
        wanted.append((["urgent", "high", "normal", "low"].index(priority), len(wanted), made["notification_id"]))
    assert {item["status"] for item in await mine(bob)} == {"pending"}
    assert {item["attempts"] for item in await mine(bob)} == {0}
    for socket in (await bob.connect(), await bob.connect_automatic()):
        got = [(await socket.expect("notification"))["notification_id"] for _ in wanted]
        assert got == [number for _, _, number in sorted(wanted)]
    for request in [await socket.begin("ack_notification", notification_id=number) for number in got]:
        assert (await socket.answer(request))["type"] == "ok"
    await until_status(bob, "delivered", len(wanted))


@pytest.mark.parametrize("queue", ["64k", "1m"])
async def test_hundreds_of_waiting_notifications_all_arrive_in_order(make_gateway, queue):
    gateway = make_gateway(limits__send_queue=queue)
    backend, bob = (await new_tenant(gateway)).users("backend", "bob")
    made = [(await notify(backend, [bob], "x" * 3000))["notification_id"] for _ in range(200)]
    socket = await bob.connect()
    got = [(await socket.expect("notification"))["notification_id"] for _ in made]
    assert got == made


async def test_socket_that_reads_late_still_gets_everything_in_order(make_gateway):
    gateway = make_gateway(limits__send_queue="64k", notify__retry_base="1h")
    backend, bob = (await new_tenant(gateway)).users("backend", "bob")
    first = await bob.connect()
    made = [(await notify(backend, [bob], "x" * 16000))["notification_id"] for _ in range(300)]
    assert [(await first.expect("notification"))["notification_id"] for _ in made] == made
    first.drop()  # the next attempt is an hour away: what comes now is for the new socket
    wire = await FrameWire.connect(gateway, bob.headers, SUBPROTOCOL, receive_buffer_bytes=8192)
    await wire.send_frame(TEXT, '{"type":"hello"}')
    await asyncio.sleep(1)  # its queue is full meanwhile
    urgent = (await notify(backend, [bob], "late", priority="urgent"))["notification_id"]
    got = [(await wire.text(lambda event: event["type"] == "notification"))["notification_id"] for _ in range(301)]
    assert [number for number in got if number != urgent] == made
    assert urgent in got


async def test_members_of_a_room_are_notified(gateway_of_each_size):
    tenant = await new_tenant(gateway_of_each_size)
    backend, ann, bob, cat, dan = tenant.users("backend", "ann", "bob", "cat", "dan")
    room_id = await ann.new_room("group", bob, cat)
    sockets = [await user.connect() for user in (ann, bob, cat, dan)]
    made = await notify(backend, {"room_id": room_id, "user_ids": ["bob", "bob"]})
    assert made["users"] == 3
    for socket in sockets[:3]:
        assert (await socket.expect("notification"))["notification_id"] == made["notification_id"]
    await no_more(sockets[3], 0.3)
    assert len(await mine(bob)) == 1


async def test_subscribers_of_a_topic_are_notified(gateway):
    tenant = await new_tenant(gateway)
    backend, ann, bob = tenant.users("backend", "ann", "bob")
    for user, topic in ((ann, TOPIC), (ann, "news/today"), (bob, "news/today")):
        subscribed = (await user.post("/users/me/subscriptions", {"topic": topic})).ok(201)
        assert (await user.post("/users/me/subscriptions", {"topic": topic})).ok(200) == subscribed
    assert [item["topic"] for item in (await ann.get("/users/me/subscriptions")).ok()["items"]] == ["news/today", TOPIC]
    socket = await ann.connect()
    assert (await notify(backend, {"topic_subscribers": True}))["users"] == 1
    assert (await socket.expect("notification"))["topic"] == TOPIC
    assert (await bob.delete("/users/me/subscriptions/news%2Ftoday")).status == 204
    (await bob.delete("/users/me/subscriptions/news%2Ftoday")).problem(404, code="subscription.not_found")
    assert (await notify(backend, {"topic_subscribers": True}, topic="news/today"))["users"] == 1
    assert (await notify(backend, {"topic_subscribers": True}, topic="nobody's"))["users"] == 0


# --- dead letters -------------------------------------------------------------------------------------------------------


async def test_dead_letter_after_the_last_attempt_and_again_by_the_operator(make_gateway):
    gateway = make_gateway(**soon())
    tenant = await new_tenant(gateway)
    backend, bob = tenant.users("backend", "bob")
    socket = await bob.connect()
    made = await notify(backend, [bob], priority="urgent")
    await until_status(bob, "dead")
    letter, = await dead_letters(gateway, tenant)
    assert_members(letter, ("created_at", "last_attempt_at", "dead_at"))
    assert letter["notification_id"] == made["notification_id"]
    assert (letter["user_id"], letter["topic"], letter["tenant_id"]) == ("bob", TOPIC, tenant.tenant_id)
    assert (letter["reason"], letter["attempts"], letter["priority"]) == ("attempts", 3, "urgent")
    for _ in range(3):
        await socket.expect("notification")
    await no_more(socket, 0.5)
    operator = Operator(gateway)
    await operator.call("POST", f"/dead-letters/{letter['id']}/retry")
    assert await dead_letters(gateway, tenant) == []
    await socket.expect("notification")
    await socket.ok("ack_notification", notification_id=made["notification_id"])
    item, = await mine(bob)
    assert (item["status"], item["attempts"]) == ("delivered", 1)
    (await operator.call("POST", f"/dead-letters/{letter['id']}/retry")).problem(404, code="dead_letter.not_found")
    assert await counted(gateway, "dead") == 1


async def test_notification_expires_while_its_user_is_away(make_gateway):
    gateway = make_gateway(notify__expires="1s")
    tenant = await new_tenant(gateway)
    backend, bob = tenant.users("backend", "bob")
    await notify(backend, [bob])
    item, = await until_status(bob, "dead")
    assert (item["attempts"], item["reason"], item["last_attempt_at"]) == (0, "expired", None)
    letter, = await dead_letters(gateway, tenant)
    assert letter["reason"] == "expired"
    await no_more(await bob.connect(), 0.5)


async def test_late_acknowledgement_takes_a_dead_letter_back(make_gateway):
    gateway = make_gateway(**soon(notify__attempts="1"))
    tenant = await new_tenant(gateway)
    backend, bob = tenant.users("backend", "bob")
    socket = await bob.connect()
    made = await notify(backend, [bob])
    await until_status(bob, "dead")
    await socket.ok("ack_notification", notification_id=made["notification_id"])
    assert [item["status"] for item in await mine(bob)] == ["delivered"]
    assert await dead_letters(gateway, tenant) == []


async def test_operator_deletes_a_dead_letter(make_gateway):
    gateway = make_gateway(notify__expires="300ms")
    tenant = await new_tenant(gateway)
    backend, bob = tenant.users("backend", "bob")
    await notify(backend, [bob])
    await until_status(bob, "dead")
    letter, = await dead_letters(gateway, tenant)
    operator = Operator(gateway)
    assert (await operator.call("DELETE", f"/dead-letters/{letter['id']}")).status == 204
    (await operator.call("DELETE", f"/dead-letters/{letter['id']}")).problem(404, code="dead_letter.not_found")
    assert await dead_letters(gateway, tenant) == [] and await mine(bob) == []


async def test_dead_letters_are_paged_newest_first(make_gateway):
    gateway = make_gateway(notify__expires="300ms")
    tenant, other = await new_tenant(gateway), await new_tenant(gateway)
    users = tenant.users("ann", "bob", "cat")
    for _ in range(3):
        await notify(users[0], users)
    await notify(other.user("eve"), [other.user("eve")])

    async def all_dead():
        return len((await Operator(gateway).call("GET", "/dead-letters")).ok()["items"]) == 10
    await until(all_dead, "ten dead letters")
    letters, params = [], {"tenant_id": tenant.tenant_id, "limit": "2"}
    while True:
        page = (await Operator(gateway).call("GET", "/dead-letters", params=params)).ok()
        assert len(page["items"]) <= 2
        letters += page["items"]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert len({letter["id"] for letter in letters}) == 9
    assert {letter["tenant_id"] for letter in letters} == {tenant.tenant_id}
    times = [letter["created_at"] for letter in letters]
    assert times == sorted(times, reverse=True)


async def test_delivered_notifications_leave_the_list_after_a_while(make_gateway):
    gateway = make_gateway(notify__keep="1s", notify__expires="2s")
    backend, bob = (await new_tenant(gateway)).users("backend", "bob")
    made = await notify(backend, [bob])
    (await bob.post(f"/notifications/{made['notification_id']}/ack")).ok()
    assert len(await mine(bob)) == 1

    async def gone():
        return await mine(bob) == []
    await until(gone, "the end of the history")


# --- durability -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_what_was_answered_is_delivered_after_a_restart(make_gateway, how):
    gateway = make_gateway()
    tenant = await new_tenant(gateway)
    backend, ann, bob = tenant.users("backend", "ann", "bob")
    made = [(await notify(backend, [ann, bob], number))["notification_id"] for number in range(20)]
    socket = await ann.connect()
    for number in made:
        await socket.expect("notification", notification_id=number)
    for number in made[:10]:
        await socket.ok("ack_notification", notification_id=number)
    gateway.restart(how)
    await metric_becomes(gateway, "carillon_notifications_waiting", 10 + 20)
    for user, wanted in ((ann, made[10:]), (bob, made)):
        socket = await user.connect()
        for number in wanted:
            await socket.expect("notification", notification_id=number)
        await no_more(socket, 0.3)
        assert len(await mine(user)) == 20
    gateway.stop()
    verified = gateway.run_command("verify-store", gateway.data)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    gateway.start()


async def test_kill_during_load_loses_nothing_that_was_answered(make_gateway):
    gateway = make_gateway()
    tenant = await new_tenant(gateway)
    backend, bob = tenant.users("backend", "bob")
    await notify(backend, [bob])
    answered, refused = [], []

    async def send():
        try:
            for number in range(60):
                answered.append((await notify(backend, [bob], number))["notification_id"])
        except Exception as failure:  # the gateway is gone: what was not answered may be there or not
            refused.append(failure)
    sends = [asyncio.ensure_future(send()) for _ in range(16)]
    while len(answered) < 50:
        await asyncio.sleep(0)
    gateway.kill()
    await asyncio.gather(*sends)
    assert len(refused) == 16
    gateway.start()
    kept = [item["notification_id"] for item in await mine(bob, limit=1000)]
    assert set(answered) <= set(kept)
    assert len(kept) == len(set(kept))


async def test_retry_by_the_operator_survives_a_kill(make_gateway):
    gateway = make_gateway(notify__expires="500ms")
    tenant = await new_tenant(gateway)
    backend, bob = tenant.users("backend", "bob")
    made = await notify(backend, [bob])
    await until_status(bob, "dead")
    gateway.kill()
    gateway.settings["notify.expires"] = "1h"
    gateway.start()
    letter, = await dead_letters(gateway, tenant)
    (await Operator(gateway).call("POST", f"/dead-letters/{letter['id']}/retry")).ok()
    gateway.restart("kill")
    socket = await bob.connect()
    assert (await socket.expect("notification"))["notification_id"] == made["notification_id"]


# --- repeats ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [None, "kill"])
async def test_same_key_notifies_once(make_gateway, how):
    gateway = make_gateway()
    backend, bob = (await new_tenant(gateway)).users("backend", "bob")
    key = {"Idempotency-Key": "once"}
    first = await notify(backend, [bob], headers=key)
    if how:
        gateway.restart(how)
    assert await notify(backend, [bob], headers=key) == first
    (await backend.post("/notify", {"topic": "other", "payload": 1, "targets": {"user_ids": ["bob"]}}, headers=key)
     ).problem(422, code="idempotency.mismatch")
    assert len(await mine(bob)) == 1


async def test_same_key_at_once_notifies_once(gateway_of_each_size):
    backend, bob = (await new_tenant(gateway_of_each_size)).users("backend", "bob")
    answers = await asyncio.gather(*(notify(backend, [bob], headers={"Idempotency-Key": "k"}) for _ in range(20)))
    assert len({answer["notification_id"] for answer in answers}) == 1
    assert len(await mine(bob)) == 1


# --- who may, and what is refused ---------------------------------------------------------------------------------------------


async def test_other_tenants_neither_hear_nor_acknowledge(gateway):
    tenant, other = await new_tenant(gateway), await new_tenant(gateway)
    backend, bob, other_bob = tenant.user("backend"), tenant.user("bob"), other.user("bob")
    socket, foreign = await bob.connect(), await other_bob.connect()
    room_id = await bob.new_room("group")
    made = await notify(backend, [bob])
    await socket.expect("notification")
    await no_more(foreign, 0.3)
    assert await mine(other_bob) == []
    await foreign.refused("ack_notification", "notification.not_found", notification_id=made["notification_id"])
    (await other_bob.post(f"/notifications/{made['notification_id']}/ack")).problem(404, code="notification.not_found")
    assert [item["status"] for item in await mine(bob)] == ["pending"]
    body = {"topic": "t", "payload": 1, "targets": {"room_id": room_id}}
    (await other_bob.post("/notify", body)).problem(404, code="room.not_found")
    assert await dead_letters(gateway, other) == []


async def test_other_users_do_not_acknowledge(gateway):
    backend, ann, bob = (await new_tenant(gateway)).users("backend", "ann", "bob")
    made = await notify(backend, [bob])
    (await ann.post(f"/notifications/{made['notification_id']}/ack")).problem(404, code="notification.not_found")
    assert [item["status"] for item in await mine(bob)] == ["pending"]


async def test_read_keys_neither_notify_nor_acknowledge(gateway):
    tenant = await new_tenant(gateway)
    read_key = (await Operator(gateway).new_key(tenant, "read"))["api_key"]
    reader = tenant.user("bob", read_key)
    body = {"topic": "t", "payload": 1, "targets": {"user_ids": ["bob"]}}
    (await reader.post("/notify", body)).problem(403, code="auth.forbidden")
    made = await notify(tenant.user("backend"), [reader])
    socket = await reader.connect()
    await socket.expect("notification")
    await socket.refused("ack_notification", "auth.forbidden", notification_id=made["notification_id"])


GOOD = {"topic": "t", "payload": {"a": 1}, "targets": {"user_ids": ["bob"]}}


@pytest.mark.parametrize("change, code, field", [
    ({"topic": None}, "field.missing", "topic"),
    ({"topic": ""}, "field.invalid", "topic"),
    ({"topic": 7}, "field.invalid", "topic"),
    ({"topic": "é" * (limit("TOPIC_BYTES_MAX") // 2 + 1)}, "field.too_long", "topic"),
    ({"payload": None}, "field.missing", "payload"),
    ({"payload": "x" * limit("PAYLOAD_BYTES_MAX")}, "field.too_long", "payload"),
    ({"priority": "soon"}, "field.invalid", "priority"),
    ({"targets": None}, "field.missing", "targets"),
    ({"targets": []}, "field.invalid", "targets"),
    ({"targets": {}}, "field.missing", "targets"),
    ({"targets": {"topic_subscribers": False}}, "field.missing", "targets"),
    ({"targets": {"topic_subscribers": 1}}, "field.invalid", "targets.topic_subscribers"),
    ({"targets": {"user_ids": []}}, "field.invalid", "targets.user_ids"),
    ({"targets": {"user_ids": ["bob", 1]}}, "field.invalid", "targets.user_ids"),
    ({"targets": {"user_ids": ["b"] * (limit("NOTIFY_USERS_MAX") + 1)}}, "field.too_many", "targets.user_ids"),
    ({"targets": {"room_id": 5}}, "field.invalid", "targets.room_id"),
    ({"targets": {"room_id": "r_0"}}, "room.not_found", "targets.room_id"),
])
async def test_what_is_wrong_is_named(gateway, change, code, field):
    backend = (await new_tenant(gateway)).user("backend")
    problem = (await backend.post("/notify", {**GOOD, **change})).problem(400, 404, code=code)
    assert problem["field"] == field


async def test_each_field_is_bounded(gateway):
    backend = (await new_tenant(gateway)).user("backend")
    users, topic, payload = limit("NOTIFY_USERS_MAX"), limit("TOPIC_BYTES_MAX"), limit("PAYLOAD_BYTES_MAX")
    for good, change, code in (
            ({"topic": "x" * topic}, {"topic": "x" * (topic + 1)}, "field.too_long"),
            ({"payload": "x" * (payload - 2)}, {"payload": "x" * (payload - 1)}, "field.too_long"),
            ({"targets": {"user_ids": ["b"] * users}}, {"targets": {"user_ids": ["b"] * (users + 1)}}, "field.too_many")):
        assert (await backend.post("/notify", {**GOOD, **good})).ok(202)["users"] == 1
        (await backend.post("/notify", {**GOOD, **change})).problem(400, code=code)
    assert (await backend.post("/users/me/subscriptions", {"topic": "x" * topic})).ok(201)["topic"] == "x" * topic
    (await backend.post("/users/me/subscriptions", {"topic": "x" * (topic + 1)})).problem(400, code="field.too_long")


async def test_payload_times_users_is_bounded(gateway):
    backend = (await new_tenant(gateway)).user("backend")
    users = [f"u{number}" for number in range(600)]
    body = {"topic": "t", "payload": "x" * 16000, "targets": {"user_ids": users}}
    problem = (await backend.post("/notify", body)).problem(413, code="notification.too_large")
    assert problem["field"] == "payload"
    (await backend.post("/notify", {**body, "payload": "x" * 5000})).ok(202)


async def test_full_inbox_makes_dead_letters(gateway):
    tenant = await new_tenant(gateway)
    backend, ann, bob = tenant.users("backend", "ann", "bob")
    for start in range(0, limit("PENDING_USER_MAX"), 50):
        await asyncio.gather(*(notify(backend, [bob], start + number) for number in range(50)))
    made = await notify(backend, [ann, bob], "too many")
    assert (await mine(bob, limit=1))[0]["status"] == "dead"
    assert (await mine(ann))[0]["status"] == "pending"
    letter, = await dead_letters(gateway, tenant)
    assert (letter["reason"], letter["user_id"], letter["notification_id"]) == ("inbox_full", "bob", made["notification_id"])
    (await Operator(gateway).call("POST", f"/dead-letters/{letter['id']}/retry")).problem(409, code="notification.outbox_full")


async def test_topics_of_a_user_are_bounded(gateway):
    bob, = (await new_tenant(gateway)).users("bob")
    most = limit("SUBSCRIPTIONS_USER_MAX")

    async def subscribe(number):
        return await bob.post("/users/me/subscriptions", {"topic": f"topic {number}"})

    for start in range(0, most, 50):
        answers = await asyncio.gather(*(subscribe(number) for number in range(start, min(start + 50, most))))
        assert {answer.status for answer in answers} == {201}
    (await subscribe(most)).problem(409, code="subscription.topics_full")
    (await subscribe(0)).ok(200)  # it is there already
    assert (await bob.delete("/users/me/subscriptions/topic%200")).status == 204
    (await subscribe(most)).ok(201)


async def test_list_is_paged_newest_first(gateway):
    backend, bob = (await new_tenant(gateway)).users("backend", "bob")
    made = [(await notify(backend, [bob], number))["notification_id"] for number in range(7)]
    got, cursor = [], {}
    while True:
        page = (await bob.get("/notifications", limit=3, **cursor)).ok()
        got += [item["notification_id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert got == made[::-1]
    (await bob.get("/notifications", cursor="n_x")).problem(400, code="cursor.invalid")


async def test_operator_routes_refuse_what_does_not_exist(gateway):
    tenant = await new_tenant(gateway)
    operator = Operator(gateway)
    (await operator.call("GET", "/dead-letters", params={"tenant_id": "t_x"})).problem(404, code="tenant.not_found")
    (await operator.call("GET", "/dead-letters", params={"cursor": "d_x"})).problem(400, code="cursor.invalid")
    (await operator.call("POST", "/dead-letters/d_x/retry")).problem(404, code="dead_letter.not_found")
    (await call(gateway, "GET", "/v1/admin/dead-letters", tenant.user("bob").headers)).problem(401)


# --- everything at once -------------------------------------------------------------------------------------------------------


class Bustle:
    """Clients that come, acknowledge some and go; backends; an operator who retries and deletes what is dead."""

    def __init__(self, gateway, tenant, num_users):
        self.gateway, self.backend = gateway, tenant.user("backend")
        self.users = [tenant.user(f"user-{number}") for number in range(num_users)]
        self.random, self.stopped, self.delivered = random.Random(1), False, 0

    async def client(self, user):
        while not self.stopped:
            socket = await user.connect()
            for _ in range(self.random.randint(5, 50)):
                try:
                    event = await socket.next(0.2)
                except asyncio.TimeoutError:
                    break
                if event["type"] == "ok":
                    self.delivered += 1
                elif event["type"] == "notification" and self.random.random() < 0.6:
                    await socket.begin("ack_notification", notification_id=event["notification_id"])
                else:  # it may be deleted by now
                    assert event["type"] == "notification" or event["code"] == "notification.not_found", event
            socket.drop()

    async def sender(self):
        while not self.stopped:
            await notify(self.backend, self.random.sample(self.users, 3), "x" * self.random.randint(1, 3000))
            await asyncio.sleep(0.01)

    async def operator(self):
        operator = Operator(self.gateway)
        while not self.stopped:
            letters = (await operator.call("GET", "/dead-letters", params={"limit": "20"})).ok()["items"]
            calls = [operator.call(*self.random.choice([("POST", f"/dead-letters/{letter['id']}/retry"),
                                                        ("DELETE", f"/dead-letters/{letter['id']}")]))
                     for letter in letters for _ in range(2)]
            for answer in await asyncio.gather(*calls):
                assert answer.status in (200, 204, 404), answer
            await asyncio.sleep(0.05)

    async def run(self, seconds):
        tasks = [asyncio.ensure_future(each) for each in
                 [self.client(user) for user in self.users] + [self.sender(), self.sender(), self.operator()]]
        await asyncio.sleep(seconds)
        self.stopped = True
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_everything_at_once_leaves_a_store_in_order(make_gateway, how):
    gateway = make_gateway(cores=4, notify__retry_base="50ms", notify__attempts="2", notify__expires="2s",
                           notify__keep="1s")
    bustle = Bustle(gateway, await new_tenant(gateway), 12)
    await bustle.run(4)
    assert bustle.delivered > 20
    assert await counted(gateway, "dead") > 0
    getattr(gateway, how)()
    verified = gateway.run_command("verify-store", gateway.data)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    gateway.start()
