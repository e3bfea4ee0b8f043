"""Limits: rates of tenants and addresses, connections, and clients that go on regardless."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from client import SUBPROTOCOL, call, metric, metric_reaches, new_tenant
from recorder import limit as bound_of
from test_slow_reader import reader_that_takes_nothing_is_let_go
from wire import CLOSE, PING, PONG, TEXT, FrameWire, HttpWire

RATE = 20  # requests a second where one is set: a bucket is filled at once and empty within a test's first loop
FIELDS = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


async def many(number, ask):
    """That many answers of a coroutine function, all at once."""
    return await asyncio.gather(*(ask() for _ in range(number)))


def statuses(answers):
    counted = {}
    for answer in answers:
        counted[answer.status] = counted.get(answer.status, 0) + 1
    return counted


def assert_rate_fields(answer, limit):
    assert all(name in answer.headers for name in FIELDS), answer
    assert int(answer.headers["X-RateLimit-Limit"]) == limit, answer
    assert 0 <= int(answer.headers["X-RateLimit-Remaining"]) < limit, answer
    assert abs(int(answer.headers["X-RateLimit-Reset"]) - time.time()) < 30, answer


def assert_too_fast(answer, limit):
    problem = answer.problem(429, code="rate.limited")
    assert_rate_fields(answer, limit)
    assert 1 <= int(answer.headers["Retry-After"]) <= 2, answer
    assert int(answer.headers["X-RateLimit-Remaining"]) == 0, answer
    return problem


def assert_took(started, number, limit):
    """What a bucket may have given since `started`: one second's worth and what was filled up since."""
    longest = time.monotonic() - started
    assert limit <= number <= limit * (1 + longest) + 1, f"{number} in {longest:.3f} s at {limit} a second"


# --- a tenant's rate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 4])
async def test_a_tenants_rate_holds_over_all_its_connections_and_cores(make_gateway, cores):
    gateway = make_gateway(cores=cores, limits__tenant_rate=RATE)
    alice = (await new_tenant(gateway)).user("alice")
    started = time.monotonic()
    answers = await many(6 * RATE, lambda: alice.get("/users/me"))
    served = [answer for answer in answers if answer.status == 200]
    assert_took(started, len(served), RATE)
    for answer in answers:
        if answer.status == 200:
            assert_rate_fields(answer, RATE)
        else:
            assert_too_fast(answer, RATE)
    await asyncio.sleep(int(answers[-1].headers["Retry-After"]))
    (await alice.get("/users/me")).ok()


async def test_a_tenants_rate_leaves_other_tenants_and_the_operator_alone(make_gateway):
    gateway = make_gateway(limits__tenant_rate=RATE)
    loud, quiet = (await new_tenant(gateway)).user("loud"), (await new_tenant(gateway)).user("quiet")
    flood, others, tenants = await asyncio.gather(
        many(10 * RATE, lambda: loud.get("/users/me")), many(RATE // 2, lambda: quiet.get("/users/me")),
        many(2 * RATE, lambda: call(gateway, "GET", "/v1/admin/tenants", {"X-Master-Key": gateway.master_key})))
    assert 429 in statuses(flood)
    assert statuses(others) == {200: RATE // 2}
    assert statuses(tenants) == {200: 2 * RATE}
    assert not any("X-RateLimit-Limit" in answer.headers for answer in tenants)


async def test_a_tenant_may_have_its_own_rate(make_gateway):
    gateway = make_gateway(cores=2, limits__tenant_rate=RATE)
    tenant = await new_tenant(gateway)
    alice, path = tenant.user("alice"), f"/v1/admin/tenants/{tenant.tenant_id}"

    async def limit(number):
        body = {"config": {"limits": {"tenant_rate": number}}}
        return await call(gateway, "PATCH", path, {"X-Master-Key": gateway.master_key}, body)

    (await limit(5)).ok()
    assert_rate_fields(await alice.get("/users/me"), 5)
    (await limit(0)).ok()
    answers = await many(3 * RATE, lambda: alice.get("/users/me"))
    assert statuses(answers) == {200: 3 * RATE}
    assert not any("X-RateLimit-Limit" in answer.headers for answer in answers)
    assert (await limit(-1)).problem(400, code="field.invalid")["field"] == "config"
    (await limit(7)).ok()
    gateway.restart("kill")
    assert_rate_fields(await alice.get("/users/me"), 7)


async def test_websocket_operations_count_and_are_told_when_to_try_again(make_gateway):
    gateway = make_gateway(limits__tenant_rate=RATE)
    alice = (await new_tenant(gateway)).user("alice")
    socket = await alice.connect()
    assert int(socket.websocket.response_headers["X-RateLimit-Limit"]) == RATE
    answers = [await socket.request("ping") for _ in range(4 * RATE)]
    refused = [answer for answer in answers if answer["type"] == "error"]
    assert refused and len(refused) < len(answers)
    for answer in refused:
        assert answer["code"] == "rate.limited" and answer["temporary"] is True, answer
        assert 1 <= answer["retry_after_ms"] <= 1000, answer
    await asyncio.sleep(0.2)
    assert (await socket.request("ping"))["type"] == "pong"


async def test_a_socket_that_goes_on_regardless_is_closed_with_4129(make_gateway):
    gateway = make_gateway(limits__tenant_rate=RATE)
    alice = (await new_tenant(gateway)).user("alice")
    socket = await alice.connect()
    refused = 0
    with pytest.raises(Exception):
        for _ in range(3000):
            await socket.send("ping")
            await asyncio.sleep(0)
    assert await socket.closed() == 4129
    refused = [event for event in socket.waiting if event.get("code") == "rate.limited"]
    assert len(refused) == bound_of("RATE_REFUSALS_MAX") + 1


async def test_what_is_no_operation_counts_although_operations_come_between(make_gateway):
    gateway = make_gateway(cores=1, limits__tenant_rate=RATE)
    socket = await (await new_tenant(gateway)).user("alice").connect()
    with pytest.raises(Exception):
        for _ in range(60):
            await socket.send("ping")  # one of these is always within the rate
            for _ in range(60):
                await socket.send("no.such")
            await asyncio.sleep(0.1)
    assert await socket.closed() == 4129


async def test_ping_frames_count(make_gateway):
    gateway = make_gateway(cores=1, limits__tenant_rate=RATE)
    alice = (await new_tenant(gateway)).user("alice")
    wire = await FrameWire.connect(gateway, alice.headers, SUBPROTOCOL)
    for _ in range(RATE + 300):
        await wire.send_frame(PING, b"x")
    while (frame := await wire.frame())[0] == PONG:
        pass
    assert frame == (CLOSE, (4129).to_bytes(2, "big") + b"too many requests")


async def test_a_hello_beyond_a_rate_ends_in_4129(make_gateway):
    gateway = make_gateway(cores=1, limits__tenant_rate=1)
    alice = (await new_tenant(gateway)).user("alice")
    wire = await FrameWire.connect(gateway, alice.headers, SUBPROTOCOL)  # the one that it takes
    await wire.send_frame(TEXT, '{"type":"hello","id":1}')
    opcode, payload = await wire.frame()
    assert opcode == TEXT and b'"code":"rate.limited"' in payload and b'"retry_after_ms":' in payload
    assert (await wire.frame())[1][:2] == (4129).to_bytes(2, "big")


# --- an address's rate ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 4])
async def test_an_addresss_rate_holds_for_all_its_requests(make_gateway, cores):
    gateway = make_gateway(cores=cores, limits__ip_rate=RATE, limits__trusted_networks="10.0.0.0/8")
    started = time.monotonic()
    answers = await many(6 * RATE, lambda: call(gateway, "GET", "/health"))
    assert_took(started, len([answer for answer in answers if answer.status == 200]), RATE)
    for answer in answers:
        if answer.status == 200:
            assert_rate_fields(answer, RATE)
        else:
            assert_too_fast(answer, RATE)
    # the operator's own socket has no address
    operator = [await call(gateway, "GET", "/v1/admin/stats", unix_path=str(gateway.admin_socket))
                for _ in range(2 * RATE)]
    assert statuses(operator) == {200: 2 * RATE}


async def test_trusted_networks_are_never_held_to_an_addresss_limits(make_gateway):
    gateway = make_gateway(limits__ip_rate=1, limits__ip_handshakes=1)
    answers = await many(50, lambda: call(gateway, "GET", "/health"))
    assert statuses(answers) == {200: 50}
    assert "X-RateLimit-Limit" not in answers[0].headers


async def test_the_nearest_of_two_limits_is_shown(make_gateway):
    gateway = make_gateway(limits__ip_rate=1000, limits__tenant_rate=RATE, limits__trusted_networks="")
    alice = (await new_tenant(gateway)).user("alice")
    assert_rate_fields(await alice.get("/users/me"), RATE)
    assert_rate_fields(await call(gateway, "GET", "/health"), 1000)
    assert_rate_fields(await call(gateway, "GET", "/nowhere"), 1000)


def test_bad_networks_are_refused_with_a_sentence(make_gateway):
    gateway = make_gateway()
    for bad in ("10.0.0.0/33", "localhost", "::/129", "10.0.0.0/8,x"):
        done = gateway.run_command("check-config", "--set", f"limits.trusted_networks={bad}")
        assert done.returncode == 3, done
        assert b"limits.trusted_networks" in done.stderr and b"is not ADDR or ADDR/BITS" in done.stderr, done


# --- new connections --------------------------------------------------------------------------------------------------


async def one_request(gateway, path="/health"):
    """A connection of its own for one request; the answer, or None when it was closed without a word."""
    try:
        wire = await HttpWire.open(gateway)
        await wire.request("GET", path)
        return await wire.answer()
    except (ConnectionError, OSError, asyncio.IncompleteReadError):
        return None


async def test_new_connections_beyond_an_addresss_rate_are_told_so_and_closed(make_gateway):
    gateway = make_gateway(cores=2, limits__ip_handshakes=RATE, limits__trusted_networks="")
    started = time.monotonic()
    answers = await many(3 * RATE, lambda: one_request(gateway))
    served = [answer for answer in answers if answer and answer.status == 200]
    refused = [answer for answer in answers if answer and answer.status == 429]
    assert_took(started, len(served), RATE)
    assert refused and len(served) + len(refused) == len(answers)
    for answer in refused:
        assert answer.headers["connection"] == "close" and int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-ratelimit-limit"] == str(RATE) and b"rate.limited" in answer.body
    await asyncio.sleep(1.1)
    assert (await one_request(gateway)).status == 200


async def test_a_flood_of_connections_does_not_keep_others_out(make_gateway):
    """Those who are refused take places of their own, and few of them: more are closed without a word."""
    gateway = make_gateway(cores=1, limits__ip_handshakes=1, limits__trusted_networks="", limits__connections=50)
    assert (await one_request(gateway)).status == 200
    wires = [await HttpWire.open(gateway) for _ in range(300)]
    answer = await call(gateway, "GET", "/health", unix_path=str(gateway.admin_socket))
    assert answer.status == 200
    for wire in wires:
        wire.drop()


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 3])
async def test_connections_beyond_the_bound_of_the_server_are_refused_politely(make_gateway, cores):
    gateway = make_gateway(cores=cores, limits__connections=12)
    held = [await HttpWire.open(gateway) for _ in range(12)]
    for wire in held:
        await wire.request("GET", "/v1/users/me")
        assert (await wire.answer()).status == 401
    refused = await many(20, lambda: one_request(gateway, "/v1/users/me"))
    for answer in refused:
        assert answer.status == 503 and answer.headers["retry-after"] == "1", answer
        assert answer.headers["connection"] == "close" and b"server.full" in answer.body, answer
    # a full server is not a broken one: whoever watches it is answered, and the operator has a door of their own
    assert (await one_request(gateway, "/health")).status == 200
    assert (await call(gateway, "GET", "/v1/admin/stats", unix_path=str(gateway.admin_socket))).status == 200
    held.pop().drop()
    await asyncio.sleep(0.2)
    assert (await one_request(gateway, "/v1/users/me")).status == 401
    await metric_reaches(gateway, "carillon_connections_refused_total", len(refused))
    for wire in held:
        wire.drop()


async def test_a_post_that_is_one_too_many_is_told_so_without_its_body_being_read(make_gateway):
    gateway = make_gateway(cores=1, limits__connections=1)
    first = await HttpWire.open(gateway)
    await first.request("GET", "/v1/users/me")
    assert (await first.answer()).status == 401
    wire = await HttpWire.open(gateway)
    await wire.send("POST /v1/rooms HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + "x" * 1000)
    assert (await wire.answer()).status == 503


# --- broken clients ---------------------------------------------------------------------------------------------------


async def misuse(gateway, text):
    """The close code that a socket gets which sends nothing but that text, and how many errors came before it."""
    alice = (await new_tenant(gateway)).user("alice")
    socket = await alice.connect()
    for _ in range(200):
        try:
            await socket.send_text(text)
        except Exception:
            break
    code = await socket.closed()
    return code, len([event for event in socket.waiting if event["type"] == "error"])


@pytest.mark.parametrize("text", ['{"type":"no.such"}', "{", "[1]", "{}", '{"type":"ping","id":1.5}'])
async def test_a_socket_that_sends_no_operations_is_closed_with_4008(gateway, text):
    code, errors = await misuse(gateway, text)
    assert code == 4008
    assert errors == bound_of("MISUSES_MAX")


async def test_mistakes_between_operations_are_only_answered(gateway):
    alice = (await new_tenant(gateway)).user("alice")
    socket = await alice.connect()
    for _ in range(3):
        for _ in range(60):
            await socket.send("no.such")
        assert (await socket.request("ping"))["type"] == "pong"


async def test_answers_for_a_client_that_never_reads_are_bounded(make_gateway):
    """A client that asks and never reads is not read from: its own socket fills."""
    gateway = make_gateway(cores=1, net__send_buffer="16k")
    alice = (await new_tenant(gateway)).user("alice")
    wire = await FrameWire.connect(gateway, alice.headers, SUBPROTOCOL, receive_buffer_bytes=4096)
    await wire.send_frame(TEXT, '{"type":"hello"}')
    sent = 0
    try:
        for _ in range(20000):
            await asyncio.wait_for(wire.send_frame(TEXT, '{"type":"ping","id":"' + "x" * 60 + '"}'), 0.5)
            sent += 1
    except asyncio.TimeoutError:
        pass  # what was meant to happen
    assert await metric(gateway, "carillon_send_queue_bytes") < 1 << 20, f"after {sent} pings"
    wire.drop()


# --- rooms of a user --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cores", [1, 3])
async def test_a_user_is_in_no_more_rooms_than_is_allowed(make_gateway, cores):
    gateway = make_gateway(cores=cores, limits__rooms_per_user=3)
    alice, bob, carol = (await new_tenant(gateway)).users("alice", "bob", "carol")
    first = (await alice.post("/rooms", {"type": "group", "name": "1"}, headers={"Idempotency-Key": "k"})).ok(201)
    dm = await alice.new_room("dm", bob)
    third = await alice.new_room("group")
    public, other = await bob.new_room("group"), await bob.new_room("group", carol)

    full = {"code": "user.rooms_full"}
    (await alice.post("/rooms", {"type": "group", "name": "4"})).problem(409, **full)
    (await carol.post("/rooms", {"type": "dm", "members": ["alice"]})).problem(409, **full)
    (await alice.post(f"/rooms/{public}/join")).problem(409, **full)
    # nobody is passed over: dora, who has room, does not join either
    added = await bob.post(f"/rooms/{public}/members", {"members": ["dora", "alice"]})
    assert added.problem(409, **full)["field"] == "members"
    assert [m["user_id"] for m in (await bob.get(f"/rooms/{public}/members")).ok()["items"]] == ["bob"]

    # what asks for no room more goes on
    assert (await alice.post("/rooms", {"type": "dm", "members": ["bob"]})).ok(200)["room_id"] == dm
    again = await alice.post("/rooms", {"type": "group", "name": "1"}, headers={"Idempotency-Key": "k"})
    assert again.ok(201)["room_id"] == first["room_id"]
    assert (await alice.post(f"/rooms/{third}/join")).ok()["changed"] == 0
    assert (await bob.post(f"/rooms/{other}/members", {"members": ["carol"]})).ok()["changed"] == 0

    gateway.restart("kill")
    (await alice.post(f"/rooms/{public}/join")).problem(409, **full)
    (await alice.post(f"/rooms/{third}/leave")).ok()
    assert (await alice.post(f"/rooms/{public}/join")).ok()["changed"] == 1


# --- memory -----------------------------------------------------------------------------------------------------------

MEGABYTE = 1 << 20


async def eventually(wanted, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not await wanted():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds} s"
        await asyncio.sleep(0.1)


def head_of_body(user, length):
    """A request's head; a long body is taken from those only who show a key."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in user.headers.items())
    return f"POST /v1/rooms HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {length}\r\n\r\n"


async def bodies_begun(gateway, user):
    """Bodies that do not come to their end, as many as are taken; they go with their connections."""
    wires = []
    for _ in range(150):
        wire = await HttpWire.open(gateway)
        wires.append(wire)
        try:
            await wire.send(head_of_body(user, 400_000))
            await wire.send("x" * 399_000)
        except ConnectionError:
            pass  # its core has taken all the bodies that it may
    return wires


async def test_a_bound_on_memory_below_the_least_is_told_at_the_start(make_gateway):
    small = {"cores": 2, "store__cache": "1m", "store__write_buffer": "1m"}
    least = bound_of("MEMORY_PROCESS_MIN") + 2 * bound_of("MEMORY_CORE_MIN")
    assert "memory_below_minimum" in make_gateway(limits__memory=str(least - 1), **small).log_text()
    assert "memory_below_minimum" not in make_gateway(limits__memory=str(least), **small).log_text()


async def test_memory_above_half_of_its_bound_is_looked_at_often(make_gateway):
    """A burst of bodies is seen long before the second is over at which memory is looked at else."""
    small = {"cores": 1, "store__cache": "1m", "store__write_buffer": "1m"}
    used = await metric(make_gateway(**small), "carillon_memory_used_bytes")
    gateway = make_gateway(limits__memory=str(int(1.8 * used)), **small)
    alice = (await new_tenant(gateway)).user("alice")
    await asyncio.sleep(1.2)  # it has seen that half is in use
    took = []
    for _ in range(5):
        before, began = await metric(gateway, "carillon_memory_used_bytes"), time.monotonic()
        wire = await HttpWire.open(gateway)
        await wire.send(head_of_body(alice, 900_000))
        await wire.send("x" * 899_000)
        while await metric(gateway, "carillon_memory_used_bytes") == before and time.monotonic() < began + 3:
            await asyncio.sleep(bound_of("MEMORY_INTERVAL_MS") / 1000)
        took.append(time.monotonic() - began)
    assert sum(took) < 1.2, took  # half a second each, on the average, when it looks no oftener than else


async def test_connections_that_have_ended_keep_no_place(make_gateway):
    """Clients that leak their sockets keep nobody out: neither those that linger, nor those beyond their bound."""
    gateway = make_gateway(cores=1, limits__connections=20)
    ask = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET"  # more is to come, so the end waits for it
    for _ in range(bound_of("CONNECTIONS_LINGERING_MAX") + 30):
        wire = await HttpWire.open(gateway)
        await wire.send(ask)
        assert (await wire.answer()).status == 200
    assert (await call(gateway, "GET", "/health")).status == 200


async def memory_with_bodies(make_gateway, **settings):
    """What a gateway holds with bodies_begun, and what it keeps when they have gone."""
    gateway = make_gateway(**settings)
    alice = (await new_tenant(gateway)).user("alice")
    await alice.new_room("group")
    wires = await bodies_begun(gateway, alice)
    await asyncio.sleep(1.5)  # memory is looked at once a second
    loaded = await metric(gateway, "carillon_memory_used_bytes")
    for wire in wires:
        wire.drop()
    await asyncio.sleep(5)  # what was freed goes back; what has been touched for good, as receive buffers, stays
    kept = await metric(gateway, "carillon_memory_used_bytes")
    gateway.stop()
    return loaded, kept


async def test_above_the_bound_on_memory_new_work_is_refused_until_there_is_room_again(make_gateway):
    """Bodies that do not come to their end hold memory; whoever is let go gives it back."""
    cores, small = 12, {"store__cache": "1m", "store__write_buffer": "1m"}
    shares = bound_of("MEMORY_SHARES") * cores * bound_of("MEMORY_SHARE_MIN")  # the most for which they are the least
    loaded, kept = await memory_with_bodies(make_gateway, cores=cores, limits__memory=str(shares), **small)

    async def is_short():  # a core that has all the bodies it may refuses for that reason, and sooner
        return (await call(gateway, "GET", "/ready")).status == 503

    for part in (0.5, 0.25, 0.1):  # another process need not come as far as the one that was measured
        bound = int(kept + part * (loaded - kept))
        gateway = make_gateway(cores=cores, limits__memory=str(bound), **small)
        if "libjemalloc" not in Path(f"/proc/{gateway.process.pid}/maps").read_text():
            pytest.skip("a sanitizer's allocator gives nothing back")
        alice = (await new_tenant(gateway)).user("alice")
        room_id = await alice.new_room("group")
        socket = await alice.connect()
        assert await metric(gateway, "carillon_memory_limit_bytes") == bound
        wires = await bodies_begun(gateway, alice)
        try:
            await eventually(is_short, "memory above its bound", 5)
            break
        except AssertionError:
            if part == 0.1:
                raise
            gateway.stop()

    async def refuses():
        return (await alice.get("/users/me")).status == 503
    await socket.answer(await socket.begin("typing.start", room_id=room_id))  # a core that slept takes notice in its turn
    await eventually(refuses, "a refusal")
    assert await metric(gateway, "carillon_memory_used_bytes") > 0.95 * bound
    answer = await alice.post(f"/rooms/{room_id}/messages", {"content": "x"})
    answer.problem(503, code="server.overloaded")
    assert answer.headers["Retry-After"] == "1"
    assert (await socket.refused("send_message", "server.overloaded", room_id=room_id, content="x"))["temporary"]
    assert (await call(gateway, "GET", "/health")).status == 200
    assert (await call(gateway, "GET", "/ready")).status == 503
    assert (await call(gateway, "GET", "/v1/admin/stats", {"X-Master-Key": gateway.master_key})).status == 200

    for wire in wires:
        wire.drop()

    seqs = []

    async def takes():  # each core takes notice in its own time, so both ways are asked until they are open
        answer = await socket.request("send_message", room_id=room_id, content="x")
        if answer["type"] == "error":
            assert answer["code"] == "server.overloaded" and answer["temporary"], answer
            return False
        seqs.append(answer["seq"])
        return (await alice.get("/users/me")).status == 200
    await eventually(takes, "room for new work")
    assert seqs == list(range(1, len(seqs) + 1))  # what was refused took no place in the room


def memory_of_machine():
    """The host's memory, or the least that the process' cgroups and those above leave of it (cgroups(7))."""
    least = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        hierarchy, names, path = line.split(":", 2)
        if hierarchy == "0":
            mount, file = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in names.split(","):
            mount, file = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        folder = Path(path.lstrip("/"))
        for part in (folder, *folder.parents):
            text = (mount / part / file).read_text().strip() if (mount / part / file).exists() else "max"
            least = min(least, int(text)) if text.isdigit() else least
    return least


async def test_without_a_setting_memory_is_bounded_by_a_share_of_the_machine(make_gateway):
    gateway = make_gateway(cores=1)
    derived = memory_of_machine() // 100 * bound_of("MEMORY_PERCENT")
    assert await metric(gateway, "carillon_memory_limit_bytes") == derived


def test_a_bound_on_memory_below_what_the_store_takes_is_refused(make_gateway):
    done = make_gateway().run_command("check-config", "--set", "limits.memory=100m")
    assert done.returncode == 3 and b"limits.memory must be at least twice" in done.stderr


# --- clients that do not come to their point --------------------------------------------------------------------------


@pytest.mark.slow
async def test_slow_and_half_open_clients_are_closed_by_an_absolute_deadline(make_gateway):
    """A byte now and then does not put the deadline off: 10 s for a head, 30 s for a body, and for a hello 10 s; whoever
    takes nothing has 30 s. All at once, since each is a wait."""
    gateway = make_gateway(cores=2)
    alice = (await new_tenant(gateway)).user("alice")
    automatic = await alice.connect_automatic()

    async def dribble(wire, text, pause_s):
        """How long a connection lives that sends one byte after each pause."""
        started = time.monotonic()
        end = asyncio.ensure_future(wire.reader.read())
        try:
            for byte in text * 1000:
                wire.writer.write(byte.encode())
                done, _ = await asyncio.wait({end}, timeout=pause_s)
                if done:
                    break
        except (ConnectionError, OSError):
            pass
        await asyncio.wait({end}, timeout=45)
        assert end.done(), "never closed"
        end.exception()  # a reset is an end as well
        return time.monotonic() - started

    async def slow_head():
        wire = await HttpWire.open(gateway)
        await wire.send("GET /health HTTP/1.1\r\nHost: x\r\n")
        return await dribble(wire, "X-A: b\r\n", 0.5)

    async def slow_body():
        wire = await HttpWire.open(gateway)
        await wire.send(head_of_body(alice, 100_000))
        return await dribble(wire, "x", 1.0)

    async def no_hello():
        socket = await alice.connect_silent()
        started = time.monotonic()
        assert await socket.closed(timeout_s=30) == 4001
        return time.monotonic() - started

    async def half_open():
        """A handshake that stops before its last line."""
        wire = await HttpWire.open(gateway)
        return await dribble(wire, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n", 30)

    heads, bodies, hellos, halves, _ = await asyncio.gather(
        many(100, slow_head), many(20, slow_body), many(20, no_hello), many(20, half_open),
        reader_that_takes_nothing_is_let_go(gateway))
    assert all(9 <= seconds <= 20 for seconds in heads), sorted(heads)
    assert all(29 <= seconds <= 45 for seconds in bodies), sorted(bodies)
    assert all(9 <= seconds <= 20 for seconds in hellos), sorted(hellos)
    assert all(9 <= seconds <= 20 for seconds in halves), sorted(halves)
    assert (await automatic.request("ping"))["type"] == "pong", "who needs no hello stays"

    async def nothing_left():
        return await metric(gateway, "carillon_memory_bytes", part="assembly") == 0
    await eventually(nothing_left, "the end of what they held")


async def test_a_quiet_connection_is_closed_when_it_is_idle_for_too_long(make_gateway):
    gateway = make_gateway(net__idle_timeout="1500ms", net__ping_interval="1s")
    wire = await HttpWire.open(gateway)
    await wire.request("GET", "/health")
    assert (await wire.answer()).status == 200
    await wire.assert_ended()
