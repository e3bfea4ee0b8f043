"""What the fault tests share: the gateway as a process, small HTTP and WebSocket clients, the record. Standard library
only, so that a test of the gateway shares no code with it and needs nothing installed."""
import argparse
import base64
import hashlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
MASTER_KEY = "fault-tests-master-key"
HEALED_SECONDS = 15  # after the last crash, until each follower has everything
READY_SECONDS = 5  # reliability.md: serving again after a crash within 5 s


class Failure(Exception):
    """A promise that did not hold; the test ends with exit code 1 and this sentence."""


class Skip(Exception):
    """This machine cannot run the test; it ends with exit code 77, as under ctest and automake, and this reason."""


def say(text):
    print(text, flush=True)


def arguments(description, rounds=None):
    """The options that every fault test takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"),
                        help="build directory (build/release)")
    parser.add_argument("--binary", help="the gateway, default BUILD/carillon")
    parser.add_argument("--load", help="the load generator, default BUILD/carillon-load")
    parser.add_argument("--keep", metavar="DIR", help="work in DIR and leave everything there for a look")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"), help="of every random choice")
    parser.add_argument("--cores", type=int, default=2, help="cores of the gateway (2)")
    parser.add_argument("--planted", metavar="NAME", help="a gateway with this bug, to see the test fail: needs --build "
                        "build/planted (src/base/planted.def has the names)")
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds ({rounds})")
    return parser


def run(test, options):
    """Runs test(options, directory), prints the one line of result and ends with the exit code."""
    options.binary = options.binary or os.path.join(options.build, "carillon")
    options.load = options.load or os.path.join(options.build, "carillon-load")
    name = os.path.basename(sys.argv[0])
    for path in (options.binary, options.load):
        if not os.access(path, os.X_OK):
            sys.exit(f"{name}: {path} is not built (cmake --build --preset release)")
    if options.planted and b"planted bugs" not in subprocess.run([options.binary, "--version"], capture_output=True).stdout:
        sys.exit(f"{name}: {options.binary} has no planted bugs (cmake --preset planted && cmake --build --preset planted)")
    directory = os.path.realpath(options.keep or tempfile.mkdtemp(prefix="carillon-fault-"))
    os.makedirs(directory, exist_ok=True)
    say(f"{name}: seed {options.seed}, directory {directory}")
    began = time.monotonic()
    passed = False
    try:
        result = test(options, directory)
        passed = True
    except Failure as failure:
        result = str(failure)
    except Skip as reason:
        say(f"SKIP {name}: {reason}")
        shutil.rmtree(directory, ignore_errors=True)
        sys.exit(77)
    finally:
        Gateway.kill_all()
        if passed and not options.keep:
            shutil.rmtree(directory, ignore_errors=True)
    say(f"{'PASS' if passed else 'FAIL'} {name}: {result} ({time.monotonic() - began:.1f} s)")
    sys.exit(0 if passed else 1)


def build_preload(name, directory):
    """Compiles NAME.c of this folder into a shared object and returns its path."""
    target = os.path.join(directory, name + ".so")
    subprocess.run(["cc", "-std=gnu17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", target,
                    os.path.join(HERE, name + ".c"), "-ldl"], check=True)
    return target


# --- the gateway ------------------------------------------------------------------------------------------------------


class Gateway:
    """`carillon serve` as a child process. start() waits for its ready line; its log goes to a file."""
    running = []

    def __init__(self, options, data, log_path, environment=None):
        self.options, self.data, self.log_path = options, data, log_path
        self.environment = dict(os.environ, **(environment or {}))
        if getattr(options, "planted", None):
            self.environment["CARILLON_PLANTED"] = options.planted
        self.process, self.port, self.ready_in = None, None, None

    def start(self, timeout=READY_SECONDS):
        began = time.monotonic()
        log = open(self.log_path, "ab")
        self.port, ready = None, threading.Event()
        self.process = subprocess.Popen(
            [self.options.binary, "serve", "--data", self.data, "--listen", "127.0.0.1:0", "--cores",
             str(self.options.cores), "--set", "admin.master_key=" + MASTER_KEY],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.PIPE, env=self.environment)
        Gateway.running.append(self.process)

        def follow(pipe):
            for line in pipe:
                log.write(line)
                log.flush()
                if b'"ready"' in line and not ready.is_set():
                    try:
                        entry = json.loads(line)
                    except ValueError:
                        continue
                    if entry.get("event") == "ready":
                        self.port = int(entry["listen"].rsplit(":", 1)[1])
                        ready.set()
            log.close()
            ready.set()  # it ended

        self.follower = threading.Thread(target=follow, args=(self.process.stderr,), daemon=True)
        self.follower.start()
        ready.wait(timeout)
        if self.port is None:
            try:
                ended = self.process.wait(0.5)  # the end of its pipe may be seen a moment before its own
            except subprocess.TimeoutExpired:
                ended = None
                self.process.kill()
                self.process.wait()
            self.forget()
            why = f"ended with code {ended}" if ended is not None else f"was not ready within {timeout} s"
            raise Failure(f"the gateway {why}; its log: {tail(self.log_path)}")
        status, _ = request(self.port, "GET", "/health")
        if status != 200:
            raise Failure(f"the gateway said it was ready, but GET /health answered {status}")
        self.ready_in = time.monotonic() - began
        if self.ready_in > timeout:
            raise Failure(f"the gateway needed {self.ready_in:.1f} s to serve again")
        return self

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def kill(self):
        """kill -9; returns after the process is gone."""
        ended = self.process.poll()
        self.process.kill()
        self.process.wait()
        self.follower.join(5)
        self.forget()
        if ended is not None:
            raise Failure(f"the gateway ended by itself with code {ended}; its log: {tail(self.log_path)}")

    def forget(self):
        if self.process in Gateway.running:
            Gateway.running.remove(self.process)

    def stop(self):
        """SIGTERM; the gateway drains and must end with code 0."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(30)
        except subprocess.TimeoutExpired:
            raise Failure("the gateway did not end within 30 s of SIGTERM") from None
        self.forget()
        self.follower.join(5)
        if code != 0:
            raise Failure(f"the gateway ended with code {code} after SIGTERM; its log: {tail(self.log_path)}")

    @classmethod
    def kill_all(cls):
        for process in cls.running:
            process.kill()
            process.wait()


def tail(path, lines=5):
    with open(path, "rb") as log:
        return b" | ".join(log.read()[-4000:].splitlines()[-lines:]).decode(errors="replace")


def tool(options, *command, into=None):
    """Runs an offline command of the gateway's binary (export-history, verify-store); Failure unless it ends with 0."""
    out = open(into, "ab") if into else subprocess.PIPE
    done = subprocess.run([options.binary, *command], stdout=out, stderr=subprocess.PIPE, timeout=120, check=False)
    if into:
        out.close()
    if done.returncode != 0:
        said = (done.stdout or b"") + done.stderr
        said = said.decode(errors="replace")[-800:]
        raise Failure(f"carillon {' '.join(command)} ended with {done.returncode}: {said}")


# --- clients ----------------------------------------------------------------------------------------------------------


def request(port, method, path, body=None, headers=None, timeout=30):
    """One HTTP request on a connection of its own; returns (status, parsed JSON or text)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        text = None if body is None else json.dumps(body)
        kind = {"Content-Type": "application/json"} if text else {}
        connection.request(method, path, text, dict(headers or {}, **kind))
        answer = connection.getresponse()
        raw = answer.read().decode(errors="replace")
        try:
            return answer.status, json.loads(raw)
        except ValueError:
            return answer.status, raw
    finally:
        connection.close()


def must(port, method, path, body=None, headers=None):
    status, answer = request(port, method, path, body, headers)
    if status // 100 != 2:
        raise Failure(f"{method} {path} answered {status}: {answer}")
    return answer


def acting(key, user):
    return {"X-API-Key": key, "X-User-Id": user}


class WebSocket:
    """A small RFC 6455 client: text messages out and in, pings answered. Raises OSError or EOFError when it is over."""

    def __init__(self, port, headers, subprotocol="carillon.v1.json", timeout=30, source=None, receive_bytes=None):
        self.socket = socket.socket()
        self.socket.settimeout(timeout)
        if receive_bytes:  # before connecting, so that the window that is offered is as small
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET /ws HTTP/1.1", f"Host: 127.0.0.1:{port}", "Upgrade: websocket", "Connection: Upgrade",
                 "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"]
        if subprotocol:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        wanted = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        if not head.startswith(b"HTTP/1.1 101 ") or wanted not in head:
            raise EOFError(f"no upgrade: {head.decode(errors='replace')}")

    def _more(self):
        received = self.socket.recv(65536)
        if not received:
            raise EOFError("the gateway closed the connection")
        self.buffer += received

    def _frame(self, opcode, payload):
        mask = os.urandom(4)
        if len(payload) < 126:
            length = struct.pack("!B", 0x80 | len(payload))
        elif len(payload) < 65536:
            length = struct.pack("!BH", 0x80 | 126, len(payload))
        else:
            length = struct.pack("!BQ", 0x80 | 127, len(payload))
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        self.socket.sendall(bytes([0x80 | opcode]) + length + mask + masked)

    def send(self, message):
        self._frame(1, json.dumps(message).encode())

    def receive(self, timeout=30):
        """The next message as an object; socket.timeout when none comes in time (a partial frame is kept)."""
        until = time.monotonic() + timeout
        while True:
            frame = self._take()
            if frame is None:
                self.socket.settimeout(max(0.001, until - time.monotonic()))
                self._more()
                continue
            opcode, payload = frame
            if opcode == 1:
                return json.loads(payload)
            if opcode == 8:
                raise EOFError(f"closed: {payload[2:].decode(errors='replace')}")
            if opcode == 9:
                self._frame(10, payload)

    def _take(self):
        data = self.buffer
        if len(data) < 2:
            return None
        length, at = data[1] & 0x7F, 2
        if length == 126:
            length, at = (struct.unpack("!H", data[2:4])[0] if len(data) >= 4 else 0), 4
        elif length == 127:
            length, at = (struct.unpack("!Q", data[2:10])[0] if len(data) >= 10 else 0), 10
        if len(data) < at or len(data) < at + length:
            return None
        self.buffer = data[at + length:]
        return data[0] & 0x0F, data[at:at + length]

    def close(self):
        self.socket.close()


class Record:
    """Appends lines as carillon-load --record writes them (tools/load/record.h)."""

    def __init__(self, path):
        self.file, self.lock = open(path, "a", encoding="utf-8"), threading.Lock()

    def write(self, op, **members):
        line = json.dumps({"t": time.monotonic_ns(), "op": op, **members}, ensure_ascii=False, separators=(",", ":"))
        with self.lock:
            self.file.write(line + "\n")
            self.file.flush()

    def received(self, push, user, connection, device):
        """A durable push, in the order of arrival on its connection."""
        members = {"room": push["room_id"], "user": user, "connection": connection, "device": device,
                   "type": push["type"], "seq": push["seq"]}
        for name, source in (("message_id", "message_id"), ("sender", "sender_id"), ("client_id", "client_id"),
                             ("content", "content"), ("created_at", "created_at")):
            if isinstance(push.get(source), str):
                members[name] = push[source]
        self.write("receive", **members)


DURABLE = ("message", "message.edited", "message.deleted", "reaction", "user_joined", "user_left", "room.updated")


# --- crashes ----------------------------------------------------------------------------------------------------------

ROOMS, PUBLISHERS = 4, 8
DEVICE = "follower"
ACK_EVERY = 20  # events: many acks are under way when the gateway is killed


class Follower(threading.Thread):
    """A member's device that follows one room through every crash: it resumes from what it has and records all it
    receives, in which the checker then looks for holes."""

    def __init__(self, crashes, room, user):
        super().__init__(daemon=True)
        self.crashes, self.room, self.user = crashes, room, user
        self.epoch, self.seq, self.connections, self.problem = None, 0, 0, None
        self.asked = None  # the position that the last hello named
        self.said_hello, self.acks = 0, {}  # when; acks on this connection: id -> (seq, when)

    def run(self):
        while not self.crashes.over:
            port = self.crashes.port
            if port is None:
                time.sleep(0.01)
                continue
            try:
                self.follow(port)
            except (OSError, EOFError, ValueError):
                time.sleep(0.02)  # the gateway was killed: come back
            except Failure as failure:
                self.problem = str(failure)
                return

    def follow(self, port):
        self.connections += 1
        name = f"follower-{self.room}-{self.connections}"
        ws = WebSocket(port, acting(self.crashes.key, self.user))
        try:
            hello = {"type": "hello", "id": 1, "rooms": [self.room], "device": DEVICE}
            self.asked = None if self.epoch is None else [self.epoch, self.seq]
            if self.asked:
                hello["resume"] = {self.room: self.asked}
            self.said_hello, self.acks = time.monotonic_ns(), {}
            ws.send(hello)
            while not self.crashes.over:
                try:
                    push = ws.receive(0.2)
                    self.take(push, name)
                    if push["type"] in DURABLE and push["seq"] % ACK_EVERY == 0:
                        self.ack(ws, push["seq"])
                except socket.timeout:
                    if self.crashes.port != port:
                        return
        finally:
            ws.close()

    def by(self):
        return {"room": self.room, "user": self.user, "device": DEVICE}

    def ack(self, ws, seq):
        number = 2 + len(self.acks)
        self.acks[number] = (seq, time.monotonic_ns())
        self.crashes.record.write("ack", **self.by(), seq=seq)
        ws.send({"type": "ack", "id": number, "room_id": self.room, "seq": seq})

    def cursor(self, push):
        """An answer to an ack says that no killed process takes it back; a welcome shows where the cursor is."""
        if push["type"] == "ok" and push.get("re") in self.acks:
            seq, asked = self.acks[push["re"]]
            self.crashes.record.write("acked", **self.by(), seq=seq, asked=asked)
        if push["type"] == "welcome":
            delivered = next(room["delivered"] for room in push["rooms"] if room["room_id"] == self.room)
            self.crashes.record.write("cursor", **self.by(), seq=delivered, asked=self.said_hello)

    def take(self, push, name):
        self.cursor(push)
        if push["type"] == "error" and push.get("temporary"):
            raise EOFError(f"refused for now: {push}")
        if push["type"] == "error":
            raise Failure(f"the follower of room {self.room} was refused: {push}")
        if push["type"] == "welcome" and self.epoch is None:
            self.epoch = next(room["epoch"] for room in push["rooms"] if room["room_id"] == self.room)
        if push["type"] == "resumed" and push["room_id"] == self.room:
            self.crashes.record.write("resumed", **self.by(), connection=name,
                                      asked=self.asked, **{member: push[member] for member in
                                                           ("epoch", "recovered", "from", "head")})
            if not push["recovered"]:
                raise Failure(f"the follower of room {self.room} had durable seq {self.seq} of epoch {self.epoch}, and "
                              f"the gateway no longer knows it: {push}")
            self.epoch = push["epoch"]
        if push["type"] in DURABLE and push["room_id"] == self.room:
            self.crashes.record.received(push, self.user, name, DEVICE)
            self.seq = max(self.seq, push["seq"])


class Crashes:
    """Rounds of: load, crash, restart, and ask again for what had no answer; then the history checker over all of it.
    The data directory, the rooms and the members are the same in every round."""

    def __init__(self, options, directory, environment=None, after_crash=None, before_start=None):
        self.options, self.directory = options, directory
        self.after_crash, self.before_start = after_crash, before_start
        self.rng = random.Random(options.seed)
        self.data = os.path.join(directory, "data")
        self.state = os.path.join(directory, "state.json")
        self.gateway = Gateway(options, self.data, os.path.join(directory, "gateway.log"), environment)
        self.record = Record(os.path.join(directory, "record-follow.jsonl"))
        self.port, self.over, self.key, self.followers = None, False, None, []
        self.slowest_ready = 0.0
        self.counts = {"ok": 0, "unknown": 0, "again": 0}

    def start(self):
        if self.before_start:
            self.before_start()
        self.gateway.start()
        self.slowest_ready = max(self.slowest_ready, self.gateway.ready_in)
        self.port = self.gateway.port

    def crash(self):
        self.port = None
        self.gateway.kill()
        self.record.write("crash", power=self.after_crash is not None)
        if self.after_crash:
            return self.after_crash()
        return ""

    def load_command(self, record, *more):
        return [self.options.load, "durable", "--url", self.gateway.url, "--state", self.state, "--rooms", str(ROOMS),
                "--publishers", str(PUBLISHERS), "--record", record, "--json", "--warmup", "0", *more]

    def set_up(self):
        """A first, undisturbed run makes tenant, rooms and members."""
        self.start()
        record = os.path.join(self.directory, "record-0.jsonl")
        done = subprocess.run(self.load_command(record, "--messages", "64", "--master-key", MASTER_KEY),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60, check=False)
        if done.returncode != 0:
            raise Failure(f"the undisturbed run ended with {done.returncode}: {done.stderr.decode()[-500:]}")
        with open(self.state, encoding="utf-8") as file:
            state = json.load(file)
        self.key, self.rooms = state["key"], [room["room_id"] for room in state["rooms"]]
        self.followers = [Follower(self, room, f"load-{number}-0") for number, room in enumerate(self.rooms)]
        for follower in self.followers:
            follower.start()

    def round(self, number):
        """Kills the gateway at a random moment under load. Every other round sends as fast as it can for a short time,
        the others at a steady rate for longer, so that crashes meet full and nearly empty batches."""
        record = os.path.join(self.directory, f"record-{number}.jsonl")
        if number % 2:
            shape, moment = ("--in-flight", "16", "--messages", "20000"), self.rng.uniform(0.03, 0.25)
        else:
            shape, moment = ("--rate", "1500", "--seconds", "20"), self.rng.uniform(0.1, 0.8)
        errors = os.path.join(self.directory, f"load-{number}.log")
        with open(errors, "wb") as file:
            load = subprocess.Popen(self.load_command(record, "--tolerate-disconnect", *shape),
                                    stdout=subprocess.DEVNULL, stderr=file)
        self.wait_for_ready(load, errors)
        time.sleep(moment)
        what = self.crash()
        try:
            code = load.wait(30)
        except subprocess.TimeoutExpired:
            load.kill()
            raise Failure("carillon-load did not end after the gateway was killed") from None
        if code != 0:
            raise Failure(f"carillon-load ended with {code}: {tail(errors)}")
        if self.rng.random() < 0.2:  # and once more, in the middle of recovery
            self.crash_in_recovery()
        self.start()
        ok, unknown = self.ask_again(record)
        self.counts["ok"] += ok
        self.counts["unknown"] += unknown
        say(f"  round {number}: killed after {moment:.2f} s, {ok} acknowledged, {unknown} open, ready again in "
            f"{self.gateway.ready_in:.2f} s{what}")

    @staticmethod
    def wait_for_ready(load, errors):
        """Returns when carillon-load has said that its connections are ready, that is: when it begins to send."""
        until = time.monotonic() + 30
        while "connections are ready" not in tail(errors):
            if load.poll() is not None or time.monotonic() > until:
                load.kill()
                raise Failure(f"carillon-load did not get to send: {tail(errors)}")
            time.sleep(0.002)

    def crash_in_recovery(self):
        if self.before_start:
            self.before_start()
        gateway = Gateway(self.options, self.data, self.gateway.log_path, self.gateway.environment)
        starter = threading.Thread(target=lambda: self.ignore_failure(gateway.start), daemon=True)
        starter.start()
        while gateway.process is None and starter.is_alive():
            time.sleep(0.001)
        time.sleep(self.rng.uniform(0.005, 0.15))
        gateway.process.kill()
        gateway.process.wait()
        starter.join(READY_SECONDS + 5)
        gateway.forget()
        if self.after_crash:
            self.after_crash()

    @staticmethod
    def ignore_failure(function):
        try:
            function()
        except (Failure, OSError, http.client.HTTPException):
            pass  # it was killed on purpose

    def ask_again(self, record):
        """Sends again, with the same client_id, up to 20 messages that had no answer and 5 that had one: the first may
        get their seq now, the others must get the one they have. Returns how many were acknowledged, how many open."""
        invoked, ok, unknown = {}, [], []
        if os.path.exists(record):
            with open(record, encoding="utf-8") as lines:
                for line in lines:
                    entry = json.loads(line)
                    key = (entry.get("room"), entry.get("sender"), entry.get("client_id"))
                    if entry["op"] == "invoke":
                        invoked[key] = entry["content"]
                    elif entry["op"] == "ok":
                        ok.append(key)
                    elif entry["op"] == "unknown":
                        unknown.append(key)
        for room, sender, client_id in unknown[:20] + self.rng.sample(ok, min(5, len(ok))):
            names = {"room": room, "sender": sender, "client_id": client_id}
            content = invoked[(room, sender, client_id)]
            self.record.write("invoke", content=content, **names)
            status, answer = request(self.port, "POST", f"/v1/rooms/{room}/messages",
                                     {"content": content, "client_id": client_id}, acting(self.key, sender))
            if status // 100 != 2:
                raise Failure(f"sending {client_id} again was answered with {status}: {answer}")
            self.record.write("ok", seq=answer["seq"], message_id=answer["message_id"], **names)
            self.counts["again"] += 1
        return len(ok), len(unknown)

    def finish(self):
        """Lets the followers reach the heads, stops the gateway, and lets checker and verifier judge."""
        heads, healed = {}, time.monotonic_ns()
        for number, room in enumerate(self.rooms):
            answer = must(self.port, "GET", f"/v1/rooms/{room}", None, acting(self.key, f"load-{number}-0"))
            heads[room] = answer["last_seq"]
        until = time.monotonic() + HEALED_SECONDS
        while time.monotonic() < until and any(f.seq < heads[f.room] and not f.problem for f in self.followers):
            time.sleep(0.05)
        self.over = True
        for follower in self.followers:
            follower.join(10)
            if follower.problem:
                raise Failure(follower.problem)
            if follower.seq < heads[follower.room]:
                raise Failure(f"the follower of room {follower.room} got to seq {follower.seq} of "
                              f"{heads[follower.room]}")
        self.record.write("healed", t=healed, within_ns=HEALED_SECONDS * 10**9)
        self.port = None
        self.gateway.stop()
        export = os.path.join(self.directory, "export.jsonl")
        for room in self.rooms:
            tool(self.options, "export-history", self.data, "--room", room, into=export)
        records = [os.path.join(self.directory, name) for name in sorted(os.listdir(self.directory))
                   if name.startswith("record-")]
        checked = subprocess.run([os.path.join(HERE, "check-history"), "--build", self.options.build, *records, export],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        say(checked.stdout.rstrip())
        if checked.returncode != 0:
            raise Failure("the history checker found violations")
        tool(self.options, "verify-store", self.data)
        if self.counts["ok"] == 0:
            raise Failure("nothing was acknowledged in any round: the test proved nothing")


def crash_rounds(options, directory, **hooks):
    """The whole of a crash test; returns the sentence of its result."""
    crashes = Crashes(options, directory, **hooks)
    crashes.set_up()
    for number in range(1, options.rounds + 1):
        crashes.round(number)
        for follower in crashes.followers:
            if follower.problem:
                raise Failure(follower.problem)
    crashes.finish()
    counts = crashes.counts
    return (f"{options.rounds} crashes, {counts['ok']} messages acknowledged and none lost, {counts['unknown']} open, "
            f"{counts['again']} sent again, slowest restart {crashes.slowest_ready:.2f} s")
