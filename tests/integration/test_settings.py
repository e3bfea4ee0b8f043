"""Each setting has an effect that can be seen from outside, wherever it was set."""

import asyncio
import os
import pwd
import re
import shutil
import signal
import socket as sockets
import subprocess
import time
from pathlib import Path

import pytest

import recorder
from client import call, metric, metric_becomes, new_tenant
from gateway import BINARY
from wire import CLOSE, PING, TEXT, FrameWire, HttpWire, close_code

# Settings of what is not served yet, and a value that asks for it: a limit that is set and not kept would be worse
# than none. Whoever serves one takes it out of here and shows its effect.
NOT_SERVED = {"auth.query_token": "true", "tls.listen": "127.0.0.1:0",
              "tls.cert": "/etc/cert.pem", "tls.key": "/etc/key.pem", "tls.min_version": "1.2"}


def threads_of(gateway):
    """Names of the process's threads."""
    folder = Path(f"/proc/{gateway.process.pid}/task")
    return [(thread / "comm").read_text().strip() for thread in folder.iterdir()]


def on_a_disk_of(megabytes):
    """A prefix that runs the gateway with a file system of that size, which is the test's alone, under its store: as
    root of a namespace of its own, which any user may be."""
    return ["unshare", "--map-root-user", "--mount", "sh", "-c",
            f'mount -t tmpfs -o size={megabytes}m none /mnt && exec "$@" --data /mnt/data', "sh"]


def rocksdb_options(gateway):
    """The newest of the files in which RocksDB says how it was opened, as {name: [values]}."""
    newest = max((gateway.data / "db").glob("OPTIONS-*"), key=lambda path: path.stat().st_mtime_ns)
    found = {}
    for name, value in re.findall(r"^\s*(\w+)=(.*)$", newest.read_text(), re.MULTILINE):
        found.setdefault(name, []).append(value)
    return found


async def user_of(gateway, user_id="alice"):
    return (await new_tenant(gateway)).user(user_id)


# --- where a setting may stand ------------------------------------------------------------------------------------


async def test_later_places_win_over_earlier_ones(make_gateway):
    """Defaults < file < environment < command line."""
    limits = "[limits]\ncontent_chars = 11\n[net]\nping_interval = 7s\n"
    by_file = make_gateway(config=limits)
    by_environment = make_gateway(config=limits, environment={"CARILLON_LIMITS_CONTENT_CHARS": "12"})
    by_argument = make_gateway(config=limits, environment={"CARILLON_LIMITS_CONTENT_CHARS": "12"},
                               limits__content_chars="13")
    for gateway, chars in ((by_file, 11), (by_environment, 12), (by_argument, 13)):
        alice = await user_of(gateway)
        socket = await alice.connect()
        assert socket.welcome["limits"]["content_chars"] == chars
        assert socket.welcome["limits"]["ping_interval_ms"] == 7000
        room_id = await alice.new_room("group")
        await alice.send(room_id, "x" * chars)
        (await alice.post(f"/rooms/{room_id}/messages", {"content": "x" * (chars + 1)})).problem(
            413, code="content.too_long")


@pytest.mark.parametrize("name", NOT_SERVED)
def test_setting_that_asks_for_what_is_not_served_is_refused(name, tmp_path):
    result = subprocess.run([BINARY, "serve", "--data", tmp_path / "data", "--listen", "127.0.0.1:0",
                             "--set", f"{name}={NOT_SERVED[name]}"], capture_output=True, text=True, timeout=30,
                            check=False)
    assert result.returncode == 3
    assert name.split(".", 1)[1] in result.stderr and not (tmp_path / "data").exists()
    recorder.exercised("setting", name)


# --- durability, store --------------------------------------------------------------------------------------------


async def test_durability_says_when_a_send_is_answered(make_gateway):
    for durability, member in (("fsync", None), ("fast", "fast")):
        alice = await user_of(make_gateway(durability=durability))
        room = await alice.create_room("group")
        assert room["durability"] == durability
        assert (await alice.send(room["room_id"], "x")).get("durability") == member


async def test_store_dir_is_where_everything_is_kept(make_gateway, tmp_path):
    gateway = make_gateway(store__dir=str(tmp_path / "elsewhere"))
    await user_of(gateway)
    assert (tmp_path / "elsewhere" / "db").is_dir() and not gateway.data.exists()
    gateway.stop()


async def test_store_memory_is_given_to_rocksdb(make_gateway):
    small = make_gateway(store__write_buffer="4m", store__cache="8m", store__reserve="8m")
    large = make_gateway(store__write_buffer="40m", store__cache="80m", store__reserve="80m")
    sizes = [sum(map(int, rocksdb_options(gateway)["write_buffer_size"])) for gateway in (small, large)]
    assert sizes[1] > 4 * sizes[0]
    for gateway, megabytes in ((small, 8), (large, 80)):
        logs = "".join(path.read_text(errors="replace") for path in gateway.data.rglob("*LOG*") if path.is_file())
        assert f"capacity : {megabytes << 20}" in logs


async def test_store_reserve_is_kept_free(make_gateway):
    """Below it what adds data is refused, at most a second later; with space again it is taken again."""
    gateway = make_gateway(store__reserve="32m", store__write_buffer="4m", command_prefix=on_a_disk_of(200))
    alice = await user_of(gateway)
    room_id = await alice.new_room("group")
    await alice.send(room_id, "kept")
    free_bytes = int(await metric(gateway, "carillon_store_free_bytes"))
    assert 100 << 20 < free_bytes <= 200 << 20
    ballast = Path(f"/proc/{gateway.process.pid}/root/mnt/ballast")
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, free_bytes - (20 << 20))
    watched_s = recorder.limit("WATCH_INTERVAL_MS") / 1000
    await asyncio.sleep(watched_s + 0.5)
    (await alice.post(f"/rooms/{room_id}/messages", {"content": "x"})).problem(507, code="store.disk_full")
    health = (await call(gateway, "GET", "/health")).json()
    assert (health["checks"]["disk"], health["db_writable"]) == ("reserve_reached", False)
    assert await metric(gateway, "carillon_store_free_bytes") < 32 << 20
    assert len(await alice.messages(room_id)) == 1
    ballast.unlink()
    await asyncio.sleep(watched_s + 0.5)
    assert (await alice.send(room_id, "again"))["seq"] == 2


async def test_disk_too_small_for_a_store_is_refused(make_gateway):
    smallest = recorder.limit("STORE_OPEN_BYTES_MIN") >> 20
    with pytest.raises(AssertionError, match="ended with 4"):
        make_gateway(command_prefix=on_a_disk_of(smallest - 2))
    make_gateway(command_prefix=on_a_disk_of(2 * smallest))


# --- net ----------------------------------------------------------------------------------------------------------


async def test_every_address_of_net_listen_is_served(make_gateway):
    gateway = make_gateway(net__listen="127.0.0.1:0,127.0.0.2:0,[::1]:0")
    addresses = re.search(r'"addresses":"([^"]*)"', gateway.log_text())[1].split(",")
    assert len(addresses) == 3
    for address in addresses:
        host, _, port = address.rpartition(":")
        with sockets.create_connection((host.strip("[]"), int(port)), timeout=10) as plain:
            plain.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert plain.recv(100).startswith(b"HTTP/1.1 200 ")


async def test_silent_socket_is_pinged_and_then_closed(make_gateway):
    gateway = make_gateway(net__idle_timeout="2s", net__ping_interval="500ms")
    alice = await user_of(gateway)
    wire = await FrameWire.connect(gateway, alice.headers, "carillon.v1.json")
    await wire.send_frame(TEXT, '{"type":"hello"}')
    await wire.text()
    started, pings = time.monotonic(), 0
    while True:
        opcode, payload = await wire.frame()
        if opcode == CLOSE:
            break
        pings += opcode == PING
    assert pings >= 1 and close_code(payload) == 1001
    assert 1.5 < time.monotonic() - started < 10
    plain = await HttpWire.open(gateway)
    await plain.request("GET", "/health")
    assert (await plain.answer()).status == 200
    started = time.monotonic()
    await plain.assert_ended()
    assert 1.5 < time.monotonic() - started < 10


async def test_socket_that_answers_pings_stays(make_gateway):
    alice = await user_of(make_gateway(net__idle_timeout="2s", net__ping_interval="500ms"))
    socket = await alice.connect()
    await asyncio.sleep(3.5)  # the library answers pings by itself
    assert (await socket.request("ping"))["type"] == "pong"


async def test_paused_process_keeps_its_silent_sockets(make_gateway):
    gateway = make_gateway(net__idle_timeout="4s", net__ping_interval="2s")
    alice = await user_of(gateway)
    silent, speaking = await alice.connect(), await alice.connect()
    gateway.process.send_signal(signal.SIGSTOP)
    said = asyncio.ensure_future(speaking.request("ping"))
    await asyncio.sleep(6)
    gateway.process.send_signal(signal.SIGCONT)
    assert (await said)["type"] == "pong"
    assert (await silent.request("ping"))["type"] == "pong"
    await asyncio.sleep(1)
    assert (await silent.request("ping"))["type"] == "pong"


@pytest.mark.parametrize("mode,tried", [("auto", 0), ("on", 3), ("off", 0)])
async def test_over_loopback_large_messages_are_sent_without_a_copy_when_told_to(make_gateway, mode, tried):
    """There the kernel always copies, so auto does not try."""
    gateway = make_gateway(cores=1, net__zero_copy=mode)
    alice = await user_of(gateway)
    room_id = await alice.new_room("group")
    socket = await alice.connect()
    for number in range(3):
        await alice.send(room_id, f"{number}", meta="m" * 10_000)
        assert (await socket.expect("message"))["content"] == f"{number}"
    await alice.send(room_id, "small")
    await socket.expect("message")
    await metric_becomes(gateway, "carillon_send_zc_total", tried, result="copied")
    assert await metric(gateway, "carillon_send_zc_total") == tried


async def test_send_buffer_bounds_what_the_kernel_takes(make_gateway):
    """A reader that takes nothing holds less in the kernel and more in the gateway's queue when the buffer is small."""
    waiting = {}
    for text in ("8k", "0"):
        gateway = make_gateway(cores=1, net__send_buffer=text)
        alice = await user_of(gateway)
        room_id = await alice.new_room("group")
        wire = await FrameWire.connect(gateway, alice.headers, "carillon.v1.json", receive_buffer_bytes=4096)
        await wire.send_frame(TEXT, '{"type":"hello"}')
        await wire.text()
        for number in range(12):
            await alice.send(room_id, f"{number}", meta="m" * 60_000)
        await asyncio.sleep(1.2)  # gauges of an idle core are brought up to date once a second
        waiting[text] = await metric(gateway, "carillon_send_queue_bytes")
    assert waiting["8k"] > waiting["0"] + 100_000, waiting


# --- process ------------------------------------------------------------------------------------------------------


async def test_cores_and_readers_are_threads(make_gateway):
    gateway = make_gateway(process__cores="3", process__readers="5")
    names = threads_of(gateway)
    assert {f"core/{n}" for n in range(3)} == {name for name in names if name.startswith("core/")}
    assert {f"reader/{n}" for n in range(5)} == {name for name in names if name.startswith("reader/")}


async def test_process_user_is_who_the_gateway_becomes(make_gateway):
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    nobody = pwd.getpwnam("nobody")
    # The test's own folder is root's alone; the store gets one that its user may use.
    folder = Path("/tmp") / f"carillon-user-{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        gateway = make_gateway(process__user="nobody", store__dir=str(folder / "data"),
                               admin__socket=str(folder / "admin.sock"))
        status = Path(f"/proc/{gateway.process.pid}/status").read_text()
        assert re.search(rf"^Uid:\t{nobody.pw_uid}\t{nobody.pw_uid}\t", status, re.MULTILINE)
        assert (folder / "data").stat().st_uid == nobody.pw_uid
        alice = await user_of(gateway)
        await alice.send(await alice.new_room("group"), "x")
        gateway.stop()
    finally:
        shutil.rmtree(folder)


# --- admin, log, debug --------------------------------------------------------------------------------------------


async def test_master_key_is_what_was_set(make_gateway):
    gateway = make_gateway(admin__master_key="open sesame")
    (await call(gateway, "GET", "/v1/admin/stats", {"X-Master-Key": "open sesame"})).ok()
    (await call(gateway, "GET", "/v1/admin/stats", {"X-Master-Key": "open"})).problem(
        401, code="auth.invalid_master_key")
    without = make_gateway(admin__master_key="")
    (await call(without, "GET", "/v1/admin/stats", {"X-Master-Key": ""})).problem(401)


async def test_admin_socket_is_where_it_was_set(make_gateway):
    gateway = make_gateway()
    elsewhere = gateway.directory / "other.sock"
    gateway.stop()
    moved = make_gateway(admin__socket=str(elsewhere))
    (await call(moved, "GET", "/v1/admin/stats", unix_path=str(elsewhere))).ok()
    beside_the_store = make_gateway(admin__socket="")
    (await call(beside_the_store, "GET", "/v1/admin/stats",
                unix_path=str(beside_the_store.data / "admin.sock"))).ok()


async def test_log_level_is_the_least_that_is_written(make_gateway):
    gateway = make_gateway(log__level="debug")
    await user_of(gateway)
    assert '"level":"info"' in gateway.log_text()
    quiet = make_gateway(config="[log]\nlevel = info\n")
    quiet.config_path.write_text("[log]\nlevel = error\n")
    quiet.process.send_signal(signal.SIGHUP)
    await asyncio.sleep(0.5)
    before = quiet.log_text()
    quiet.stop()  # says so by lines of level info, which are no longer written
    assert '"event":"ready"' in before and quiet.log_text() == before


async def test_echo_endpoints_exist_only_when_they_are_set(make_gateway):
    gateway = make_gateway(debug__echo="true")
    answer = await call(gateway, "PUT", "/debug/echo", raw=b"\x00anything\xff")
    assert (answer.status, answer.body) == (200, b"\x00anything\xff")
    wire = await FrameWire.open(gateway)
    assert (await wire.upgrade({}, path="/debug/ws-echo")).status == 101
    await wire.send_frame(TEXT, "echo")
    assert await wire.frame() == (TEXT, b"echo")
    without = make_gateway()
    for path in ("/debug/echo", "/debug/ws-echo"):
        (await call(without, "GET", path)).problem(404, code="route.not_found")


# --- drain and limits ---------------------------------------------------------------------------------------------


async def test_drain_timeout_bounds_a_stop(make_gateway):
    """A client that never answers the close holds a stopping server up, for that long and no longer."""
    took = {}
    for seconds in ("0", "3"):
        gateway = make_gateway(drain__timeout_s=seconds)
        alice = await user_of(gateway)
        await FrameWire.connect(gateway, alice.headers)
        started = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(gateway.await_exit, 0)
        took[seconds] = time.monotonic() - started
    assert took["0"] + 1 < took["3"] < 12, took  # CLOSE_TIMEOUT_MS, which is less


async def test_members_per_room_is_bounded(make_gateway):
    gateway = make_gateway(limits__members_per_room="3")
    alice, bob, carol, dave = (await new_tenant(gateway)).users("alice", "bob", "carol", "dave")
    room_id = await alice.new_room("group", bob, carol)
    (await dave.post(f"/rooms/{room_id}/join")).problem(409, code="room.full")
    (await alice.post("/rooms", {"type": "group", "members": ["bob", "carol", "dave"]})).problem(409, code="room.full")
    (await alice.post("/rooms", {"type": "group", "max_participants": 4})).problem(400, code="field.invalid")


async def test_joins_of_large_rooms_carry_a_count(make_gateway):
    gateway = make_gateway(limits__presence_room_members="3")
    alice, bob, carol, dave, erin = (await new_tenant(gateway)).users("alice", "bob", "carol", "dave", "erin")
    room_id = await alice.new_room("group", bob)
    socket = await alice.connect()
    await alice.add_members(room_id, carol, dave)
    joined = await socket.expect("user_joined", room_id=room_id, seq=1)
    assert joined["user_ids"] == ["carol", "dave"]
    await alice.add_members(room_id, erin)
    joined = await socket.expect("user_joined", room_id=room_id, seq=2)
    assert joined.get("count") == 1 and "user_ids" not in joined


async def test_send_queue_is_what_one_reader_may_hold(make_gateway):
    """A reader that takes nothing holds no more than that; then it is caught up from the log."""
    held = {}
    for text in ("64k", "4m"):
        gateway = make_gateway(cores=1, limits__send_queue=text, net__send_buffer="8k")
        alice = await user_of(gateway)
        room_id = await alice.new_room("group")
        wire = await FrameWire.connect(gateway, alice.headers, "carillon.v1.json", receive_buffer_bytes=4096)
        await wire.send_frame(TEXT, '{"type":"hello"}')
        await wire.text()
        for number in range(60):
            await alice.send(room_id, f"{number}", meta="m" * 30_000)
        await asyncio.sleep(1.2)  # gauges of an idle core are brought up to date once a second
        held[text] = await metric(gateway, "carillon_send_queue_bytes")
        seqs = []
        while len(seqs) < 60:
            event = await wire.text(lambda event: event["type"] == "message")
            seqs.append(event["seq"])
        assert seqs == list(range(1, 61))
        if text == "64k":
            assert await metric(gateway, "carillon_replays_total") >= 1
    assert held["64k"] < 500_000 < 1_000_000 < held["4m"], held  # a replay reads pages of 256 KiB
