"""What the gateway tells its operator while it runs: log lines, and what a reload changes."""

import asyncio
import json
import signal
import subprocess
import time

import pytest

import recorder
from client import Operator, call, current_resources, metric, new_tenant
from gateway import Gateway, ready_address
from wire import HttpWire

WAIT_S = 20.0
SECRET = "do-not-log-me"


def lines_of(gateway, path=None):
    text = (path or gateway.log_path).read_text() if (path or gateway.log_path).exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


async def awaited(gateway, path=None, count=1, **fields):
    """Waits for `count` lines with those fields and returns them: lines are written a moment after what they tell."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = [line for line in lines_of(gateway, path) if all(line.get(name) == value for name, value in fields.items())]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, f"{fields}: {found}\n{gateway.log_tail()}"
        await asyncio.sleep(0.02)


class Configured(Gateway):
    """A gateway with a file of settings that a test rewrites."""

    def __init__(self, text, **settings):
        super().__init__(settings=settings)
        del self.settings["drain.timeout_s"]
        self.config_path = self.directory / "carillon.ini"
        self.configure(text)
        current_resources().callback(self.discard)
        self.start()

    def configure(self, text):
        self.config_path.write_text(text)

    async def reload(self, event="reload"):
        """SIGHUP; returns the line that says what came of it."""
        before = len([line for line in lines_of(self) if line["event"] == event])
        self.process.send_signal(signal.SIGHUP)
        return (await awaited(self, count=before + 1, event=event))[-1]


# --- requests -----------------------------------------------------------------------------------------------------


async def test_each_request_has_a_line_without_secrets(make_gateway):
    gateway = make_gateway(log__access="all")
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    sent = (await alice.post(f"/rooms/{room_id}/messages", {"content": SECRET}, params={"token": SECRET})).ok(201)
    assert sent["seq"] == 1
    refused = (await call(gateway, "GET", "/v1/rooms", {"X-API-Key": SECRET})).problem(401)
    (line,) = await awaited(gateway, scope="access", event="request", route="/rooms/:room/messages")
    assert (line["method"], line["status"], line["path"]) == ("POST", 201, f"/v1/rooms/{room_id}/messages")
    assert (line["tenant"], line["user"], line["peer"]) == (alice.tenant.tenant_id, "alice", "127.0.0.1")
    assert line["bytes"] > 0 and line["duration_us"] > 0 and len(line["request_id"]) == 16
    (line,) = await awaited(gateway, scope="access", status=401)
    assert (line["code"], line["request_id"]) == ("auth.invalid_key", refused["request_id"])
    assert "user" not in line and "tenant" not in line
    text = gateway.log_text()
    assert SECRET not in text and alice.tenant.api_key not in text


async def test_what_never_became_a_request_has_a_line_and_a_count(make_gateway):
    gateway = make_gateway(log__access="errors")
    wire = await HttpWire.open(gateway)
    await wire.send("GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n")
    assert (await wire.answer()).status == 400
    (line,) = await awaited(gateway, scope="access", event="refused")
    assert (line["status"], line["code"], line["peer"]) == (400, "http.header", "127.0.0.1")
    assert await metric(gateway, "carillon_errors_total", code="http.header") == 1


async def test_only_failures_are_told_when_only_they_are_wanted(make_gateway):
    gateway = make_gateway(log__access="errors")
    (await call(gateway, "GET", "/health")).ok()
    (await call(gateway, "GET", "/v1/rooms")).problem(401)
    (await call(gateway, "GET", "/v1/nowhere")).problem(404)
    await awaited(gateway, scope="access", status=404)
    assert [line["status"] for line in lines_of(gateway) if line["scope"] == "access"] == [401, 404]


async def test_no_request_is_told_unless_asked_for(make_gateway):
    gateway = make_gateway()
    (await call(gateway, "GET", "/v1/rooms")).problem(401)
    gateway.stop()
    assert not [line for line in lines_of(gateway) if line["scope"] == "access"]


async def test_sockets_have_a_line_when_they_open_and_when_they_close(make_gateway):
    gateway = make_gateway(log__access="all")
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    socket = await alice.connect(device="phone")
    await alice.send(room_id, "x")
    await socket.expect("message")
    await socket.close()
    (opened,) = await awaited(gateway, event="websocket_open")
    assert (opened["status"], opened["route"], opened["user"]) == (101, "/ws", "alice")
    (closed,) = await awaited(gateway, event="websocket_close")
    assert (closed["code"], closed["reason"], closed["user"], closed["device"]) == (1000, "peer", "alice", "phone")
    assert closed["messages_in"] >= 1 and closed["frames_out"] >= 2 and closed["duration_ms"] >= 0
    other = await alice.connect()
    await asyncio.to_thread(gateway.stop)
    (closed,) = [line for line in lines_of(gateway) if line["event"] == "websocket_close" and line["code"] == 1001]
    assert closed["reason"] == "server"
    other.drop()


async def test_a_client_that_leaves_before_its_answer_is_told_as_such(make_gateway):
    gateway = make_gateway(log__access="all")
    alice = (await new_tenant(gateway)).user("alice")
    members = [f"user-{number}" for number in range(1000)]
    body = json.dumps({"type": "group", "members": members}).encode()
    for _ in range(5):
        wire = await HttpWire.open(gateway)
        await wire.request("POST", "/v1/rooms", {**alice.headers, "Content-Type": "application/json"}, body)
        wire.drop()
    lines = await awaited(gateway, count=5, route="/rooms", method="POST")
    assert {line["status"] for line in lines} <= {201, 499}


# --- acts ---------------------------------------------------------------------------------------------------------


async def test_the_operators_acts_are_always_told(make_gateway):
    gateway = make_gateway()
    operator = Operator(gateway)
    tenant = await operator.new_tenant("one")
    key = await operator.new_key(tenant, "read")
    (await operator.call("DELETE", f"/tenants/{tenant.tenant_id}/keys/{key['key_id']}")).succeeded()
    (await operator.call("PATCH", f"/tenants/{tenant.tenant_id}", {"state": "disabled"})).ok()
    (await operator.call("PATCH", f"/tenants/{tenant.tenant_id}", {"state": "asleep"})).problem(400)
    (await operator.call("GET", "/tenants")).ok()
    (await call(gateway, "GET", "/v1/admin/tenants", {"X-Master-Key": SECRET})).problem(401)
    await awaited(gateway, event="operator_refused")
    acts = [line for line in lines_of(gateway) if line["scope"] == "action"]
    assert [(line["event"], line.get("outcome")) for line in acts] == [
        ("tenant_create", "ok"), ("key_create", "ok"), ("key_revoke", "ok"), ("tenant_update", "ok"),
        ("tenant_update", "field.invalid"), ("operator_refused", None)]
    assert acts[3]["change"] == "state=disabled"
    assert all(line["by"] == "operator" and line["peer"] == "127.0.0.1" for line in acts[:5])
    assert all(line["tenant"] == tenant.tenant_id for line in acts[:4])
    assert acts[1]["key"] == acts[2]["key"] == key["key_id"]
    assert SECRET not in gateway.log_text() and key["api_key"] not in gateway.log_text()


async def test_a_kick_is_told_with_whom_it_hit(make_gateway):
    gateway = make_gateway()
    operator = Operator(gateway)
    tenant = await operator.new_tenant("one")
    socket = await tenant.user("alice").connect()
    [item] = (await operator.call("GET", "/connections", params={"tenant_id": tenant.tenant_id})).ok()["items"]
    named = {"connection_id": item["connection_id"], "reason": "go home"}
    assert (await operator.call("POST", "/kick", named)).ok() == {"closed": 1}
    assert await socket.closed() == 4003
    await tenant.user("bob").connect()
    assert (await operator.call("POST", "/kick", {"tenant_id": tenant.tenant_id})).ok() == {"closed": 1}
    assert (await operator.call("POST", "/kick", {"tenant_id": tenant.tenant_id, "user_id": "bob"})).ok() == {"closed": 0}
    assert (await operator.call("POST", "/kick", named)).ok() == {"closed": 0}
    lines = await awaited(gateway, count=4, scope="action", event="kick")
    shown = [[line.get(name) for name in ("tenant", "users", "connection", "closed", "reason")] for line in lines]
    whose, by_default = [tenant.tenant_id, "alice", item["connection_id"]], "closed by the operator"
    assert shown == [[*whose, 1, "go home"], [tenant.tenant_id, None, None, 1, by_default],
                     [tenant.tenant_id, "bob", None, 0, by_default], [None, None, item["connection_id"], 0, "go home"]]
    assert '"scope":"admin"' not in gateway.log_text()


async def test_who_did_what_to_whom(make_gateway):
    gateway = make_gateway(log__actions="all")
    alice, bob, carol = (await new_tenant(gateway)).users("alice", "bob", "carol")
    room_id = await alice.new_room("group", bob)
    (await alice.post(f"/rooms/{room_id}/members", {"members": ["carol"]})).ok()
    (await alice.call("PATCH", f"/rooms/{room_id}/members/bob", {"role": "admin"})).succeeded()
    (await carol.call("DELETE", f"/rooms/{room_id}/members/bob")).problem(403)
    (await bob.call("DELETE", f"/rooms/{room_id}/members/carol")).succeeded()
    (await bob.post(f"/rooms/{room_id}/leave")).succeeded()
    await alice.send(room_id, SECRET)
    socket = await alice.connect()
    head = (await socket.ok("send_message", room_id=room_id, content=SECRET))["seq"]
    await awaited(gateway, count=2, event="message_send")
    acts = [line for line in lines_of(gateway) if line["scope"] == "action" and line["by"] != "operator"]
    assert [(line["event"], line["user"], line.get("users"), line["outcome"]) for line in acts] == [
        ("room_create", "alice", "bob", "ok"), ("member_add", "alice", "carol", "ok"),
        ("member_role", "alice", "bob", "ok"), ("member_remove", "carol", "bob", "room.not_admin"),
        ("member_remove", "bob", "carol", "ok"), ("room_leave", "bob", None, "ok"),
        ("message_send", "alice", None, "ok"), ("message_send", "alice", None, "ok")]
    assert {line["room"] for line in acts} == {room_id}
    assert [line["by"] for line in acts[-2:]] == ["user", "socket"] and acts[-1]["seq"] == head
    assert SECRET not in gateway.log_text()


# --- where lines go -----------------------------------------------------------------------------------------------


class Unread(Gateway):
    """A gateway whose stderr is a pipe that nobody reads once it has said that it serves."""

    def start(self):
        self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, env=self._environment())
        for line in self.process.stderr:
            if ready_address(line):
                self.host, self.port = ready_address(line)
                return self
        raise AssertionError("it ended before it was ready")


async def test_a_reader_of_stderr_that_stops_reading_stops_nobody():
    gateway = Unread(settings={"log.access": "all"})
    current_resources().callback(gateway.discard)
    gateway.start()
    path = "/v1/" + "x" * 480
    for _ in range(2500):  # 600 bytes a line: the pipe's 64 KiB and the queue's 1 MiB overflow
        (await call(gateway, "GET", path)).problem(404)
    alice = (await new_tenant(gateway)).user("alice")
    await alice.send(await alice.new_room("group"), "still here")
    assert await metric(gateway, "carillon_log_lines_total", outcome="queue_full") > 100
    started = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(WAIT_S) == 0
    assert time.monotonic() - started < 10


async def test_the_log_file_is_opened_anew_after_a_rotation():
    gateway = Configured("")
    path, moved = gateway.directory / "carillon.log", gateway.directory / "carillon.log.1"
    gateway.configure(f"[log]\nfile = {path}\naccess = all\n")
    gateway.process.send_signal(signal.SIGHUP)
    await awaited(gateway, path, event="reload")
    (await call(gateway, "GET", "/health")).ok()
    await awaited(gateway, path, event="request", route="/health")
    assert not [line for line in lines_of(gateway) if line["event"] == "request"], "nothing more on stderr"
    recorder.exercised("setting", "log.file")
    assert path.stat().st_mode & 0o777 == 0o600
    path.rename(moved)
    gateway.process.send_signal(signal.SIGHUP)
    await awaited(gateway, path, event="reload")
    (await call(gateway, "GET", "/ready")).ok()
    await awaited(gateway, path, event="request", route="/ready")
    gateway.stop()
    assert lines_of(gateway, path)[-1]["event"] == "stopped"
    assert not [line for line in lines_of(gateway, moved) if line.get("route") == "/ready"]


async def test_scopes_have_levels_of_their_own(make_gateway):
    gateway = make_gateway(log__level="error", log__scopes="process=info")
    assert {line["scope"] for line in lines_of(gateway)} <= {"process"}


# --- reload -------------------------------------------------------------------------------------------------------


async def test_a_reload_applies_what_it_can_and_names_what_it_cannot():
    gateway = Configured("[limits]\nmembers_per_room = 3\n[store]\ncache = 64m\n")
    alice, *others = (await new_tenant(gateway)).users("alice", "bob", "carol", "dave")
    (await alice.post("/rooms", {"type": "group", "members": ["bob", "carol", "dave"]})).problem(409, code="room.full")
    gateway.configure("[limits]\nmembers_per_room = 4\n[store]\ncache = 32m\n")
    assert (await gateway.reload())["restart_needed"] is True
    (applied,) = await awaited(gateway, event="setting_applied")
    assert (applied["setting"], applied["change"]) == ("limits.members_per_room", "3 -> 4")
    (left,) = await awaited(gateway, event="restart_needed")
    assert (left["setting"], left["change"]) == ("store.cache", "64m -> 32m")
    (await alice.post("/rooms", {"type": "group", "members": ["bob", "carol", "dave"]})).ok(201)
    # what needs a restart is said again each time; what was applied is not
    assert (await gateway.reload())["changed"] is False
    assert len(await awaited(gateway, count=2, event="restart_needed")) == 2
    assert len(await awaited(gateway, event="setting_applied")) == 1


@pytest.mark.parametrize("text, why", [
    ("[limits]\nmembers_per_room = 4\n[log]\nlevel = loud\n", ":4: log.level must be one of"),
    ("[limits]\nmembers_per_room = 4\nsend_qeue = 2m\n", ":3: there is no setting limits.send_qeue; did you mean limits.send_queue?"),
    ("[limits]\nmembers_per_room = 4\n[log]\nfile = /no/such/place\n", "log.file: /no/such/place cannot be opened"),
    ("[limits]\nmembers_per_room = 4\n[net]\nping_interval = 2h\n", "net.ping_interval must be shorter"),
])
async def test_a_wrong_setting_changes_nothing_and_is_named(text, why):
    gateway = Configured("[limits]\nmembers_per_room = 3\n")
    gateway.configure(text)
    assert why in (await gateway.reload("reload_failed"))["why"]
    alice = (await new_tenant(gateway)).user("alice")
    (await alice.post("/rooms", {"type": "group", "members": ["a", "b", "c"]})).problem(409, code="room.full")
    assert not [line for line in lines_of(gateway) if line["event"] == "setting_applied"]


async def test_log_lines_can_be_switched_on_and_off_while_serving():
    gateway = Configured("")
    (await call(gateway, "GET", "/health")).ok()
    gateway.configure("[log]\naccess = all\n")
    await gateway.reload()
    (await call(gateway, "GET", "/ready")).ok()
    await awaited(gateway, event="request", route="/ready")
    gateway.configure("[log]\naccess = off\n")
    await gateway.reload()
    (await call(gateway, "GET", "/health")).ok()
    gateway.stop()
    assert [line["route"] for line in lines_of(gateway) if line["event"] == "request"] == ["/ready"]
