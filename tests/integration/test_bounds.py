"""Bounds of src/base/limits.h, each at its value and one beyond it."""

import asyncio
import json
import re
import signal
import socket as sockets
import struct
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from client import SUBPROTOCOL, Operator, call, new_tenant
from gateway import BINARY, REPOSITORY
from recorder import limit
from test_settings import rocksdb_options, threads_of
from wire import CLOSE, TEXT, FrameWire, HttpWire, close_code, frame_bytes


async def people(gateway, *user_ids):
    return (await new_tenant(gateway)).users(*user_ids)


def seconds(name):
    return limit(name) / 1000


# --- texts --------------------------------------------------------------------------------------------------------


async def test_texts_of_a_message_are_bounded(gateway):
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    for field, name in (("client_id", "CLIENT_ID_BYTES_MAX"), ("message_type", "MESSAGE_TYPE_BYTES_MAX")):
        longest = limit(name)
        for text in ("x" * longest, "ä" * (longest // 2)):
            sent = await alice.send(room_id, "x", **{field: text})
            assert (await alice.get(f"/rooms/{room_id}/messages/{sent['seq']}")).ok()[field] == text
        for text in ("x" * (longest + 1), "ä" * (longest // 2) + "x"):
            problem = (await alice.post(f"/rooms/{room_id}/messages", {"content": "x", field: text})).problem(
                400, code="field.too_long")
            assert problem["field"] == field


async def test_texts_of_a_room_are_bounded(gateway):
    alice, = await people(gateway, "alice")
    for field, name in (("name", "NAME_CHARS_MAX"), ("description", "DESCRIPTION_CHARS_MAX"),
                        ("avatar_url", "AVATAR_URL_BYTES_MAX")):
        longest = limit(name)
        for character in "xä😀":
            room = await alice.create_room("group", **{field: character * longest})
            assert room[field] == character * longest
            problem = (await alice.post("/rooms", {"type": "group", field: character * (longest + 1)})).problem(
                400, code="field.too_long")
            assert problem["field"] == field


async def test_settings_of_a_room_are_bounded_in_bytes(gateway):
    alice, = await people(gateway, "alice")
    longest = limit("SETTINGS_BYTES_MAX")
    fitting = json.dumps({"x": "y" * (longest - len('{"x":""}'))}, separators=(",", ":"))
    assert len(fitting) == longest
    room = (await alice.call("POST", "/rooms", raw='{"type":"group","settings":%s}' % fitting)).ok(201)
    assert room["settings"] == json.loads(fitting)
    longer = fitting.replace("y", "yy", 1)
    (await alice.call("POST", "/rooms", raw='{"type":"group","settings":%s}' % longer)).problem(
        400, code="field.too_long")


async def test_name_of_a_tenant_is_bounded(gateway):
    operator, longest = Operator(gateway), limit("TENANT_NAME_CHARS_MAX")
    (await operator.call("POST", "/tenants", {"name": "ä" * longest})).ok(201)
    (await operator.call("POST", "/tenants", {"name": "ä" * (longest + 1)})).problem(400, code="field.too_long")


async def test_names_of_devices_and_requests_are_bounded(gateway):
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    await alice.send(room_id, "x")
    longest = limit("DEVICE_BYTES_MAX")
    (await alice.on_device("d" * longest).post("/acks", {"room_id": room_id, "seq": 1})).ok()
    (await alice.on_device("d" * (longest + 1)).post("/acks", {"room_id": room_id, "seq": 1})).problem(
        400, code="field.too_long")
    socket = await alice.connect_silent()
    assert (await socket.refused("hello", device="d" * (longest + 1)))["code"] == "field.too_long"
    await socket.hello(device="d" * longest)
    longest = limit("REQUEST_ID_BYTES_MAX")
    await socket.send("ping", id="i" * longest)
    await socket.expect("pong", re="i" * longest)
    await socket.send("ping", id="i" * (longest + 1))
    await socket.expect("error", code="id.invalid")


# --- pages --------------------------------------------------------------------------------------------------------


async def test_pages_have_their_default_length(gateway):
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    default = limit("PAGE_LIMIT_DEFAULT")
    socket = await alice.connect()
    for _ in range(default + 1):
        await socket.begin("send_message", room_id=room_id, content="x")
    await socket.collect(room_id, default + 1)
    page = (await alice.get(f"/rooms/{room_id}/messages")).ok()
    assert len(page["items"]) == default and page["next"] is not None


async def test_sync_has_its_default_and_its_bound(gateway):
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    default, most = limit("SYNC_LIMIT_DEFAULT"), limit("SYNC_LIMIT_MAX")
    socket = await alice.connect(rooms="none")
    for start in range(0, most + 1, 200):
        for request_id in [await socket.begin("send_message", room_id=room_id, content="x")
                           for _ in range(min(200, most + 1 - start))]:
            await socket.answer(request_id)
    for body, expected in (({}, default), ({"limit": most}, most), ({"limit": 1}, 1)):
        page = (await alice.post("/sync", {"rooms": {room_id: [1, 0]}, **body})).ok()
        assert sum(len(room["events"]) for room in page["rooms"]) == expected and page["next"]
    (await alice.post("/sync", {"limit": most + 1})).problem(400, code="field.invalid")
    (await alice.post("/sync", {"limit": 0})).problem(400, code="field.invalid")


async def test_list_of_more_rooms_than_are_asked_for_at_a_time_is_whole(gateway):
    alice, bob = await people(gateway, "alice", "bob")
    number = 2 * limit("LIST_SLICE_ROOMS") + 3
    made = [await alice.new_room("group", bob) for _ in range(number)]
    for room_id in made:
        await alice.send(room_id, room_id)
    items = (await bob.get("/rooms", limit=number + 1)).ok()["items"]
    assert [item["room_id"] for item in items] == made
    assert [item["last_message"]["content"] for item in items] == made


async def test_page_over_websocket_ends_at_its_bytes(gateway):
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    for number in range(12):
        await alice.send(room_id, f"{number}", meta="m" * 60_000)
    socket = await alice.connect(rooms="none")
    most, after, seen = limit("WEBSOCKET_PAGE_BYTES_MAX"), 0, []
    while after is not None:
        page = await socket.ok("history", room_id=room_id, after_seq=int(after), limit=100)
        assert len(page.text) <= most + 70_000, "a page ends with the message that reaches its bytes"
        seen += [item["seq"] for item in page["items"]]
        after = page["next"]
    assert seen == list(range(1, 13))


async def test_replay_of_more_bytes_than_one_read_is_whole(gateway):
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    number = 3 * limit("REPLAY_BATCH_BYTES") // 60_000 + 1
    for index in range(number):
        await alice.send(room_id, f"{index}", meta="m" * 60_000)
    socket = await alice.connect(resume={room_id: [1, 0]})
    assert [event["seq"] for event in await socket.collect(room_id, number)] == list(range(1, number + 1))


# --- connections --------------------------------------------------------------------------------------------------


async def test_requests_in_flight_are_bounded_by_not_reading(make_gateway):
    """With a disk that takes its time, requests beyond the bound wait in the kernel, and all are answered in the end."""
    gateway = make_gateway(cores=1)
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    socket = await alice.connect(rooms="none")
    most = limit("REQUESTS_IN_FLIGHT_MAX")
    assert socket.welcome["limits"]["in_flight"] == most
    ids = [await socket.begin("send_message", room_id=room_id, content=f"{number}") for number in range(3 * most)]
    seqs = [(await socket.answer(request_id))["seq"] for request_id in ids]
    assert seqs == list(range(1, 3 * most + 1))


async def test_replies_that_nobody_takes_end_the_connection(make_gateway):
    """Requests in flight may bring more bytes back than are kept for one client: then it is closed, not waited for."""
    gateway = make_gateway(cores=1)
    alice, bob = await people(gateway, "alice", "bob")
    room_id = await alice.new_room("group", bob)
    for number in range(5):
        await alice.send(room_id, f"{number}", meta="m" * 60_000)
    bystander = await bob.connect()
    wire = await FrameWire.connect(gateway, alice.headers, SUBPROTOCOL, receive_buffer_bytes=4096)
    await wire.send_frame(TEXT, '{"type":"hello","rooms":"none"}')
    await wire.text()
    asks = 3 * limit("REPLY_QUEUE_BYTES_MAX") // limit("WEBSOCKET_PAGE_BYTES_MAX")
    ask = json.dumps({"type": "history", "id": 1, "room_id": room_id, "limit": 100})
    await wire.send(b"".join(frame_bytes(TEXT, ask) for _ in range(asks)))
    answers = 0
    try:
        while True:
            opcode, payload = await wire.frame()
            if opcode == CLOSE:
                assert close_code(payload) == 4200
                break
            answers += 1
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    assert answers < asks
    await alice.send(room_id, "still here")
    await bystander.expect("message", content="still here")


async def first_line(wire, seconds):
    try:
        return await asyncio.wait_for(wire.reader.readuntil(b"\r\n"), seconds)
    except asyncio.TimeoutError:
        return None
    except (asyncio.IncompleteReadError, ConnectionError):
        return b"gone"


async def test_bodies_under_assembly_are_bounded(make_gateway):
    """Unfinished bodies hold no more memory than is meant for them; who wants more is refused, and finished ones free it."""
    gateway = make_gateway(cores=1, limits__connections="1000")
    body_bytes = limit("HTTP_BODY_BYTES_MAX")
    most = limit("ASSEMBLY_BYTES_MAX") // body_bytes
    alice, = await people(gateway, "alice")
    fields = "".join(f"{name}: {value}\r\n" for name, value in alice.headers.items())
    head = f"POST /v1/sync HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {body_bytes}\r\n\r\n".encode()
    wires, refused = [], None
    piece = head + b" " * (body_bytes - 1)
    for _ in range(2 * most):
        wire = await HttpWire.open(gateway)
        try:
            await asyncio.wait_for(wire.send(piece), 5)
        except (ConnectionError, asyncio.TimeoutError):
            pass
        refused = await first_line(wire, 0.01)
        if refused:
            break
        wires.append(wire)
    assert refused and b" 503 " in refused
    await asyncio.sleep(0.5)  # a gateway that is slower than this client has refused others meanwhile
    taken = [wire for wire in wires if not await first_line(wire, 0.001)]
    assert most / 6 <= len(taken) <= most / 2 + 1  # a tenant has as much as is left
    sockets_closed = []
    for _ in range(10):  # half a message each: what is left is soon gone
        wire = await FrameWire.connect(gateway, alice.headers)
        await wire.send(frame_bytes(TEXT, b"x" * 250_000)[:-1])
        try:
            sockets_closed.append(await asyncio.wait_for(wire.close_frame(), 0.2))
            break
        except asyncio.TimeoutError:
            wires.append(wire)
    assert sockets_closed == [4100]
    bob, = await people(gateway, "bob")  # of another tenant
    wire = await FrameWire.connect(gateway, bob.headers)
    message = frame_bytes(TEXT, b'{"type":"ping","id":1,"pad":"' + b"x" * 200_000 + b'"}')
    await wire.send(message[:-1])
    await asyncio.sleep(0.2)
    await wire.send(message[-1:])
    while b'"pong"' not in (await wire.frame())[1]:
        pass
    for wire in wires:
        wire.drop()
    await asyncio.sleep(0.5)
    assert (await call(gateway, "GET", "/health")).status == 200
    await alice.new_room("group")


# --- the process --------------------------------------------------------------------------------------------------


def ring_fields(gateway):
    """What the kernel says of each ring of the process."""
    found = []
    for path in Path(f"/proc/{gateway.process.pid}/fdinfo").iterdir():
        text = path.read_text()
        if "SqMask" in text:
            found.append({name: int(value, 16) for name, value in re.findall(r"^(\w+Mask):\t(0x[0-9a-f]+)", text,
                                                                             re.MULTILINE)})
    return found


async def test_rings_have_their_lengths(make_gateway):
    gateway = make_gateway(cores=2)
    rings = ring_fields(gateway)
    expected = {"SqMask": limit("RING_SQ_ENTRIES") - 1, "CqMask": limit("RING_CQ_ENTRIES") - 1}
    assert rings == [expected, expected]


async def test_listening_sockets_have_their_backlog(make_gateway):
    gateway = make_gateway(cores=1)
    shown = subprocess.run(["ss", "-Hltn", f"sport = :{gateway.port}"], capture_output=True, text=True, check=True).stdout
    most = int(Path("/proc/sys/net/core/somaxconn").read_text())
    assert {int(line.split()[2]) for line in shown.splitlines()} == {min(limit("LISTEN_BACKLOG"), most)}


async def test_threads_of_cores_have_their_stack(make_gateway):
    """The mapping that holds a core's stack pointer is as long as was asked for."""
    gateway = make_gateway(cores=1)
    task = Path(f"/proc/{gateway.process.pid}/task")
    core, = [thread for thread in task.iterdir() if (thread / "comm").read_text() == "core/0\n"]
    fields = []
    while len(fields) < 3:  # proc(5): "running" while it is on a CPU
        fields = (core / "syscall").read_text().split()
    pointer = int(fields[-2], 16)  # proc(5): number, arguments, stack pointer, program counter
    for line in (core / "maps").read_text().splitlines():
        start, end = (int(text, 16) for text in line.split()[0].split("-"))
        if start <= pointer < end:
            assert end - start == limit("CORE_STACK_BYTES")
            return
    pytest.fail("no mapping holds the stack pointer")


async def test_rocksdb_keeps_to_its_files(make_gateway):
    options = rocksdb_options(make_gateway())
    for name, bound in (("max_open_files", "STORE_OPEN_FILES_MAX"), ("max_log_file_size", "STORE_INFO_LOG_BYTES_MAX"),
                        ("keep_log_file_num", "STORE_INFO_LOGS_MAX")):
        assert options[name] == [str(limit(bound))]


def check_config(*assignments):
    arguments = [argument for assignment in assignments for argument in ("--set", assignment)]
    return subprocess.run([BINARY, "check-config", *arguments], capture_output=True, text=True, check=False, timeout=30)


def test_path_of_the_admin_socket_is_bounded():
    longest = limit("UNIX_PATH_BYTES_MAX")
    assert check_config(f"admin.socket=/{'x' * (longest - 1)}").returncode == 0
    result = check_config(f"admin.socket=/{'x' * longest}")
    assert result.returncode == 3 and "admin.socket" in result.stderr


def test_number_of_addresses_is_bounded():
    """One place of a core's table is the admin socket's."""
    addresses = [f"127.0.0.1:{port}" for port in range(10000, 10000 + limit("LISTENERS_MAX"))]
    assert check_config("net.listen=" + ",".join(addresses[1:])).returncode == 0
    result = check_config("net.listen=" + ",".join(addresses))
    assert result.returncode == 3 and "net.listen" in result.stderr


@contextmanager
def serving_on(port, directory):
    """A gateway on a port that may be taken: it may never be ready, so it is started without waiting for that."""
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen([BINARY, "serve", "--data", directory / "data", "--listen", f"127.0.0.1:{port}",
                                    "--cores", "1"], stderr=log)
    try:
        yield process, directory / "log"
    finally:
        process.kill()
        process.wait()


def test_port_that_is_taken_is_waited_for_and_then_refused(tmp_path):
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        started = time.monotonic()
        with serving_on(taken.getsockname()[1], tmp_path) as (process, log):
            assert process.wait(30) == 1
            assert "choose another port" in log.read_text()
        assert time.monotonic() - started >= seconds("PORT_WAIT_MS") * 0.9


def test_port_that_becomes_free_is_taken(tmp_path):
    taken = sockets.create_server(("127.0.0.1", 0))
    with serving_on(taken.getsockname()[1], tmp_path) as (process, log):
        time.sleep(3 * seconds("BIND_RETRY_MS"))  # a few tries, well within what a start waits
        taken.close()
        deadline = time.monotonic() + 15
        while '"event":"ready"' not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        process.terminate()
        assert process.wait(30) == 0


async def test_stop_notices_at_once_that_the_last_client_has_left(make_gateway):
    took = []
    for _ in range(3):
        gateway = make_gateway(cores=1, drain__timeout_s="30")
        alice, = await people(gateway, "alice")
        socket = await alice.connect()
        started = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert await socket.closed() == 1001
        await asyncio.to_thread(gateway.await_exit, 0)
        took.append(time.monotonic() - started)
    # It looks each DRAIN_POLL_MS; if it looked as seldom as ever, not one of these would be quicker than that.
    assert min(took) < seconds("WATCH_INTERVAL_MS") - seconds("DRAIN_POLL_MS"), took


@pytest.mark.slow
async def test_stop_gives_up_on_a_store_that_does_not_answer(make_gateway, tmp_path):
    """Cores end although a sync is still under way; the process ends with it."""
    library, delay = tmp_path / "slow.so", tmp_path / "delay"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, REPOSITORY / "tests/fault/preload_sync.c", "-ldl"],
                   check=True)
    delay.write_bytes(struct.pack("<I", 0))
    if "asan" in str(BINARY) or "tsan" in str(BINARY):
        pytest.skip("the sanitizers want to be preloaded first")
    gateway = make_gateway(cores=1, environment={"LD_PRELOAD": str(library), "CARILLON_SYNC_DELAY_FILE": str(delay)},
                           drain__timeout_s="0")
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    with open(delay, "r+b") as file:
        file.write(struct.pack("<I", 6000))
    unanswered = asyncio.ensure_future(alice.post(f"/rooms/{room_id}/messages", {"content": "x"}))
    await asyncio.sleep(0.3)
    started = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    while "core/0" in threads_of(gateway):
        await asyncio.sleep(0.05)
    assert seconds("SETTLE_TIMEOUT_MS") * 0.8 <= time.monotonic() - started < 5.5
    assert "syncer" in threads_of(gateway)
    unanswered.cancel()
    with open(delay, "r+b") as file:
        file.write(struct.pack("<I", 0))
    await asyncio.to_thread(gateway.await_exit, 0)
