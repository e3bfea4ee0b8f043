"""docs/MIGRATING.md: a database of ChatAPI v0.1 is exported and imported by tools/migrate/chatapi."""

import json
import os
import sqlite3
import stat
import subprocess

import pytest

from client import Operator, User
from gateway import REPOSITORY

TOOL = REPOSITORY / "tools" / "migrate" / "chatapi"
SCHEMA = """
CREATE TABLE tenants (tenant_id TEXT PRIMARY KEY, api_key TEXT UNIQUE NOT NULL, name TEXT, config JSON,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE rooms (room_id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, type TEXT NOT NULL, unique_key TEXT NULL,
  name TEXT NULL, last_seq INTEGER DEFAULT 0, created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE room_members (chatroom_id TEXT NOT NULL, tenant_id TEXT NOT NULL, user_id TEXT NOT NULL,
  role TEXT DEFAULT 'member', joined_at DATETIME DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY(chatroom_id, user_id));
CREATE TABLE messages (message_id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, chatroom_id TEXT NOT NULL,
  sender_id TEXT NOT NULL, seq INTEGER NOT NULL, content TEXT NOT NULL, meta JSON NULL,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE delivery_state (tenant_id TEXT NOT NULL, user_id TEXT NOT NULL, chatroom_id TEXT NOT NULL,
  last_ack INTEGER DEFAULT 0, updated_at DATETIME DEFAULT CURRENT_TIMESTAMP,
  PRIMARY KEY (tenant_id, user_id, chatroom_id));
"""


class ChatApi:
    """A database as ChatAPI v0.1 has it."""

    def __init__(self, path):
        self.path, self.database, self.times = path, sqlite3.connect(path), 0
        self.database.executescript(SCHEMA)

    def add(self, table, *values):
        self.database.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(values))})", values)
        self.database.commit()

    def time(self):
        self.times += 1
        return f"2025-01-02 03:{self.times // 60:02}:{self.times % 60:02}"

    def room(self, tenant, room_id, room_type, name, **roles):
        self.add("rooms", room_id, tenant, room_type, None, name, 0, self.time())
        for user_id, role in roles.items():
            self.add("room_members", room_id, tenant, user_id, role, self.time())

    def message(self, tenant, room_id, seq, sender, content, meta=None):
        self.add("messages", f"{room_id}-{seq}", tenant, room_id, sender, seq, content, meta, self.time())

    def ack(self, tenant, room_id, user_id, seq):
        self.add("delivery_state", tenant, user_id, room_id, seq, self.time())


def run(gateway, *arguments):
    result = subprocess.run([TOOL, *arguments], capture_output=True, text=True, timeout=60, check=False,
                            env={**os.environ, "CARILLON_ADMIN_MASTER_KEY": gateway.master_key})
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def chatapi(tmp_path):
    made = ChatApi(tmp_path / "chatapi.db")
    made.add("tenants", "acme", "old-key", "Acme", '{"theme":"dark"}', made.time())
    made.add("tenants", "other", "other-key", None, None, made.time())
    made.room("acme", "lobby", "group", "Lobby", ann="admin", bob="member", cat="member")
    made.room("acme", "pair", "dm", None, ann="member", bob="member")
    made.room("acme", "news", "channel", "News", ann="admin", bob="member")
    made.room("other", "lobby-2", "group", "Elsewhere", ann="member")
    for seq in range(1, 31):
        made.message("acme", "lobby", seq, ("ann", "bob", "gone")[seq % 3], f"message {seq}", '{"n": %d}' % seq)
    made.message("acme", "pair", 1, "bob", "psst")
    made.message("acme", "news", 1, "bob", "an early one")
    made.message("acme", "news", 2, "ann", "news")
    made.message("other", "lobby-2", 1, "ann", "hello?")
    made.ack("acme", "lobby", "bob", 20)
    made.ack("acme", "lobby", "ann", 30)
    return made


class Moved:
    """What the map says became of ChatAPI's ids."""

    def __init__(self, gateway, path):
        entries = {tuple(entry["old"]): entry for entry in map(json.loads, path.read_text().splitlines())}
        self.gateway, self.entries = gateway, entries

    def user(self, tenant, user_id):
        gateway = self.gateway
        return User(type("Tenant", (), {"gateway": gateway}), user_id, self.entries["tenant", tenant]["api_key"], None)

    def room(self, tenant, room_id):
        return self.entries["room", tenant, room_id]["room_id"]


async def test_everything_is_moved_and_a_second_run_adds_what_is_new(make_gateway, chatapi, tmp_path):
    gateway = make_gateway()
    lines, map_path, url = tmp_path / "lines", tmp_path / "map", f"http://{gateway.host}:{gateway.port}"
    lines.write_text(run(gateway, "export", str(chatapi.path)))
    run(gateway, "import", "--url", url, "--map", str(map_path), "--times", "sent_at", str(lines))
    assert stat.S_IMODE(map_path.stat().st_mode) == 0o600

    # ChatAPI has gone on meanwhile; now it is stopped.
    chatapi.message("acme", "lobby", 31, "cat", "a late one")
    chatapi.add("room_members", "lobby", "acme", "dan", "admin", chatapi.time())
    chatapi.room("acme", "late", "group", "Late", bob="admin", cat="admin")
    lines.write_text(run(gateway, "export", str(chatapi.path)))
    for _ in range(2):  # and once more, as after a run that was broken off
        run(gateway, "import", "--url", url, "--map", str(map_path), "--finish", "--times", "sent_at", str(lines))

    moved = Moved(gateway, map_path)
    ann, bob, cat, dan = (moved.user("acme", user_id) for user_id in ("ann", "bob", "cat", "dan"))
    lobby = moved.room("acme", "lobby")
    messages = await ann.messages(lobby, limit=100)
    assert [(message["sender_id"], message["content"]) for message in messages] == [
        (("ann", "bob", "gone")[seq % 3], f"message {seq}") for seq in range(1, 31)] + [("cat", "a late one")]
    assert [message["seq"] for message in messages[:30]] == list(range(1, 31)), "a room without changes keeps its seqs"
    sent = dict(chatapi.database.execute("SELECT seq, created_at FROM messages WHERE chatroom_id = 'lobby'").fetchall())
    assert messages[0]["meta"] == {"n": 1, "sent_at": sent[1]} and messages[0]["client_id"] == "lobby-1"
    assert messages[30]["meta"] == {"sent_at": sent[31]}
    members = {item["user_id"]: item["role"] for item in (await ann.get(f"/rooms/{lobby}/members")).ok()["items"]}
    assert members == {"ann": "admin", "bob": "member", "cat": "member", "dan": "admin"}
    room = (await bob.get(f"/rooms/{lobby}")).ok()
    assert (room["type"], room["name"], room["is_private"]) == ("group", "Lobby", True)
    cursors = {}
    for user in (ann, bob, cat):
        socket = await user.connect()
        cursors[user.user_id] = socket.room(lobby)["delivered"]
    assert cursors == {"ann": 30, "bob": 20, "cat": 0}

    assert [message["content"] for message in await ann.messages(moved.room("acme", "pair"))] == ["psst"]
    assert (await ann.get(f"/rooms/{moved.room('acme', 'pair')}")).ok()["unique_key"] == "dm:ann:bob"
    news = moved.room("acme", "news")
    assert [message["content"] for message in await bob.messages(news)] == ["an early one", "news"]
    (await bob.post(f"/rooms/{news}/messages", {"content": "x"})).problem(403, code="room.read_only")
    await ann.send(news, "still an admin")
    assert (await cat.get(f"/rooms/{moved.room('acme', 'late')}")).ok()["role"] == "admin"
    other = moved.user("other", "ann")
    assert [message["content"] for message in await other.messages(moved.room("other", "lobby-2"))] == ["hello?"]
    (await other.get(f"/rooms/{lobby}")).problem(404, code="room.not_found")
    (await dan.get(f"/rooms/{moved.room('acme', 'pair')}")).problem(404)


async def test_import_ends_with_what_is_refused(make_gateway, chatapi, tmp_path):
    gateway = make_gateway(limits__content_chars="10")
    lines = tmp_path / "lines"
    lines.write_text(run(gateway, "export", str(chatapi.path)))
    result = subprocess.run([TOOL, "import", "--url", f"http://{gateway.host}:{gateway.port}", "--map", tmp_path / "map", lines],
                            env={**os.environ, "CARILLON_ADMIN_MASTER_KEY": gateway.master_key}, capture_output=True,
                            text=True, timeout=60, check=False)
    assert result.returncode == 1 and "content.too_long" in result.stderr and "Traceback" not in result.stderr


async def test_a_config_with_names_that_mean_something_here_has_no_effect(make_gateway, chatapi, tmp_path):
    gateway = make_gateway()
    configs = {"low": {"limits": {"tenant_rate": 1}}, "odd": {"limits": 100}, "list": [1, 2]}
    for name, config in configs.items():
        chatapi.add("tenants", name, f"{name}-key", name, json.dumps(config), chatapi.time())
    chatapi.room("low", "talk", "group", "Talk", ann="admin")
    for seq in range(1, 21):
        chatapi.message("low", "talk", seq, "ann", f"message {seq}")
    lines, map_path = tmp_path / "lines", tmp_path / "map"
    lines.write_text(run(gateway, "export", str(chatapi.path)))
    arguments = ("import", "--url", f"http://{gateway.host}:{gateway.port}", "--map", str(map_path), str(lines))
    run(gateway, *arguments)
    moved = Moved(gateway, map_path)
    assert len(await moved.user("low", "ann").messages(moved.room("low", "talk"), limit=100)) == 20
    tenants = {name: moved.entries["tenant", name]["tenant_id"] for name in configs}
    shown = {name: (await Operator(gateway).call("GET", f"/tenants/{tenants[name]}")).ok()["config"]
             for name in configs}
    assert shown == {name: {"chatapi": config} for name, config in configs.items()}

    # A limit of the operator's stays where it was set, and a second run waits for it.
    limited = {**shown["low"], "limits": {"tenant_rate": 8}}
    (await Operator(gateway).call("PATCH", f"/tenants/{tenants['low']}", body={"config": limited})).ok()
    run(gateway, *arguments)
    assert (await Operator(gateway).call("GET", f"/tenants/{tenants['low']}")).ok()["config"] == limited


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_run_that_ended_before_its_map_was_written_makes_no_second_tenant(make_gateway, chatapi, tmp_path,
                                                                                  restarted):
    gateway = make_gateway()
    lines, map_path = tmp_path / "lines", tmp_path / "map"
    lines.write_text(run(gateway, "export", str(chatapi.path)))
    run(gateway, "import", "--url", f"http://{gateway.host}:{gateway.port}", "--map", str(map_path), str(lines))

    def tenants_of(answer):
        return sorted(tenant["tenant_id"] for tenant in answer.ok()["items"])

    before = tenants_of(await Operator(gateway).call("GET", "/tenants"))
    kept = [line for line in map_path.read_text().splitlines() if json.loads(line)["old"][0] == "run"]
    map_path.write_text("".join(line + "\n" for line in kept))
    if restarted:
        gateway.restart("kill")
    run(gateway, "import", "--url", f"http://{gateway.host}:{gateway.port}", "--map", str(map_path), str(lines))
    assert tenants_of(await Operator(gateway).call("GET", "/tenants")) == before
    moved = Moved(gateway, map_path)
    assert len(await moved.user("acme", "ann").messages(moved.room("acme", "lobby"), limit=100)) == 30
