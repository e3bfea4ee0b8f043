"""Each metric says what it is said to: its value follows what was done."""

import asyncio
import os
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from client import SUBPROTOCOL, Operator, call, metric, metric_becomes, metric_reaches, metric_samples, new_tenant
from gateway import BINARY
from wire import TEXT, FrameWire, HttpWire

STALE_S = 1.2  # gauges of an idle core are brought up to date once a second


@pytest.fixture
def alone(make_gateway):
    """A gateway on which nothing happens but what the test does."""
    return make_gateway()


async def people(gateway, *user_ids):
    return (await new_tenant(gateway)).users(*user_ids)


async def test_process_describes_itself(alone):
    assert await metric(alone, "carillon_info") == 1
    (labels, _), = await metric_samples(alone, "carillon_info")
    health = (await call(alone, "GET", "/health")).ok()
    assert labels["version"] == health["version"]
    assert await metric(alone, "carillon_epoch") == health["epoch"] == 1
    resident_kib = int(re.search(r"^VmRSS:\s+(\d+)", open(f"/proc/{alone.process.pid}/status").read(), re.MULTILINE)[1])
    assert 0.5 < await metric(alone, "process_resident_memory_bytes") / (resident_kib * 1024) < 2
    stat = open(f"/proc/{alone.process.pid}/stat").read().rsplit(") ", 1)[1].split()
    used_s = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    assert abs(await metric(alone, "process_cpu_seconds_total") - used_s) < 2
    first = await metric(alone, "carillon_uptime_seconds")
    await asyncio.sleep(1.1)
    assert first + 1 <= await metric(alone, "carillon_uptime_seconds") < first + 30
    alone.restart("kill")
    assert await metric(alone, "carillon_epoch") == 2


async def test_errors_are_counted_by_code(gateway):
    before = sum(value for labels, value in await metric_samples(gateway, "carillon_errors_total")
                 if labels["code"] == "auth.invalid_key")
    for _ in range(3):
        (await call(gateway, "GET", "/v1/rooms", {"X-API-Key": "ck_x", "X-User-Id": "x"})).problem(401)
    assert await metric(gateway, "carillon_errors_total", code="auth.invalid_key") == before + 3


async def test_requests_are_counted_by_route_and_status(gateway):
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    labels = {"method": "POST", "endpoint": "/rooms/:room/messages"}
    await alice.send(room_id, "first")
    good, bad, timed = [await metric(gateway, name, **labels, **more) for name, more in (
        ("carillon_http_requests_total", {"status": "2xx"}), ("carillon_http_requests_total", {"status": "4xx"}),
        ("api_request_duration_seconds", {}))]
    await alice.send_many(room_id, "abcde")
    (await alice.post(f"/rooms/{room_id}/messages", {})).problem(400)
    assert await metric(gateway, "carillon_http_requests_total", **labels, status="2xx") == good + 5
    assert await metric(gateway, "carillon_http_requests_total", **labels, status="4xx") == bad + 1
    assert await metric(gateway, "api_request_duration_seconds", **labels) == timed + 6


async def test_connections_are_counted_by_kind(alone):
    alice, = await people(alone, "alice")
    accepted = await metric(alone, "carillon_connections_accepted_total")
    closed = await metric(alone, "carillon_connections_closed_total")
    sockets = [await alice.connect() for _ in range(3)]
    plain = await HttpWire.open(alone)
    await plain.request("GET", "/health")
    await plain.answer()
    await metric_reaches(alone, "carillon_connections_accepted_total", accepted + 4)
    await metric_becomes(alone, "carillon_connections", 3, kind="websocket")
    await metric_becomes(alone, "websocket_connections_active", 3)
    assert await metric(alone, "carillon_connections", kind="http") >= 1
    await metric_becomes(alone, "carillon_sessions", 3)
    for socket in sockets:
        await socket.close()
    await metric_reaches(alone, "carillon_connections_closed_total", closed + 3)
    await metric_becomes(alone, "carillon_connections", 0, kind="websocket")
    await metric_becomes(alone, "carillon_sessions", 0)


async def test_bytes_and_ring_are_counted(alone):
    alice, = await people(alone, "alice")
    room_id = await alice.new_room("group")
    names = ("carillon_bytes_received_total", "carillon_bytes_sent_total", "carillon_sends_total",
             "carillon_ring_enters_total", "carillon_ring_completions_total")
    await asyncio.sleep(STALE_S)
    before = [await metric(alone, name) for name in names]
    for number in range(20):
        await alice.send(room_id, f"{number}", meta="m" * 10_000)
    await alice.messages(room_id, limit=20)
    for name, old, least in zip(names, before, (200_000, 200_000, 21, 20, 20)):
        assert await metric_reaches(alone, name, old + least) < old + 100 * least


async def test_messages_and_their_way_are_counted(alone):
    alice, bob = await people(alone, "alice", "bob")
    room_id = await alice.new_room("group", bob)
    sockets = [await alice.connect(), await bob.connect(), await bob.connect()]
    await metric_reaches(alone, "carillon_subscriptions", 3)
    await alice.send_many(room_id, "abcd")
    for socket in sockets:
        await socket.collect(room_id, 4)
    await sockets[1].ok("ack", room_id=room_id, seq=4)
    (await bob.post("/reads", {"room_id": room_id, "seq": 4})).ok()
    (await alice.post(f"/rooms/{room_id}/leave")).ok()
    await metric_becomes(alone, "carillon_messages_total", 4)
    await metric_becomes(alone, "carillon_events_durable_total", 5)
    assert await metric_reaches(alone, "carillon_deliveries_total", 12) >= 12
    await metric_becomes(alone, "carillon_acks_total", 2)
    await metric_becomes(alone, "carillon_rooms_loaded", 1)
    await metric_becomes(alone, "carillon_users_loaded", 2)
    assert await metric(alone, "carillon_replays_total") == 0
    again = await bob.connect(resume={room_id: [1, 0]})
    await again.collect(room_id, 4)
    await metric_becomes(alone, "carillon_replays_total", 1)


async def test_repeated_sends_are_counted(make_gateway):
    gateway = make_gateway(cores=1)
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    for _ in range(3):
        await alice.send(room_id, "x", client_id="once")
    await metric_becomes(gateway, "carillon_idempotent_hits_total", 2)
    assert await metric(gateway, "carillon_idempotency_lookups_total") == 0
    gateway.restart("kill")  # the newest keys were in memory: now the log has to be asked
    await alice.send(room_id, "x", client_id="once")
    await metric_becomes(gateway, "carillon_idempotent_hits_total", 1)
    await metric_becomes(gateway, "carillon_idempotency_lookups_total", 1)


async def test_commits_are_counted(alone):
    alice, = await people(alone, "alice")
    room_id = await alice.new_room("group")
    batches, entries, commits, syncs, written = [await metric(alone, name) for name in (
        "carillon_commit_batches_total", "carillon_commit_batch_entries", "carillon_commit_latency_seconds",
        "carillon_fsync_seconds", "carillon_commit_bytes_total")]
    for number in range(7):  # one after the other: each in a batch and a sync of its own
        await alice.send(room_id, f"{number}", meta="m" * 1000)
    assert 7000 < await metric(alone, "carillon_commit_bytes_total") - written < 70_000
    assert await metric(alone, "carillon_commit_batches_total") >= batches + 7
    assert await metric(alone, "carillon_commit_batch_entries") >= entries + 7
    assert await metric(alone, "carillon_commit_latency_seconds") >= commits + 7
    assert await metric(alone, "carillon_fsync_seconds") >= syncs + 7
    await metric_becomes(alone, "carillon_commit_pending", 0)
    samples = await metric_samples(alone, "carillon_commit_pending")
    assert {labels["core"]: value for labels, value in samples} == {"0": 0, "1": 0}
    assert await metric(alone, "carillon_store_free_bytes") == pytest.approx(
        shutil.disk_usage(alone.data).free, rel=0.2)
    assert await metric(alone, "carillon_store_write_stopped") == 0
    assert await metric(alone, "carillon_store_writable") == 1


async def test_failed_sync_is_counted_and_ends_writing(make_gateway):
    if shutil.which("strace") is None:
        pytest.fail("strace is not installed: run tools/bootstrap")
    gateway = make_gateway(cores=1)
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    await alice.send(room_id, "kept")
    assert await metric(gateway, "carillon_store_errors_total", op="sync") == 0
    with subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(gateway.process.pid), "-e",
                           "inject=fsync,fdatasync,sync_file_range:error=EIO"]) as tracer:
        try:
            answer = None
            for number in range(400):  # until the tracer has attached
                answer = await alice.post(f"/rooms/{room_id}/messages", {"content": f"{number}"})
                if answer.status != 201:
                    break
                await asyncio.sleep(0.05)
            # read_only: the sync of the low-water mark was the first to fail, and nothing was under way
            assert answer.problem(503)["code"] in ("store.unknown", "store.read_only")
            (await alice.post(f"/rooms/{room_id}/messages", {"content": "x"})).problem(503, code="store.read_only")
            assert await metric(gateway, "carillon_store_errors_total", op="sync") >= 1
            assert await metric(gateway, "carillon_store_writable") == 0
            assert (await call(gateway, "GET", "/health")).json()["checks"]["store"] == "read_only"
            assert (await alice.messages(room_id))[0]["content"] == "kept"
        finally:
            tracer.terminate()
    gateway.kill()


async def test_readers_that_take_nothing_are_counted(make_gateway):
    gateway = make_gateway(cores=1, net__send_buffer="8k")
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    wire = await FrameWire.connect(gateway, alice.headers, SUBPROTOCOL, receive_buffer_bytes=4096)
    await wire.send_frame(TEXT, '{"type":"hello"}')
    await wire.text()
    for number in range(12):
        await alice.send(room_id, f"{number}", meta="m" * 60_000)
    await asyncio.sleep(STALE_S)
    assert 100_000 < await metric(gateway, "carillon_send_queue_bytes") < 1 << 20
    assert 100_000 < await metric(gateway, "carillon_frames_bytes") < 2 << 20
    assert await metric(gateway, "carillon_short_sends_total") >= 1
    for number in range(12):
        assert (await wire.text())["seq"] == number + 1
    await asyncio.sleep(STALE_S)  # not asked again and again: the answer to that would stand in the queue itself
    assert await metric(gateway, "carillon_send_queue_bytes") < 50_000
    await metric_becomes(gateway, "carillon_frames_bytes", 0)
    assert await metric(gateway, "carillon_slow_readers_closed_total") == 0


async def test_mailboxes_are_shown_by_pair_of_cores(alone):
    samples = await metric_samples(alone, "carillon_mailbox_depth")
    assert {(labels["from"], labels["to"]) for labels, _ in samples} == {("0", "1"), ("1", "0")}
    assert all(value == 0 for _, value in samples)


async def test_no_notification_is_counted_before_one_is_sent(alone):
    assert "# TYPE notifications_sent_total counter" in (await call(alone, "GET", "/metrics")).text
    assert [value for _, value in await metric_samples(alone, "notifications_sent_total") if value] == []


async def test_operator_sees_the_same_numbers(alone):
    alice, = await people(alone, "alice")
    await alice.send(await alice.new_room("group"), "x")
    socket = await alice.connect()
    assert socket.welcome
    await asyncio.sleep(STALE_S)
    stats = (await Operator(alone).call("GET", "/stats")).ok()
    for name, metric_name in (("messages", "carillon_messages_total"), ("sessions", "carillon_sessions"),
                              ("epoch", "carillon_epoch"), ("websockets", "websocket_connections_active")):
        await metric_becomes(alone, metric_name, stats[name])
    assert (stats["tenants"], stats["cores"], stats["db_writable"]) == (1, 2, True)


# --- what the process and the store say of themselves -------------------------------------------------------------


async def test_memory_and_descriptors_are_those_of_the_kernel(gateway):
    folder = Path(f"/proc/{gateway.process.pid}")
    virtual_kib = int(re.search(r"^VmSize:\s+(\d+)", (folder / "status").read_text(), re.MULTILINE)[1])
    soft_limit = int(re.search(r"^Max open files\s+(\d+)", (folder / "limits").read_text(), re.MULTILINE)[1])
    assert await metric(gateway, "process_virtual_memory_bytes") == pytest.approx(virtual_kib * 1024, rel=0.2)
    assert await metric(gateway, "process_max_fds") == soft_limit
    assert 0 < await metric(gateway, "carillon_memory_used_bytes") < await metric(gateway, "carillon_memory_limit_bytes")


async def test_what_goes_over_websockets_is_counted(alone):
    alice, = await people(alone, "alice")
    socket = await alice.connect()
    await metric_becomes(alone, "carillon_websocket_messages_received_total", 1)  # the hello
    sent = await metric(alone, "carillon_frames_sent_total")
    for _ in range(10):
        await socket.request("ping")
    await metric_becomes(alone, "carillon_websocket_messages_received_total", 11)
    assert 10 <= await metric_reaches(alone, "carillon_frames_sent_total", sent + 10) - sent < 100


def thread_of(gateway, name):
    """The id of the process's thread of that name."""
    threads = Path(f"/proc/{gateway.process.pid}/task").iterdir()
    return next(thread.name for thread in threads if (thread / "comm").read_text().strip() == name)


@contextmanager
def tampered(gateway, thread, injection):
    """One thread's system calls meet what strace(1) injects, until the block ends."""
    if shutil.which("strace") is None:
        pytest.fail("strace is not installed: run tools/bootstrap")
    number = thread_of(gateway, thread)
    with subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-p", number, "-e", f"inject={injection}"]) as tracer:
        try:
            deadline = time.monotonic() + 10
            while "TracerPid:\t0\n" in Path(f"/proc/{number}/status").read_text():
                assert tracer.poll() is None and time.monotonic() < deadline, "strace did not attach"
                time.sleep(0.01)
            yield
        finally:
            tracer.kill()  # lets the thread go on at once


def megabytes_of_rows(number):
    """Bodies of messages: a write buffer of 1 MB takes 16 or 17."""
    return [{"content": "x", "meta": os.urandom(30_000).hex()} for _ in range(17 * number)]


async def test_flushes_and_compactions_that_are_held_up_are_shown(make_gateway):
    """RocksDB's own threads stand in front of writing table files: write buffers fill up until writes are slowed down and
    then stopped, and table files wait for being merged. (Held up at its fsync, a flush could hold the log's.)"""
    held = "write,pwrite64:delay_enter=30s"
    gateway = make_gateway(cores=1, store__write_buffer="1m")
    alice, = await people(gateway, "alice")
    path = f"/rooms/{await alice.new_room('group')}/messages"

    async def grows(name, step, what):
        """Goes on with the steps until the metric is above 0; the store is looked at once a second."""
        for _ in range(10):
            deadline = time.monotonic() + STALE_S
            while time.monotonic() < deadline:
                if await metric(gateway, name) > 0:
                    return
                await asyncio.sleep(0.05)
            await step()
        raise AssertionError(f"{name} stays 0: {what}")

    async def three_rows():
        for row in megabytes_of_rows(1)[:3]:
            (await alice.post(path, row)).ok(201)

    sends = []

    async def a_megabyte_at_once():  # its answers come when there is room again
        sends.extend(asyncio.ensure_future(alice.post(path, row)) for row in megabytes_of_rows(1))

    async def four_megabytes():
        await alice.new_room("group")  # families besides the log's get something to flush
        for row in megabytes_of_rows(4):
            (await alice.post(path, row)).ok(201)

    with tampered(gateway, "rocksdb:low", held):
        with tampered(gateway, "rocksdb:high", held):
            for row in megabytes_of_rows(3):
                (await alice.post(path, row)).ok(201)
            await grows("carillon_store_delayed_write_rate_bytes", three_rows, "three of four buffers are full")
            assert await metric(gateway, "carillon_store_flushes_running") == 1
            assert await metric(gateway, "carillon_store_write_stopped") == 0
            await a_megabyte_at_once()
            await grows("carillon_store_write_stopped", a_megabyte_at_once, "all buffers are full")
        assert {answer.status for answer in await asyncio.gather(*sends)} <= {201, 503}  # too much waits for the disk
        await metric_becomes(gateway, "carillon_store_write_stopped", 0)
        await grows("carillon_store_compaction_pending_bytes", four_megabytes, "files wait")
        assert await metric(gateway, "carillon_store_compactions_running") == 1
    for name in ("delayed_write_rate_bytes", "flushes_running", "compactions_running", "compaction_pending_bytes"):
        await metric_becomes(gateway, f"carillon_store_{name}", 0)
    await asyncio.sleep(STALE_S)
    files_bytes = sum(path.stat().st_size for path in (gateway.data / "db").glob("*.sst"))
    assert await metric(gateway, "carillon_store_files_bytes") == pytest.approx(files_bytes, rel=0.2)
    assert await metric(gateway, "carillon_store_background_errors") == 0


@pytest.mark.skipif("asan" in str(BINARY), reason="the sanitizer itself asks by write(2) whether memory may be read, and "
                                                  "takes ENOSPC for a fault of its own")
async def test_flush_that_finds_no_space_is_counted_and_ends_writing(make_gateway):
    gateway = make_gateway(cores=1, store__write_buffer="1m")
    alice, = await people(gateway, "alice")
    room_id = await alice.new_room("group")
    await alice.send(room_id, "kept")
    with tampered(gateway, "rocksdb:high", "write,pwrite64:error=ENOSPC"):
        answers = [await alice.post(f"/rooms/{room_id}/messages", row) for row in megabytes_of_rows(2)]
        answers[-1].problem(503, code="store.read_only")
        assert await metric_reaches(gateway, "carillon_store_background_errors", 1)
        assert await metric(gateway, "carillon_store_errors_total", op="write") >= 1
        assert await metric(gateway, "carillon_store_writable") == 0
        assert (await alice.messages(room_id))[0]["content"] == "kept"
    gateway.kill()
