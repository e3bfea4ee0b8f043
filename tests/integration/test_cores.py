"""One order, whatever the number of cores and wherever senders and readers live."""

import asyncio

from client import metric, new_tenant
from shapes import assert_gapless


async def test_all_subscribers_see_one_order(gateway_of_each_size):
    alice, *others = (await new_tenant(gateway_of_each_size)).users("alice", "bob", "carol", "dave")
    people = [alice, *others]
    room_id = await alice.new_room("group", *others)
    readers = [await person.connect() for person in people] + [await person.connect_automatic() for person in people]
    senders = [await people[number % 4].connect(rooms="none") for number in range(8)]
    each = 40
    total = (len(senders) + 2) * each

    async def by_socket(name, socket):
        for number in range(each):
            await socket.message(room_id, f"{name}/{number}", meta={"n": number})

    async def by_rest(name, person):
        for number in range(each):
            await person.send(room_id, f"{name}/{number}")

    seen, *_ = await asyncio.gather(
        asyncio.gather(*(reader.collect(room_id, total, timeout_s=40) for reader in readers)),
        *(by_socket(f"socket-{name}", socket) for name, socket in enumerate(senders)),
        *(by_rest(f"rest-{name}", person) for name, person in enumerate(people[:2])))
    order = [event.text for event in seen[0]]
    for events in seen:
        assert_gapless(events, 1, total)
        assert [event.text for event in events] == order
    assert await alice.events(room_id) == seen[0]
    # What one sender sent one after the other stands in that order.
    for name in {event["content"].split("/")[0] for event in seen[0]}:
        numbers = [int(event["content"].split("/")[1]) for event in seen[0] if event["content"].startswith(name + "/")]
        assert numbers == list(range(each))


async def test_rooms_on_all_cores_are_each_in_order(gateway_of_each_size):
    alice, bob = (await new_tenant(gateway_of_each_size)).users("alice", "bob")
    rooms = [await alice.new_room("group", bob) for _ in range(12)]
    readers = [await bob.connect() for _ in range(4)]
    sender = await alice.connect(rooms="none")
    ids = [await sender.begin("send_message", room_id=room_id, content=f"{number}")
           for number in range(20) for room_id in rooms]
    for request_id in ids:
        assert (await sender.answer(request_id))["type"] == "ok"
    for reader in readers:
        for room_id in rooms:
            events = await reader.collect(room_id, 20)
            assert_gapless(events, 1, 20)
            assert [event["content"] for event in events] == [f"{number}" for number in range(20)]


async def test_one_connection_per_request_reaches_every_core(gateway_of_each_size):
    """Each connection is accepted wherever the kernel likes; what one wrote the next one reads."""
    alice = (await new_tenant(gateway_of_each_size)).user("alice")
    room_id = await alice.new_room("group")
    for number in range(24):
        sent = (await alice.post(f"/rooms/{room_id}/messages", {"content": f"{number}"},
                                 headers={"Connection": "close"})).ok(201)
        assert sent["seq"] == number + 1
        answer = await alice.call("GET", f"/rooms/{room_id}/messages", params={"before_seq": "1000", "limit": "1"},
                                  headers={"Connection": "close"})
        assert answer.ok()["items"][0]["content"] == f"{number}"


async def test_cross_core_deliveries_are_counted(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    sockets = [await bob.connect() for _ in range(24)]  # all on one core once in 2^23 runs
    before = await metric(gateway, "carillon_cross_core_deliveries_total")
    for number in range(10):
        await alice.send(room_id, f"{number}")
    for socket in sockets:
        assert_gapless(await socket.collect(room_id, 10), 1, 10)
    assert await metric(gateway, "carillon_cross_core_deliveries_total") >= before + 10


async def test_single_core_delivers_nothing_across(shared_gateways):
    gateway = shared_gateways.get(cores=1)
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    socket = await bob.connect()
    await alice.send(room_id, "x")
    await socket.collect(room_id, 1)
    assert await metric(gateway, "carillon_cross_core_deliveries_total") == 0
    gateway.assert_healthy()


async def test_data_outlives_a_change_of_the_number_of_cores(make_gateway):
    """Homes are a matter of the running process, never of the store."""
    gateway = make_gateway(cores=1)
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    rooms = [await alice.new_room("group", bob) for _ in range(6)]
    for cores in (4, 2, 1):
        for room_id in rooms:
            await alice.send(room_id, f"{cores}", client_id=f"before-{cores}")
        gateway.cores = cores
        gateway.restart("stop" if cores == 2 else "kill")
        for room_id in rooms:
            await alice.send(room_id, f"{cores}", client_id=f"before-{cores}")
    for room_id in rooms:
        assert [event["content"] for event in await bob.events(room_id)] == ["4", "2", "1"]
