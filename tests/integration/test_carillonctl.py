"""carillonctl on live gateways: every command, for people and for programs, and what it does to those connected."""

import asyncio
import json
import os
import pty
import re
import secrets
import select
import socket as sockets
import subprocess
import threading
import time

import pytest

from client import Operator, call, metric, metric_reaches, new_tenant
from gateway import BUILD

CTL = BUILD / "carillonctl"
PATIENCE_S = 20.0  # for something that must come


def environment(**more):
    """The caller's, without what would steer carillonctl or its looks."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("CARILLON", "NO_COLOR"))}
    return {**kept, "TERM": "xterm", "TZ": "UTC", **more}


class Ctl:
    """carillonctl on one gateway, over its admin socket."""

    def __init__(self, gateway, *options):
        self.gateway, self.options = gateway, [str(option) for option in options]

    def command(self, *arguments):
        return [str(CTL), "--socket", str(self.gateway.admin_socket), *self.options, *map(str, arguments)]

    def run(self, *arguments, code=0, stdin="", **more):
        """Runs a command to its end and returns what it printed; `code` is the exit code that it must have."""
        done = subprocess.run(self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=PATIENCE_S,
                              env=environment(**more), check=False)
        assert done.returncode == code, (done.args, done.returncode, done.stdout, done.stderr)
        return done

    def text(self, *arguments, **more):
        return self.run(*arguments, **more).stdout

    def json(self, *arguments, **more):
        """The answer to --json: one line."""
        lines = self.run("--json", *arguments, **more).stdout.splitlines()
        assert len(lines) == 1, lines
        return json.loads(lines[0])

    def as_member(self, user):
        return Ctl(self.gateway, *self.options, "--key", user.api_key, "--as", user.user_id)


async def off_loop(function, *arguments, **more):
    """Runs a blocking call beside the event loop, which goes on serving the test's sockets."""
    return await asyncio.get_running_loop().run_in_executor(None, lambda: function(*arguments, **more))


def rows_of(table):
    """A printed table as a list of dicts; no cell of it has two spaces in a row."""
    head, *rows = [re.split(r" {2,}", line.strip()) for line in table.splitlines()]
    return [dict(zip(head, row)) for row in rows]


# --- what is asked of the gateway ---------------------------------------------------------------------------------------


async def test_status_shows_every_part_and_json_is_the_servers(gateway):
    ctl = Ctl(gateway)
    text = await off_loop(ctl.text, "status")
    for word in ("serving", "connections", "traffic", "commit", "fsync p50", "store", "memory", "core"):
        assert word in text, text
    status = await off_loop(ctl.json, "status")
    assert status["state"] == "serving" and status["pid"] == gateway.process.pid
    assert len(status["cores"]) == gateway.cores
    assert {"open", "websockets", "max"} <= set(status["connections"])
    assert {"pending", "oldest_ms", "fsync_p50_us", "fsync_p99_us", "fsync_buckets"} <= set(status["commit"])
    assert {"writable", "free_bytes", "reserve_bytes", "write_stopped"} <= set(status["store"])
    assert status["store"]["free_bytes"] > 0
    assert isinstance(status["warnings"], list)


async def test_status_counts_what_happens(gateway):
    tenant = await new_tenant(gateway)
    alice = tenant.user("alice")
    room_id = await alice.new_room("group")
    await alice.connect()
    before = (await Operator(gateway).call("GET", "/status")).ok()
    await alice.send_many(room_id, "abcde")
    await asyncio.sleep(0.3)  # gauges are copied ten times a second
    after = (await Operator(gateway).call("GET", "/status")).ok()
    assert after["traffic"]["messages"] - before["traffic"]["messages"] >= 5
    assert after["commit"]["syncs"] > before["commit"]["syncs"]
    assert after["connections"]["websockets"] >= 1
    assert sum(core["cpu_us"] for core in after["cores"]) > sum(core["cpu_us"] for core in before["cores"])


async def test_a_disk_that_is_nearly_full_is_warned_of_with_what_to_do(make_gateway):
    free = os.statvfs("/tmp").f_bavail * os.statvfs("/tmp").f_frsize
    total = os.statvfs("/tmp").f_blocks * os.statvfs("/tmp").f_frsize
    reserve = int(free * 0.7)
    if reserve > total / 4:  # beyond that the gateway makes its reserve smaller
        pytest.skip("the disk under /tmp is too empty to be nearly full")
    gateway = make_gateway(store__reserve=f"{reserve >> 20}m")
    status = (await Operator(gateway).call("GET", "/status")).ok()
    assert any("make room" in warning for warning in status["warnings"]), status["warnings"]


async def test_top_once_shows_rates_and_ends(gateway):
    text = await off_loop(Ctl(gateway).text, "top", "--once")
    assert "/s" in text and "busy" in text and " %" in text, text
    assert "\033" not in text  # no terminal
    status = await off_loop(Ctl(gateway).json, "top", "--once")
    assert status["state"] == "serving"


def test_top_on_a_terminal_takes_the_screen_and_gives_it_back(gateway):
    terminal = Terminal(Ctl(gateway).command("top"))
    try:
        terminal.await_text("\033[?1049h")
        terminal.await_text("busy")
        terminal.await_text("q ends")
        os.write(terminal.fd, b"q")
        assert terminal.await_end() == 0
        assert terminal.text.rstrip().endswith("\033[?1049l"), terminal.text[-200:]
    finally:
        terminal.discard()


async def test_connections_lists_who_is_there(gateway):
    tenant = await new_tenant(gateway)
    bob = tenant.user("bób 二", device="phone")
    room_id = await tenant.user("alice").new_room("group", bob)
    socket = await bob.connect()
    ctl = Ctl(gateway)
    page = await off_loop(ctl.json, "connections", "--tenant", tenant.tenant_id)
    [item] = page["items"]
    assert set(item) == {"connection_id", "kind", "tenant_id", "user_id", "device", "session_id", "peer", "opened_at",
                         "idle_ms", "rooms", "queued_bytes", "replaying", "core"}
    assert (item["kind"], item["tenant_id"], item["user_id"], item["device"], item["peer"], item["rooms"]) == (
        "websocket", tenant.tenant_id, "bób 二", "phone", "127.0.0.1", 1)
    assert item["session_id"] == socket.welcome["session_id"]
    assert (item["queued_bytes"], item["replaying"]) == (0, False)
    [row] = rows_of(await off_loop(ctl.text, "connections", "--tenant", tenant.tenant_id, "--user", "bób 二"))
    assert row["USER_ID"] == "bób 二" and row["CONNECTION_ID"] == item["connection_id"]
    socket.drop()
    for _ in range(100):
        if not (await off_loop(ctl.json, "connections", "--tenant", tenant.tenant_id))["items"]:
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("a connection that has gone is still listed")
    assert room_id


async def test_all_connections_come_in_pages(gateway_of_each_size):
    gateway = gateway_of_each_size
    tenant = await new_tenant(gateway)
    for index in range(7):
        await tenant.user(f"user {index}").connect()
    operator, seen, params = Operator(gateway), [], {"tenant_id": tenant.tenant_id, "limit": "2"}
    for _ in range(20):
        page = (await operator.call("GET", "/connections", params=params)).ok()
        assert len(page["items"]) <= 2
        seen += [item["user_id"] for item in page["items"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert sorted(seen) == [f"user {index}" for index in range(7)]


# --- kick ---------------------------------------------------------------------------------------------------------------


async def test_kick_closes_a_socket_within_a_second_and_says_why(gateway_of_each_size):
    gateway = gateway_of_each_size
    tenant = await new_tenant(gateway)
    alice, bob = await tenant.user("alice").connect(), await tenant.user("bob").connect()
    ctl = Ctl(gateway)
    page = await off_loop(ctl.json, "connections", "--tenant", tenant.tenant_id, "--user", "alice")
    started = time.monotonic()
    done = await off_loop(ctl.json, "kick", page["items"][0]["connection_id"], "--reason", "go home")
    assert done == {"closed": 1}
    assert await alice.closed() == 4003
    assert time.monotonic() - started < 5  # a second, and patience for a busy machine
    assert alice.websocket.close_reason == "go home"
    assert (await bob.request("ping"))["type"] == "pong"
    assert await off_loop(ctl.json, "kick", page["items"][0]["connection_id"]) == {"closed": 0}


async def test_kick_closes_all_sockets_of_a_user_or_a_tenant(gateway_of_each_size):
    gateway = gateway_of_each_size
    tenant, other = await new_tenant(gateway), await new_tenant(gateway)
    alice = [await tenant.user("alice").connect() for _ in range(4)]
    bob, stranger = await tenant.user("bob").connect(), await other.user("alice").connect()
    ctl = Ctl(gateway)
    assert await off_loop(ctl.json, "kick", "--tenant", tenant.tenant_id, "--user", "alice") == {"closed": 4}
    assert [await socket.closed() for socket in alice] == [4003] * 4
    assert (await bob.request("ping"))["type"] == "pong"
    assert (await Operator(gateway).call("POST", "/kick", {"tenant_id": tenant.tenant_id})).ok() == {"closed": 1}
    assert await bob.closed() == 4003
    assert (await stranger.request("ping"))["type"] == "pong"
    assert (await tenant.user("alice").connect()).welcome  # a kick is no lock


async def test_a_reader_that_takes_nothing_is_kicked_all_the_same(make_gateway):
    gateway = make_gateway(net__send_buffer="16k", limits__send_queue="64k")
    tenant = await new_tenant(gateway)
    alice = tenant.user("alice")
    slow = tenant.user("slow")
    room_id = await alice.new_room("group", slow)
    socket = await slow.connect()
    socket.websocket.transport.pause_reading()
    for _ in range(60):  # far more than its socket and queue hold
        await alice.send(room_id, "x" * 9000)
    ctl = Ctl(gateway)
    [item] = (await off_loop(ctl.json, "connections", "--tenant", tenant.tenant_id, "--user", "slow"))["items"]
    assert item["queued_bytes"] > 0 or item["replaying"], item
    assert await off_loop(ctl.json, "kick", item["connection_id"]) == {"closed": 1}
    assert (await off_loop(ctl.json, "connections", "--tenant", tenant.tenant_id))["items"] == []
    deadline = time.monotonic() + PATIENCE_S  # the close timeout ends what takes no close frame
    while (await Operator(gateway).call("GET", "/status")).ok()["connections"]["websockets"]:
        assert time.monotonic() < deadline, "the kicked socket is still there"
        await asyncio.sleep(0.1)


# --- drain and reload -----------------------------------------------------------------------------------------------------


async def test_drain_tells_clients_answers_what_is_asked_and_ends_the_process(make_gateway):
    gateway = make_gateway(drain__timeout_s="10")
    tenant = await new_tenant(gateway)
    alice = tenant.user("alice")
    room_id = await alice.new_room("group")
    socket = await alice.connect()
    done = asyncio.ensure_future(off_loop(Ctl(gateway).text, "drain", "--wait", "--yes"))
    assert (await socket.expect("server.shutdown"))["reconnect_after_ms"] >= 0
    assert await socket.closed() in (1001, 4201)
    assert "It has ended" in await done
    gateway.await_exit(0)
    gateway.start()
    assert await alice.messages(room_id) == []


async def test_a_draining_gateway_is_not_ready_and_begins_nothing(make_gateway):
    gateway = make_gateway(drain__timeout_s="3")
    tenant = await new_tenant(gateway)
    alice = tenant.user("alice")
    await alice.get("/users/me")
    socket = await alice.connect()
    socket.websocket.transport.pause_reading()  # holds the drain up: it never answers the close
    answer = await Operator(gateway).call("POST", "/drain")
    assert answer.ok(202) == {"draining": True, "timeout_s": 3}
    assert (await call(gateway, "GET", "/ready")).status == 503
    (await alice.post("/rooms", {"type": "group", "name": "late"})).problem(503, code="server.draining")
    (await alice.get("/rooms")).ok()
    assert (await Operator(gateway).call("GET", "/status")).ok()["state"] == "draining"
    assert (await Operator(gateway).call("POST", "/drain")).status == 202  # asked again: nothing new
    gateway.await_exit(0)


async def test_every_send_answered_before_a_drain_is_kept_and_no_answer_is_cut_off(make_gateway):
    gateway = make_gateway(drain__timeout_s="10")
    tenant = await new_tenant(gateway)
    alice = tenant.user("alice")
    room_id = await alice.new_room("group")
    socket = await alice.connect(rooms="none")
    numbers = [await socket.begin("send_message", room_id=room_id, content=f"{index}") for index in range(200)]
    assert (await Operator(gateway).call("POST", "/drain")).status == 202
    await socket.closed()
    answers = {event["re"]: event for event in socket.waiting if event.get("re") in numbers}
    kept = [event for event in answers.values() if event["type"] == "ok"]
    refused = [event for event in answers.values() if event["type"] == "error"]
    assert all(event["code"] == "server.draining" and event["temporary"] for event in refused)
    gateway.await_exit(0)
    gateway.start()
    assert len(await alice.messages(room_id, limit=1000)) == len(kept)


async def test_reload_says_what_is_in_effect_and_what_is_not(make_gateway):
    gateway = make_gateway()
    ctl = Ctl(gateway)
    report = await off_loop(ctl.json, "reload")
    assert report == {"applied": [], "needs_restart": [], "problems": []}
    assert (await Operator(gateway).call("POST", "/reload")).ok() == report
    assert "nothing has changed" in await off_loop(ctl.text, "reload")


async def test_reload_of_a_file_names_each_setting(tmp_path, make_gateway):
    gateway = make_gateway()
    gateway.stop()
    file = tmp_path / "carillon.ini"
    file.write_text("[log]\nlevel = info\n[limits]\nmembers_per_room = 100\n")
    environment_before = os.environ.get("CARILLON_CONFIG")
    gateway._command, command = (lambda: [*command(), "--config", str(file)]), gateway._command
    gateway.start()
    ctl = Ctl(gateway)
    file.write_text("[log]\nlevel = warn\n[limits]\nmembers_per_room = 200\n[store]\ncache = 128m\n")
    report = await off_loop(ctl.json, "reload")
    assert report == {"applied": ["log.level: info -> warn", "limits.members_per_room: 100 -> 200"],
                      "needs_restart": ["store.cache: 256m -> 128m"], "problems": []}
    file.write_text("[log]\nlevel = loud\n")
    done = await off_loop(ctl.run, "reload", code=1)
    assert "log.level" in done.stdout, done
    assert os.environ.get("CARILLON_CONFIG") == environment_before
    assert (await call(gateway, "GET", "/health")).status == 200


# --- notifications, backups ---------------------------------------------------------------------------------------------------


async def test_dead_letters_are_listed_retried_and_deleted(make_gateway):
    gateway = make_gateway(notify__expires="300ms")
    tenant, other = await new_tenant(gateway), await new_tenant(gateway)
    for sender in (tenant.user("al"), other.user("eve")):
        (await sender.post("/notify", {"topic": "news", "payload": "hello", "targets": {"user_ids": ["bob", "carol"]}})).ok(202)
    ctl = Ctl(gateway)

    async def letters(*arguments):
        return rows_of(await off_loop(ctl.text, "dead-letter", "list", *arguments))

    deadline = time.monotonic() + PATIENCE_S
    while len(await letters()) != 4:
        assert time.monotonic() < deadline, await letters()
        await asyncio.sleep(0.1)
    rows = await letters("--tenant", tenant.tenant_id)
    assert sorted(row["USER_ID"] for row in rows) == ["bob", "carol"] and len(await letters("--limit", "3")) == 3
    assert {(row["TENANT_ID"], row["TOPIC"], row["REASON"], row["ATTEMPTS"]) for row in rows} == {
        (tenant.tenant_id, "news", "expired", "0")}
    assert all(row["DEAD_AT"].endswith("Z") and row["NOTIFICATION_ID"].startswith("n_") for row in rows)
    ids = [row["ID"] for row in rows]
    assert (await off_loop(ctl.json, "dead-letter", "retry", ids[0]))["notification_id"] == rows[0]["NOTIFICATION_ID"]
    assert f"dead letter {ids[1]} is deleted" in await off_loop(ctl.text, "dead-letter", "delete", ids[1], "--yes")
    done = await off_loop(ctl.run, "dead-letter", "delete", ids[1], "--yes", code=1)
    assert "dead_letter.not_found" in done.stderr
    assert "tenant.not_found" in (await off_loop(ctl.run, "dead-letter", "list", "--tenant", "t_x", code=1)).stderr


async def test_backups_are_begun_and_listed(make_gateway, tmp_path):
    ctl = Ctl(make_gateway(backup__dir=str(tmp_path / "backups")))
    begun = await off_loop(ctl.json, "backup", "create")
    assert begun["state"] == "running"
    deadline = time.monotonic() + PATIENCE_S
    while (rows := rows_of(await off_loop(ctl.text, "backup", "list")))[0]["STATE"] != "complete":
        assert time.monotonic() < deadline, rows
        await asyncio.sleep(0.1)
    assert [row["BACKUP_ID"] for row in rows] == [begun["backup_id"]] and rows[0]["ERROR"] == "-"
    assert int(rows[0]["FILES"]) > 0 and rows[0]["CREATED_AT"].endswith("Z") and rows[0]["BYTES"] != "-"
    without = Ctl(make_gateway())
    assert "backup.off" in (await off_loop(without.run, "backup", "list", code=1)).stderr
    assert "backup.off" in (await off_loop(without.run, "backup", "create", code=1)).stderr


# --- tenants, keys, users, rooms --------------------------------------------------------------------------------------------


async def test_tenants_and_keys_are_made_shown_and_ended(gateway):
    ctl = Ctl(gateway)
    tenant = await off_loop(ctl.json, "tenant", "create", "Chimes & Co")
    assert tenant["name"] == "Chimes & Co" and tenant["api_key"].startswith("ck_")
    tenant_id = tenant["tenant_id"]
    assert "Chimes & Co" in await off_loop(ctl.text, "tenant", "list")
    assert (await off_loop(ctl.json, "tenant", "show", tenant_id))["state"] == "active"
    assert (await off_loop(ctl.json, "tenant", "disable", tenant_id))["state"] == "disabled"
    assert (await off_loop(ctl.json, "tenant", "enable", tenant_id))["state"] == "active"
    key = await off_loop(ctl.json, "key", "create", tenant_id, "--role", "read")
    assert key["role"] == "read"
    assert key["key_id"] in await off_loop(ctl.text, "key", "list", tenant_id)
    assert "revoked" in await off_loop(ctl.text, "key", "revoke", tenant_id, key["key_id"], "--yes")
    assert key["key_id"] not in await off_loop(ctl.text, "key", "list", tenant_id)
    assert key["key_id"] in await off_loop(ctl.text, "key", "list", tenant_id, "--all")
    assert "deleted" in await off_loop(ctl.text, "tenant", "delete", tenant_id, "--yes")
    done = await off_loop(ctl.run, "tenant", "show", tenant_id, code=1)
    assert "tenant.not_found" in done.stderr


async def test_what_cannot_be_undone_needs_a_yes_where_nobody_can_be_asked(gateway):
    tenant, ctl = await new_tenant(gateway), Ctl(gateway)
    [key] = (await off_loop(ctl.json, "key", "list", tenant.tenant_id))["items"]
    for words in (["tenant", "delete", tenant.tenant_id], ["key", "revoke", tenant.tenant_id, key["key_id"]], ["drain"]):
        for answer in ("", "n\n", "y\n"):
            done = await off_loop(ctl.run, *words, stdin=answer, code=2)
            assert "cannot be undone: say --yes" in done.stderr and not done.stdout, done
    assert (await off_loop(ctl.json, "tenant", "show", tenant.tenant_id))["state"] == "active"
    await tenant.user("alice").get("/users/me")
    assert (await off_loop(ctl.json, "status"))["state"] == "serving"


def test_what_cannot_be_undone_is_asked_for_at_a_terminal(gateway):
    ctl = Ctl(gateway)
    tenant_id = ctl.json("tenant", "create", "asked for")["tenant_id"]
    for answer, code, told in (("n", 1, "nothing was done"), ("y", 0, "is deleted")):
        terminal = Terminal(ctl.command("tenant", "delete", tenant_id))
        try:
            terminal.await_text("Go on? [y/N]")
            terminal.type(answer)
            assert terminal.await_end() == code
            assert told in terminal.text
        finally:
            terminal.discard()


async def test_users_of_a_tenant_are_listed_and_shown_with_rooms_and_connections(gateway):
    tenant, other = await new_tenant(gateway), await new_tenant(gateway)
    names = [f"user {index:02}" for index in range(60)]
    alice = tenant.user(names[0])
    room_id = await alice.new_room("group", *tenant.users(*names[1:]))
    await other.user("stranger").get("/users/me")
    await alice.connect()
    ctl = Ctl(gateway)
    rows = rows_of(await off_loop(ctl.text, "user", "list", tenant.tenant_id))
    assert sorted(row["USER_ID"] for row in rows) == names
    done = await off_loop(ctl.run, "--json", "user", "show", tenant.tenant_id, names[0])
    user, connections = map(json.loads, done.stdout.splitlines())
    assert (user["user_id"], user["num_rooms"]) == (names[0], 1)
    assert user["rooms"] == [{"room_id": room_id, "delivered": 0, "read": 0}]
    assert [item["kind"] for item in connections["items"]] == ["websocket"]
    text = await off_loop(ctl.text, "user", "show", tenant.tenant_id, names[0])
    assert room_id in text and "websocket" in text
    assert "user.not_found" in (await off_loop(ctl.run, "user", "show", tenant.tenant_id, "nobody", code=1)).stderr
    page = await off_loop(ctl.text, "user", "list", tenant.tenant_id)
    assert "nobody" not in page  # asking makes nobody
    operator, of_tenant = Operator(gateway), {"tenant_id": tenant.tenant_id}
    first = (await operator.call("GET", "/users", params={**of_tenant, "limit": "45"})).ok()
    rest = (await operator.call("GET", "/users", params={**of_tenant, "cursor": first["next"]})).ok()
    assert (len(first["items"]), len(rest["items"]), rest["next"]) == (45, 15, None)
    assert (await operator.call("GET", f"/users/{names[0]}", params=of_tenant)).ok() == user


async def test_rooms_and_messages_are_a_members(gateway):
    tenant = await new_tenant(gateway)
    alice = Ctl(gateway).as_member(tenant.user("alice"))
    room = await off_loop(alice.json, "room", "create", "lobby", "--members", "bob,carol", "--private")
    assert room["member_count"] == 3 and room["is_private"]
    room_id = room["room_id"]
    assert (await off_loop(alice.json, "room", "send", room_id, "one"))["seq"] == 1
    assert (await off_loop(alice.json, "message", "send", room_id, "two"))["seq"] == 2
    rows = rows_of(await off_loop(alice.text, "room", "messages", room_id))
    assert [(row["SEQ"], row["CONTENT"]) for row in rows] == [("1", "one"), ("2", "two")]
    page = await off_loop(alice.json, "room", "messages", room_id, "--limit", "1")
    assert [item["content"] for item in page["items"]] == ["two"]
    page = await off_loop(alice.json, "room", "messages", room_id, "--after-seq", "1")
    assert [item["content"] for item in page["items"]] == ["two"]
    assert sorted(row["USER_ID"] for row in rows_of(await off_loop(alice.text, "room", "members", room_id))) == [
        "alice", "bob", "carol"]
    assert (await off_loop(alice.json, "room", "show", room_id))["last_seq"] == 2
    assert room_id in await off_loop(alice.text, "room", "list")


async def test_the_operator_acts_as_a_user_with_a_key_that_ends_with_the_command(gateway):
    tenant, other = await new_tenant(gateway), await new_tenant(gateway)
    room_id = await tenant.user("alice").new_room("group", name="tower")
    ctl = Ctl(gateway, "--as", "alice", "--tenant", tenant.tenant_id)
    [row] = rows_of(await off_loop(ctl.text, "room", "list"))
    assert (row["ROOM_ID"], row["NAME"]) == (room_id, "tower")
    assert (await off_loop(ctl.json, "message", "send", room_id, "one"))["seq"] == 1
    assert "room.not_found" in (await off_loop(ctl.run, "room", "show", "r_0000000000000", code=1)).stderr
    more = {"CARILLON_API_KEY": other.user("mallory").api_key}  # --tenant is the nearer word
    assert room_id in await off_loop(ctl.text, "room", "list", **more)
    keys = (await off_loop(Ctl(gateway).json, "key", "list", tenant.tenant_id))["items"]
    assert sorted(key["state"] for key in keys) == ["active"] + 4 * ["revoked"]
    done = await off_loop(Ctl(gateway, "--as", "alice", "--tenant", "t_0000000000000").run, "room", "list", code=1)
    assert "tenant.not_found" in done.stderr


async def test_health_and_stats_are_plain_figures(gateway):
    ctl = Ctl(gateway)
    assert (await off_loop(ctl.json, "health"))["status"] == "ok"
    assert (await off_loop(ctl.json, "stats"))["cores"] == gateway.cores
    assert "messages" in await off_loop(ctl.text, "stats")
    text = await off_loop(ctl.text, "health")
    assert re.search(r"^checks\.store +ok$", text, re.M) and "{" not in text, text


async def test_the_operator_comes_over_the_network_too(gateway):
    url = f"http://{gateway.host}:{gateway.port}"
    done = subprocess.run([str(CTL), "--url", url, "--master-key", gateway.master_key, "--json", "status"],
                          capture_output=True, text=True, timeout=PATIENCE_S, env=environment(), check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["state"] == "serving"
    done = subprocess.run([str(CTL), "--url", url, "status"], capture_output=True, text=True, timeout=PATIENCE_S,
                          env=environment(), check=False)
    assert done.returncode == 2 and "--master-key" in done.stderr
    done = subprocess.run([str(CTL), "--url", url, "status"], capture_output=True, text=True, timeout=PATIENCE_S,
                          env=environment(CARILLON_ADMIN_MASTER_KEY="wrong"), check=False)
    assert done.returncode == 1 and "auth.invalid_master_key" in done.stderr
    assert "Is admin.master_key set" in done.stderr


# --- mistakes ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, said", [
    (["conections"], "did you mean 'connections'"),
    (["tenant", "lst"], "did you mean 'tenant list'"),
    (["tenant"], "takes one of: list create"),
    (["tenant", "show"], "tenant show needs more; usage: carillonctl tenant show TENANT\n"),
    (["status", "extra"], "status does not take 'extra'; usage: carillonctl status\n"),
    (["tenant", "list", "--limit", "5"], "does not take --limit"),
    (["connections", "--user", "bob"], "--user needs --tenant"),
    (["connections", "--limit", "many"], "takes a number"),
    (["room", "list"], "give --as USER"),
    (["room", "list", "--as", "alice"], "or --tenant TENANT"),
    (["chat", "r_0", "--key", "ck_0"], "give --as USER"),
    (["chat", "r_0", "--as", "alice"], "or --tenant TENANT"),
    (["chat", "r_0", "--as", "alice", "--key", "ck_0", "--tenant", "t_0"], "not both"),
    (["--socket", "", "status"], "1 to 107 bytes"),
    (["--url", "ftp://x", "status"], "http://HOST:PORT"),
    (["--no-such-option"], "carillonctl: there is no option --no-such-option\nTry `carillonctl --help`."),
    (["--lisen", "status"], "there is no option --lisen"),
    (["--tenat=t", "connections"], "there is no option --tenat; did you mean --tenant?"),
    (["-x", "status"], "there is no option -x"),
    (["status", "--json=1"], "--json takes no value"),
    (["status", "--url"], "--url needs a value"),
    ([], "usage: carillonctl"),
])
def test_a_mistake_is_exit_code_2_and_says_what_would_be_right(arguments, said):
    done = subprocess.run([str(CTL), *arguments], capture_output=True, text=True, timeout=PATIENCE_S, env=environment(),
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 2 and said in done.stderr, done


def test_no_gateway_is_exit_code_1_and_says_what_to_do(tmp_path):
    done = subprocess.run([str(CTL), "--socket", str(tmp_path / "admin.sock"), "status"], capture_output=True, text=True,
                          timeout=PATIENCE_S, env=environment(), check=False)
    assert done.returncode == 1 and "carillon serve" in done.stderr, done
    done = subprocess.run([str(CTL), "--url", "http://127.0.0.1:1", "--master-key", "k", "top", "--once"],
                          capture_output=True, text=True, timeout=PATIENCE_S, env=environment(), check=False)
    assert done.returncode == 1 and "127.0.0.1:1: Connection refused" in done.stderr, done


def test_the_socket_is_named_by_its_settings_variable(gateway, tmp_path):
    def run(*arguments, **more):
        return subprocess.run([str(CTL), *arguments], capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                              env=environment(**more), cwd=tmp_path)
    socket = str(gateway.admin_socket)
    assert run("health", CARILLON_ADMIN_SOCKET=socket).returncode == 0
    done = run("health")  # neither here, nor a service's: some other one would be a guess
    assert done.returncode == 1 and "CARILLON_ADMIN_SOCKET" in done.stderr, done
    assert run("--socket", socket, "health", CARILLON_ADMIN_SOCKET="/nowhere").returncode == 0
    assert run("health", CARILLON_ADMIN_SOCKET="x" * 200).returncode == 2
    (tmp_path / "carillon-data").mkdir()
    (tmp_path / "carillon-data" / "admin.sock").symlink_to(socket)
    assert run("health").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_socket_of_somebody_else_is_told_as_that(gateway, tmp_path):
    tmp_path.chmod(0o755)
    home = tmp_path / "closed"
    home.mkdir(mode=0o700)
    (home / "admin.sock").symlink_to(gateway.admin_socket)
    (tmp_path / "carillonctl").write_bytes(CTL.read_bytes())
    (tmp_path / "carillonctl").chmod(0o755)
    for socket in (home / "admin.sock", gateway.admin_socket):  # the directory's lock, and the socket's own or a parent's
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/proc/self/fd/0", "--socket",
                   str(socket), "status"]
        with open(tmp_path / "carillonctl", "rb") as program:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
                                  env=environment(), stdin=program)
        assert done.returncode == 1 and "belongs to another user" in done.stderr, done
        assert "start the gateway" not in done.stderr


def test_every_command_teaches_itself():
    everything = subprocess.run([str(CTL), "--help"], capture_output=True, text=True, timeout=PATIENCE_S,
                                env=environment(), check=True).stdout
    commands = [line.split("  ")[1].strip() for line in everything.split("\n\n")[2].splitlines()]
    assert len(commands) > 25
    for usage in commands:
        words = [word for word in usage.split() if word.islower() and not word.startswith("[")]
        shown = subprocess.run([str(CTL), *words, "--help"], capture_output=True, text=True, timeout=PATIENCE_S,
                               env=environment(), check=True).stdout
        assert shown.startswith(f"usage: carillonctl [OPTION]… {' '.join(words)}"), shown
        assert "options:\n" in shown and re.search("examples?:\n  .*carillonctl", shown), shown


async def test_colours_are_for_terminals_only(gateway):
    ctl = Ctl(gateway)
    assert "\033" not in await off_loop(ctl.text, "tenant", "list")
    for more, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        terminal = Terminal(ctl.command("tenant", "list"), **more)
        try:
            assert await off_loop(terminal.await_end) == 0
            assert ("\033[1m" in terminal.text) == coloured, terminal.text[:200]
        finally:
            terminal.discard()


def test_text_of_others_cannot_steer_the_terminal(gateway):
    ctl = Ctl(gateway)
    ctl.run("tenant", "create", "evil\033[2Jname\n")
    listed = ctl.text("tenant", "list")
    assert "\033" not in listed and "\\x1b[2Jname\\n" in listed


# --- servers that are not what they should be ----------------------------------------------------------------------------------


class Impostor:
    """Answers every request on a port of its own; `answer` gives the body for a method, None closes the connection."""

    def __init__(self, answer):
        self.answer, self.listener = answer, sockets.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        if self.listener.fileno() >= 0:
            self.listener.shutdown(sockets.SHUT_RDWR)  # wakes who waits in accept
            self.listener.close()

    def run(self, *arguments):
        return subprocess.run(self.command(*arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=PATIENCE_S, env=environment(CARILLON_ADMIN_MASTER_KEY="k" * 20), check=False)

    def command(self, *arguments):
        return [str(CTL), "--url", self.url, *arguments]

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                body = self.answer(connection.recv(65536).split(b" ")[0])
                if body is not None:
                    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" %
                                       (len(body), body))


@pytest.mark.parametrize("arguments", [["health"], ["--json", "health"], ["--json", "tenant", "create", "x"],
                                       ["--json", "tenant", "list"], ["--json", "status"]])
@pytest.mark.parametrize("body", [b"<html>\x1b[31mlog in</html>", b""])
def test_a_page_of_something_in_between_is_no_answer(arguments, body):
    with Impostor(lambda method: body) as impostor:
        done = impostor.run(*arguments)
    assert (done.returncode, done.stdout) == (1, "") and done.stderr.startswith("carillonctl: "), done


def test_health_is_good_only_when_the_gateway_says_so():
    with Impostor(lambda method: b'{"some":"thing"}') as impostor:
        assert impostor.run("health").returncode == 1


@pytest.mark.parametrize("command", ["health", "status"])
def test_a_server_cannot_write_to_the_terminal_of_who_asks(command):
    hostile = rb'"\u001b]0;x\u0007\u009b31m"'
    body = b'{"status":"ok",%s:%s,"version":%s,"state":%s,"durability":%s}' % ((hostile,) * 5)
    with Impostor(lambda method: body) as impostor:
        done = impostor.run(command)
    assert done.returncode == 0 and "\\x1b" in done.stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout), done.stdout


def test_a_drain_is_over_only_when_nobody_takes_connections():
    draining = b'{"draining":true,"timeout_s":1}'
    with Impostor(lambda method: draining if method == b"POST" else None) as impostor:
        waiting = subprocess.Popen(impostor.command("drain", "--wait", "--yes"), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, text=True, env=environment(CARILLON_ADMIN_MASTER_KEY="k" * 20))
        time.sleep(1.5)  # a server that takes connections and says nothing may be a gateway that is held up
        assert waiting.poll() is None
        impostor.end()
        said, _ = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 0 and "It has ended." in said


# --- chat ---------------------------------------------------------------------------------------------------------------------


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, **more):
        self.fd, other = pty.openpty()
        self.process = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, env=environment(**more),
                                        start_new_session=True)
        os.close(other)
        self.text = ""
        self._bytes = b""

    def type(self, line):
        os.write(self.fd, line.encode() + b"\n")

    def await_text(self, wanted, count=1):
        deadline = time.monotonic() + PATIENCE_S
        while self.text.count(wanted) < count:
            assert self._read(deadline), f"{wanted!r} did not come:\n{self.text}"

    def await_end(self):
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self, deadline):
        ready, _, _ = select.select([self.fd], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            got = os.read(self.fd, 65536)
        except OSError:  # EIO: the other side is closed
            return False
        self._bytes += got
        self.text = self._bytes.decode(errors="replace")
        return bool(got)

    def discard(self):
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


class Pipe:
    """A program with pipes for its input and output."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, env=environment())
        self.fd = self.process.stdout.fileno()
        self.text = ""
        self._bytes = b""

    def type(self, line):
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def end_input(self):
        self.process.stdin.close()

    await_text, await_end, _read = Terminal.await_text, Terminal.await_end, Terminal._read

    def discard(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        if not self.process.stdin.closed:
            self.process.stdin.close()


@pytest.fixture
def programs():
    """A list for what a test starts; whatever still runs is ended."""
    started = []
    yield started
    for program in started:
        program.discard()


async def room_for_two(gateway):
    tenant = await new_tenant(gateway)
    alice, bob = tenant.users("alice", "bob")
    return tenant, await alice.new_room("group", bob), alice, bob


def chat(programs, kind, ctl, *arguments):
    program = kind(ctl.command("chat", *arguments))
    programs.append(program)
    return program


async def test_two_people_chat_through_a_killed_gateway(make_gateway, programs):
    gateway = make_gateway()
    tenant, room_id, alice, bob = await room_for_two(gateway)
    gateway.stop()  # and again on the same port, so that it can come back where the chats look for it
    port, command = gateway.port, gateway._command
    gateway._command = lambda: [f"127.0.0.1:{port}" if word == "127.0.0.1:0" else word for word in command()]
    gateway.start()
    ctl = Ctl(gateway)
    at_terminal = chat(programs, Terminal, ctl.as_member(alice), room_id)
    in_pipe = chat(programs, Pipe, ctl, room_id, "--as", "bob", "--tenant", tenant.tenant_id)
    for program in (at_terminal, in_pipe):
        await off_loop(program.await_text, "-- connected as")
    at_terminal.type("hello, bób")
    await off_loop(in_pipe.await_text, "#1 alice: hello, bób")
    in_pipe.type("hello, alice")
    await off_loop(at_terminal.await_text, "hello, alice")
    gateway.kill()
    for program in (at_terminal, in_pipe):
        await off_loop(program.await_text, "not connected any more")
    at_terminal.type("said while it was away")
    in_pipe.type("me too")
    await asyncio.sleep(0.5)
    gateway.start()
    for program in (at_terminal, in_pipe):
        await off_loop(program.await_text, "-- connected again")
        await off_loop(program.await_text, "me too")
    await off_loop(in_pipe.await_text, "said while it was away")
    await off_loop(at_terminal.await_text, "said while it was away", 2)  # as typed, and as said
    contents = [message["content"] for message in await alice.messages(room_id)]
    assert contents[:2] == ["hello, bób", "hello, alice"]
    assert sorted(contents[2:]) == ["me too", "said while it was away"]  # each once
    for seq in (1, 2, 3, 4):
        assert in_pipe.text.count(f"#{seq} ") == 1, in_pipe.text
    in_pipe.end_input()
    at_terminal.type("/quit")
    assert await off_loop(in_pipe.await_end) == 0
    assert await off_loop(at_terminal.await_end) == 0


async def test_a_chat_shows_history_who_is_there_and_who_comes(gateway, programs):
    tenant, room_id, alice, bob = await room_for_two(gateway)
    await alice.send_many(room_id, [f"old {index}" for index in range(30)])
    program = chat(programs, Pipe, Ctl(gateway).as_member(bob), room_id)
    await off_loop(program.await_text, "#30 alice: old 29")
    assert "old 9\n" not in program.text and "#11 alice: old 10" in program.text  # the last twenty
    program.type("/history 3")
    await off_loop(program.await_text, "old 29", 2)
    assert program.text.count("old 27") == 2 and program.text.count("old 26") == 1
    program.type("/who")
    await off_loop(program.await_text, "USER_ID")
    await alice.add_members(room_id, tenant.user("carol"))
    await off_loop(program.await_text, "carol joined")
    program.type("/no-such-thing")
    await off_loop(program.await_text, "there is no command /no-such-thing")
    program.type("//slashed")
    await off_loop(program.await_text, "bob: /slashed")
    program.type("/quit")
    assert await off_loop(program.await_end) == 0


async def test_a_chat_moves_no_cursor_and_leaves_no_key_behind(gateway):
    tenant, room_id, alice, bob = await room_for_two(gateway)
    await alice.send(room_id, "unread")
    done = await off_loop(Ctl(gateway).run, "chat", room_id, "--as", "bob", "--tenant", tenant.tenant_id, stdin="hi\n")
    assert "bob" in done.stdout
    [room] = (await bob.get("/rooms")).ok()["items"]
    assert (room["delivered"], room["read"], room["last_seq"]) == (0, 0, 2)
    keys = (await Operator(gateway).call("GET", f"/tenants/{tenant.tenant_id}/keys")).ok()["items"]
    assert sorted(key["state"] for key in keys) == ["active", "revoked"]


async def test_many_lines_in_a_pipe_arrive_once_and_in_order(gateway):
    tenant, room_id, alice, bob = await room_for_two(gateway)
    lines = [f"line {index}" for index in range(200)]
    done = await off_loop(Ctl(gateway).as_member(alice).run, "chat", room_id, stdin="\n".join(lines))
    assert done.returncode == 0
    assert [message["content"] for message in await bob.messages(room_id, limit=1000)] == lines


async def test_a_quiet_chat_says_only_what_went_wrong(gateway):
    tenant, room_id, alice, bob = await room_for_two(gateway)
    await bob.send_many(room_id, ["old", "older"])
    ctl = Ctl(gateway).as_member(alice)
    done = await off_loop(ctl.run, "chat", room_id, "--quiet", stdin="one\ntwo\n")
    assert (done.stdout, done.stderr) == ("", "")
    assert [message["content"] for message in await bob.messages(room_id)] == ["old", "older", "one", "two"]
    done = await off_loop(ctl.run, "chat", room_id, "--quiet", stdin="x" * 20000 + "\nthree\n", code=1)
    assert done.stdout == "" and "not sent" in done.stderr, done
    assert [message["content"] for message in await bob.messages(room_id)][4:] == ["three"]


async def test_what_a_pipe_asks_is_answered_behind_the_connection(gateway):
    tenant, room_id, alice, bob = await room_for_two(gateway)
    text = await off_loop(Ctl(gateway).as_member(alice).text, "chat", room_id, stdin="/who\n/history\n")
    assert text.index("-- connected as alice") < text.index("USER_ID"), text


async def test_chat_json_is_the_frames_as_they_came(gateway):
    tenant, room_id, alice, bob = await room_for_two(gateway)
    await bob.send(room_id, "hello")
    done = await off_loop(Ctl(gateway).as_member(alice).run, "--json", "chat", room_id, stdin="hi\n")
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert [frame["type"] for frame in frames[:2]] == ["welcome", "resumed"]
    assert "hello" in [frame.get("content") for frame in frames]
    assert any(frame["type"] == "ok" for frame in frames)


async def test_a_kick_is_counted_as_the_servers(gateway):
    bob = (await new_tenant(gateway)).user("bob")
    socket = await bob.connect()
    before = await metric(gateway, "carillon_connections_closed_total", reason="server")
    await off_loop(Ctl(gateway).run, "kick", "--tenant", bob.tenant.tenant_id)
    assert await socket.closed() == 4003
    await metric_reaches(gateway, "carillon_connections_closed_total", before + 1, reason="server")


async def test_a_kicked_chat_does_not_come_back(gateway, programs):
    tenant, room_id, alice, bob = await room_for_two(gateway)
    program = chat(programs, Pipe, Ctl(gateway).as_member(bob), room_id)
    await off_loop(program.await_text, "-- connected as")
    await off_loop(Ctl(gateway).run, "kick", "--tenant", tenant.tenant_id, "--reason", "enough")
    await off_loop(program.await_text, "4003: enough")
    assert await off_loop(program.await_end) == 1


async def test_a_chat_that_is_too_fast_at_first_comes_again(make_gateway):
    gateway = make_gateway(limits__tenant_rate=2)  # a look at the room, an upgrade: the hello is one too many
    bob = (await new_tenant(gateway)).user("bob")
    room_id = await bob.new_room("group")
    await asyncio.sleep(1)
    await off_loop(Ctl(gateway).as_member(bob).run, "chat", room_id, stdin="hi\n")
    await asyncio.sleep(1)
    page = (await bob.get(f"/rooms/{room_id}/messages")).ok()
    assert [message["content"] for message in page["items"]] == ["hi"]


async def test_a_chat_that_cannot_begin_says_why(gateway):
    tenant, room_id, alice, bob = await room_for_two(gateway)
    ctl = Ctl(gateway)
    done = await off_loop(ctl.run, "chat", room_id, "--as", "bob", code=2)
    assert "--tenant TENANT" in done.stderr
    done = await off_loop(ctl.as_member(tenant.user("mallory")).run, "chat", room_id, code=1)
    assert "room.not_member" in done.stderr
    done = await off_loop(ctl.run, "chat", room_id, "--as", "bob", "--key", "ck_" + secrets.token_hex(20), code=1)
    assert "auth.invalid_key" in done.stderr
