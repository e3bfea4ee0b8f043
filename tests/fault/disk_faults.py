"""What the fault tests of disk and clock share: the plan of preload_disk.c, readers that record all that a gateway shows,
and rounds in which the gateway meets a fault and, perhaps, a power loss. Standard library only, as lib.py."""
import http.client
import json
import mmap
import os
import shutil
import signal
import socket
import struct
import subprocess
import time

import lib
import power_model

KINDS = ("wal", "wal in a flush", "table", "manifest", "mark", "directory", "backup", "other")
SYNC, WRITE = 0, 1
FOR_GOOD = (1 << 64) - 1


class Plan:
    """What preload_disk.c does to the disk's calls, and what it saw: its struct plan, mapped."""
    FIELDS = ("fail_kinds", "fail_call", "pass_first", "fail", "error", "read_delay_us", "write_delay_us", "sync_delay_us",
              "failed", "first_failed_ns", "reads", "writes", "on_core") + tuple("syncs of " + kind for kind in KINDS)

    def __init__(self, directory):
        self.path = os.path.join(directory, "disk-plan")
        with open(self.path, "wb") as file:
            file.write(bytes(8 * len(Plan.FIELDS)))
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    def get(self, field):
        return struct.unpack_from("<Q", self.map, 8 * Plan.FIELDS.index(field))[0]

    def set(self, **fields):
        for field, value in fields.items():
            struct.pack_into("<Q", self.map, 8 * Plan.FIELDS.index(field), value)

    def fail(self, kinds, error, first=0, count=1, call=SYNC):
        """After `first` calls of those kinds, `count` fail. The kinds come last: they switch it on."""
        self.set(fail_kinds=0, failed=0, first_failed_ns=0)
        self.set(fail_call=call, pass_first=first, fail=count, error=error)
        self.set(fail_kinds=sum(1 << KINDS.index(kind) for kind in kinds))

    def heal(self):
        self.set(fail_kinds=0, read_delay_us=0, write_delay_us=0, sync_delay_us=0)

    def environment(self, directory):
        """For a gateway whose files under `directory` are to be touched."""
        return {"LD_PRELOAD": lib.build_preload("preload_disk", os.path.dirname(self.path)), "CARILLON_DISK_DIR": directory,
                "CARILLON_DISK_PLAN": self.path}


def health(port):
    """(status, body) of /health; (0, None) when nobody answers."""
    try:
        status, answer = lib.request(port, "GET", "/health", timeout=10)
        return status, answer if isinstance(answer, dict) else None
    except (OSError, http.client.HTTPException):
        return 0, None


def metric(port, name):
    """The sum over the series of one metric."""
    status, text = lib.request(port, "GET", "/metrics", headers={"X-Master-Key": lib.MASTER_KEY})
    if status != 200:
        raise lib.Failure(f"/metrics answered {status}")
    values = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
    if not values:
        raise lib.Failure(f"/metrics has no {name}")
    return sum(float(value) for value in values)


class Reading:
    """Reads all rooms on every way there is, from the position that each had when the gateway started, and records each
    event as received: the checker then holds it against what the store has in the end. What a room showed must not differ
    between the ways, nor have a hole."""
    number = 0

    def __init__(self, crashes):
        self.crashes, self.port, self.events = crashes, crashes.gateway.port, 0
        Reading.number += 1

    def all(self):
        for number, room in enumerate(self.crashes.rooms):
            user = f"load-{number}-0"
            for way in (self.by_events, self.by_sync, self.by_resume):
                name = f"reading-{Reading.number}-{way.__name__}-{room}"
                for event in way(room, user):
                    self.crashes.record.received(event, user, name, None)
                    self.events += 1
        return self.events

    def by_events(self, room, user):
        path = f"/v1/rooms/{room}/events?after_seq={self.crashes.positions[room][1]}&limit=1000"
        while path:
            page = lib.must(self.port, "GET", path, None, lib.acting(self.crashes.key, user))
            yield from page["items"]
            last = page["items"][-1]["seq"] if page["items"] else 0
            path = f"/v1/rooms/{room}/events?after_seq={last}&limit=1000" if page["next"] else None

    def by_sync(self, room, user):
        epoch, seq = self.crashes.positions[room]
        while True:
            answer = lib.must(self.port, "POST", "/v1/sync", {"rooms": {room: [epoch, seq]}, "limit": 1000},
                              lib.acting(self.crashes.key, user))["rooms"][0]
            yield from answer["events"]
            if not answer["events"] or answer["events"][-1]["seq"] >= answer["head"]:
                return
            epoch, seq = answer["epoch"], answer["events"][-1]["seq"]

    def by_resume(self, room, user):
        ws = lib.WebSocket(self.port, lib.acting(self.crashes.key, user))
        ws.send({"type": "hello", "id": 1, "rooms": [room], "resume": {room: self.crashes.positions[room]}})
        head, seq = None, self.crashes.positions[room][1]
        try:
            while head is None or seq < head:
                push = ws.receive(20)
                if push["type"] == "welcome":
                    head = next(entry["head"] for entry in push["rooms"] if entry["room_id"] == room)
                elif push["type"] in lib.DURABLE and push["room_id"] == room:
                    seq = push["seq"]
                    yield push
        except (socket.timeout, EOFError) as problem:
            raise lib.Failure(f"resuming room {room} got to seq {seq} of {head}: {problem!r}") from None
        finally:
            ws.close()


class DiskRounds(lib.Crashes):
    """Rounds of: load, a fault, what the gateway shows then, its end, restart, ask again; lib.Crashes judges in the end.
    With `power`, whatever was not synced at the end of a round is lost or torn, and what a failed sync covered is lost."""

    def __init__(self, options, directory, settings=None, power=False):
        self.plan = Plan(directory)
        environment = dict(self.plan.environment(directory), **(settings or {}))
        self.power, self.cuts, self.lost_writes = power, 0, 0
        self.snapshot, self.journal = os.path.join(directory, "snapshot"), os.path.join(directory, "journal")
        if power:
            environment["LD_PRELOAD"] += " " + lib.build_preload("preload_power", directory)
            environment.update(CARILLON_POWER_DIR=os.path.join(directory, "data"), CARILLON_POWER_JOURNAL=self.journal,
                               CARILLON_POWER_SYNC_MS="2")
        super().__init__(options, directory, environment, self.lose_power if power else None,
                         self.take_snapshot if power else None)
        os.makedirs(self.data, exist_ok=True)
        self.positions, self.rooms = {}, ()  # room -> [epoch, seq] when the gateway started

    def start(self):
        super().start()
        for number, room in enumerate(self.rooms):
            answer = lib.must(self.port, "GET", f"/v1/rooms/{room}", None, lib.acting(self.key, f"load-{number}-0"))
            self.positions[room] = [answer["epoch"], answer["last_seq"]]

    def set_up(self):
        super().set_up()
        self.positions = {room: [1, 0] for room in self.rooms}

    def take_snapshot(self):
        shutil.rmtree(self.snapshot, ignore_errors=True)
        shutil.copytree(self.data, self.snapshot, ignore=lambda _, names: [n for n in names if n.endswith(".sock")])
        if os.path.exists(self.journal):
            os.unlink(self.journal)

    def lose_power(self):
        self.cuts += 1
        counts = power_model.lose_power(self.data, self.snapshot, self.journal, f"{self.options.seed}-{self.cuts}")
        self.lost_writes += counts["writes_lost"]
        return f"; {counts['writes_lost']} writes lost with the power"

    def begin_load(self, number, *shape):
        record = os.path.join(self.directory, f"record-{number}.jsonl")
        errors = os.path.join(self.directory, f"load-{number}.log")
        with open(errors, "wb") as file:
            load = subprocess.Popen(self.load_command(record, "--tolerate-disconnect", *shape),
                                    stdout=subprocess.DEVNULL, stderr=file)
        self.wait_for_ready(load, errors)
        return load, record

    def end(self):
        """Kills the gateway, which must not have ended by itself; returns what happened."""
        gateway = self.gateway
        self.port = None
        if gateway.process.poll() is None:
            gateway.process.kill()
        code = gateway.process.wait()
        gateway.follower.join(5)
        gateway.forget()
        self.record.write("crash", power=self.after_crash is not None)
        if code != -signal.SIGKILL:
            raise lib.Failure(f"the gateway ended by itself with {code}; its log: {lib.tail(gateway.log_path)}")
        self.record.write("crash", power=self.after_crash is not None)
        return "killed" + (self.after_crash() if self.after_crash else "")

    @staticmethod
    def end_load(load):
        """The generator ends when the gateway is gone; refusals are no failure of it here."""
        try:
            load.wait(30)
        except subprocess.TimeoutExpired:
            raise lib.Failure("carillon-load did not end after the gateway was gone") from None
        finally:
            if load.poll() is None:
                load.kill()
                load.wait()

    def check_followers(self):
        for follower in self.followers:
            if follower.problem:
                raise lib.Failure(follower.problem)


def lines_of(record):
    """The lines of a record as objects; none when it was not begun."""
    if not os.path.exists(record):
        return
    with open(record, encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def wait_until(condition, seconds, pause=0.01):
    """Returns the first true value of condition(), or its last one when the time is over."""
    until = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > until:
            return value
        time.sleep(pause)
