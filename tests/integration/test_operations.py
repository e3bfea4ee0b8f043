"""What whoever runs the gateway relies on: health, metrics, draining, exit codes, and the offline commands."""

import asyncio
import fcntl
import json
import os
import re
import signal
import socket as sockets
import time

import pytest
import websockets

from client import Operator, call, new_tenant
from shapes import assert_gapless
from wire import HttpWire

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^{}]*\})? (-?[0-9.]+(?:e[+-]?[0-9]+)?|[+-]Inf|NaN)$')


async def room_of(gateway, *user_ids, **settings):
    users = (await new_tenant(gateway)).users(*user_ids)
    return (await users[0].new_room("group", *users[1:], **settings), *users)


# --- health and metrics -------------------------------------------------------------------------------------------


async def test_health_says_what_works(gateway):
    health = (await call(gateway, "GET", "/health")).ok()
    assert (health["status"], health["service"], health["db_writable"]) == ("ok", "carillon", True)
    assert isinstance(health["uptime_s"], (int, float)) and health["uptime_s"] >= 0


async def test_ready_needs_no_credentials(gateway):
    assert (await call(gateway, "GET", "/ready")).status == 200


async def test_metrics_are_prometheus_text(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await alice.send(room_id, "x")
    answer = await call(gateway, "GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert answer.text.endswith("\n")
    types, helps, samples = {}, set(), []
    for line in answer.text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, f"{name} is announced twice"
            assert kind in ("counter", "gauge", "histogram", "summary")
            types[name] = kind
        elif line.startswith("# HELP "):
            helps.add(line.split(" ")[2])
        elif line:
            match = SAMPLE.match(line)
            assert match, f"no sample: {line!r}"
            family = match[1] if match[1] in types else re.sub("_(bucket|sum|count)$", "", match[1])
            assert family in types, f"{line!r} comes before its TYPE"
            if types[family] == "counter":
                assert match[1].endswith("_total"), match[1]
            samples.append((match[1], match[2]))
    assert len(samples) == len(set(samples)), "a sample stands twice"
    assert set(types) <= helps
    assert len(types) >= 10 and all(re.match("^[a-z][a-z0-9_]*$", name) for name in types)


async def test_histogram_buckets_are_cumulative(gateway):
    room_id, alice = await room_of(gateway, "alice")
    await alice.send_many(room_id, "abc")
    text = (await call(gateway, "GET", "/metrics")).text
    histograms = re.findall(r"^# TYPE (\S+) histogram$", text, re.MULTILINE)
    assert histograms
    for name in histograms:
        series = {}
        for labels, count in re.findall(rf"^{name}_bucket\{{(.*)\}} (\d+)$", text, re.MULTILINE):
            series.setdefault(re.sub(r',?le="[^"]*"', "", labels), []).append(int(count))
        for labels, counts in series.items():
            assert counts == sorted(counts), (name, labels)
            last = re.findall(rf'^{name}_bucket\{{.*le="\+Inf".*\}} (\d+)$', text, re.MULTILINE)
            assert last, f"{name} has no +Inf bucket"


async def test_no_openssl_is_mapped_beside_boringssl(gateway):
    try:
        with open(f"/proc/{gateway.process.pid}/maps", encoding="utf-8") as maps:
            mapped = maps.read()
    except PermissionError:
        pytest.skip("the process is not dumpable: only root may read its maps")
    assert "/android/libcrypto.so" in mapped and "librocksdb.so" in mapped
    for library in ("libcrypto.so.3", "libssl.so.3", "libcrypto.so.1", "libgnutls"):
        assert library not in mapped


async def test_log_lines_are_json(gateway):
    lines = [line for line in gateway.log_text().splitlines() if line]
    assert lines
    for line in lines:
        fields = json.loads(line)
        assert {"ts", "level", "scope", "event"} <= set(fields), line


# --- stopping -----------------------------------------------------------------------------------------------------


async def test_sigterm_announces_the_end_and_closes_every_socket(make_gateway):
    gateway = make_gateway()
    room_id, alice, bob = await room_of(gateway, "alice", "bob")
    connected = [await alice.connect(), await bob.connect(), await bob.connect_automatic()]
    gateway.process.send_signal(signal.SIGTERM)
    for socket in connected:
        notice = await socket.expect("server.shutdown")
        assert isinstance(notice["reconnect_after_ms"], int) and notice["reconnect_after_ms"] >= 0
        assert await socket.closed() in (1001, 4201)
    gateway.await_exit(0)


async def test_an_answer_on_its_way_is_whole_although_the_server_stops(make_gateway):
    gateway = make_gateway(cores=1, net__send_buffer="65536", drain__timeout_s="20")
    room_id, alice = await room_of(gateway, "alice")
    for _ in range(60):
        await alice.send(room_id, "x" * 8000)
    slow = await HttpWire.open(gateway, receive_buffer_bytes=4096)
    await slow.request("GET", f"/v1/rooms/{room_id}/messages?limit=1000", alice.headers)
    await asyncio.sleep(0.3)
    gateway.process.send_signal(signal.SIGTERM)
    await asyncio.sleep(0.5)  # what the gateway has to wait for
    answer = await slow.answer()
    assert answer.status == 200 and len(json.loads(answer.body)["items"]) == 60
    slow.drop()
    gateway.await_exit(0)


async def test_reconnects_after_a_stop_are_spread_out(make_gateway):
    gateway = make_gateway()
    alice = (await new_tenant(gateway)).user("alice")
    connected = [await alice.connect() for _ in range(20)]
    gateway.process.send_signal(signal.SIGTERM)
    delays = [(await socket.expect("server.shutdown"))["reconnect_after_ms"] for socket in connected]
    assert len(set(delays)) > 1, delays
    gateway.await_exit(0)


async def test_nothing_acknowledged_is_lost_by_a_stop_under_load(make_gateway):
    gateway = make_gateway()
    room_id, alice = await room_of(gateway, "alice")
    acknowledged = {}

    async def send_until_closed(name):
        socket = await alice.connect(rooms="none")
        try:
            for number in range(5000):
                ok = await socket.request("send_message", room_id=room_id, content=f"{name}/{number}")
                if ok["type"] == "ok":
                    acknowledged[ok["seq"]] = f"{name}/{number}"
        except (AssertionError, websockets.ConnectionClosed):
            return  # closed: the request before the end stays unanswered

    senders = [asyncio.create_task(send_until_closed(f"sender-{number}")) for number in range(4)]
    while len(acknowledged) < 50:
        await asyncio.sleep(0.005)
    gateway.process.send_signal(signal.SIGTERM)
    await asyncio.gather(*senders)
    gateway.await_exit(0)
    gateway.start()
    events = await alice.events(room_id)
    assert_gapless(events, 1, len(events))
    stored = {event["seq"]: event["content"] for event in events}
    assert len(acknowledged) >= 50
    assert {seq: stored.get(seq) for seq in acknowledged} == acknowledged


async def test_stop_does_not_wait_for_idle_and_half_open_clients(make_gateway):
    gateway = make_gateway()
    idle, half = [sockets.create_connection((gateway.host, gateway.port)) for _ in range(2)]
    half.sendall(b"POST /v1/sync HTTP/1.1\r\nHost: x\r\nContent-Le")
    (await call(gateway, "GET", "/health")).ok()
    started = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    gateway.await_exit(0)
    assert time.monotonic() - started < 5
    idle.close()
    half.close()


async def test_restarts_are_quick_and_leave_nothing_behind(make_gateway):
    gateway = make_gateway()
    room_id, alice = await room_of(gateway, "alice")
    for how in ("stop", "kill", "stop", "kill"):
        await alice.send(room_id, how)
        started = time.monotonic()
        gateway.restart(how)
        assert time.monotonic() - started < 5
    assert [event["content"] for event in await alice.events(room_id)] == ["stop", "kill", "stop", "kill"]


async def test_admin_socket_is_usable_again_after_a_kill(make_gateway):
    gateway = make_gateway()
    await Operator(gateway, by_socket=True).new_tenant("one")
    gateway.restart("kill")
    operator = Operator(gateway, by_socket=True)
    assert [tenant["name"] for tenant in (await operator.call("GET", "/tenants")).ok()["items"]] == ["one"]


async def test_admin_socket_is_for_its_owner_alone(gateway):
    mode = os.stat(gateway.admin_socket).st_mode
    assert mode & 0o007 == 0, oct(mode)


# --- command line -------------------------------------------------------------------------------------------------


async def test_export_history_is_the_log_in_order(make_gateway):
    gateway = make_gateway()
    room_id, alice = await room_of(gateway, "alice", is_private=False)
    other_room = await alice.new_room("group")
    await alice.send(other_room, "elsewhere")
    await alice.send(room_id, "héllo\n🔔", meta={"n": 12345678901234567890}, client_id="c")
    (await alice.tenant.user("bob").post(f"/rooms/{room_id}/join")).succeeded()
    await alice.send_many(room_id, "abc")
    events = await alice.events(room_id)
    for how in ("stop", "kill"):
        getattr(gateway, how)()
        exported = gateway.run_command("export-history", gateway.data, "--room", room_id)
        assert exported.returncode == 0, exported.stderr
        lines = [json.loads(line) for line in exported.stdout.splitlines()]
        assert_gapless(lines, 1, 5)
        for line, event in zip(lines, events):
            assert {name: line.get(name) for name in event} == event
        gateway.start()
    gateway.stop()
    assert gateway.run_command("export-history", gateway.data, "--room", "no-such-room").returncode != 0


async def test_a_reader_beside_a_gateway_does_not_call_the_store_damaged(make_gateway):
    gateway = make_gateway()
    await room_of(gateway, "alice")
    gateway.stop()
    with open(os.path.join(gateway.data, "LOCK"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a gateway at work
        os.rename(os.path.join(gateway.data, "db", "CURRENT"), os.path.join(gateway.data, "CURRENT"))  # a file that went
        for command in (("export-history", gateway.data, "--all"), ("verify-store", gateway.data)):
            refused = gateway.run_command(*command)
            assert refused.returncode != 0 and b"stop the gateway first, or try again" in refused.stderr
            assert b"backup" not in refused.stderr
    os.rename(os.path.join(gateway.data, "CURRENT"), os.path.join(gateway.data, "db", "CURRENT"))
    assert gateway.run_command("export-history", gateway.data, "--all").returncode == 0


async def test_verify_store_accepts_a_sound_store_after_any_end(make_gateway):
    gateway = make_gateway()
    room_id, alice, bob = await room_of(gateway, "alice", "bob", is_private=False)
    for how in ("stop", "kill"):
        await alice.send_many(room_id, "abc")
        (await bob.post(f"/rooms/{room_id}/leave")).succeeded()
        (await bob.post(f"/rooms/{room_id}/join")).succeeded()
        getattr(gateway, how)()
        verified = gateway.run_command("verify-store", gateway.data)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        gateway.start()


async def test_verify_store_refuses_a_damaged_store(make_gateway):
    gateway = make_gateway()
    room_id, alice = await room_of(gateway, "alice")
    for number in range(50):
        await alice.send(room_id, f"{number}" + "x" * 1000)
    gateway.stop()
    manifest = max(gateway.data.rglob("MANIFEST-*"), key=lambda path: path.stat().st_mtime)
    manifest.write_bytes(manifest.read_bytes()[:100])
    assert gateway.run_command("verify-store", gateway.data).returncode != 0


async def test_verify_store_of_nothing_fails(gateway, tmp_path):
    assert gateway.run_command("verify-store", tmp_path / "nothing").returncode != 0
    assert not (tmp_path / "nothing").exists(), "a check creates nothing"


async def test_second_process_on_a_store_is_refused(gateway):
    second = gateway.run_command("serve", "--data", gateway.data, "--listen", "127.0.0.1:0", "--cores", "1")
    assert second.returncode == 4, second.stderr
    (await call(gateway, "GET", "/health")).ok()


@pytest.mark.parametrize("arguments, code", [
    (["--version"], 0), (["serve", "--no-such-option"], 2), (["no-such-command"], 2),
    (["serve", "--data", "unused", "--set", "no.such_setting=1"], 3),
    (["serve", "--data", "unused", "--set", "durability=perhaps"], 3),
    (["serve", "--data", "unused", "--config", "/no/such/file"], 3),
])
async def test_exit_codes_tell_usage_from_configuration(gateway, tmp_path, arguments, code):
    arguments = [str(tmp_path / "unused") if argument == "unused" else argument for argument in arguments]
    ended = gateway.run_command(*arguments)
    assert ended.returncode == code, ended.stderr
    assert ended.stdout if code == 0 else ended.stderr, "it says why"
