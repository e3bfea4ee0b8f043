"""What capacity planning measures: what a gateway did and spent, at points of a grid of loads. Standard library only.

A point is a dictionary of rates (a second): what was done (messages, deliveries, sends, upgrades, syncs, bytes), what it
cost (`cpu`, CPU seconds of each thread group), and the shape of the load. Counts are the gateway's own (/metrics); it
copies those of its connections ten times a second, so a look waits for the next copy."""
import http.client
import json
import re
import socket
import subprocess
import time

import lab
import threads
import under_load

FRESH_S = 0.5  # until the gateway has copied its counts: five times as long as it takes
LOOK_S = 0.02  # between two looks for that

# name: (rooms, members who listen in each, one of whom talks, messages a second in all, bytes of content)
GRID = {
    "pairs, few": (100, 2, 4_000, 128),
    "pairs": (100, 2, 12_000, 128),
    "pairs, many": (200, 2, 40_000, 128),
    "small rooms, few": (100, 11, 3_000, 128),
    "small rooms": (100, 11, 9_000, 128),
    "a hundred, few": (1, 101, 300, 128),
    "a hundred": (4, 101, 1_000, 128),
    "a thousand": (1, 1001, 120, 128),
    "a quick room": (1, 21, 20_000, 128),
    "4 KiB": (10, 11, 3_000, 4096),
    "16 KiB": (1, 101, 150, 16384),
}
TINY_GRID = {name: GRID[name] for name in ("pairs, few", "pairs", "small rooms", "a hundred", "4 KiB")}
UPGRADES_RATE = 3_000   # a second, of the point that measures them
BULK_SIZE = 128
BULK_BUFFER = "8m"       # write buffer of the point that measures files
LOG_WRITE_BUFFERS = 4
TWO_CORES = (100, 11, 4_000, 128)
PING_CONNECTIONS, PING_MS = 2_000, 500  # of the point that measures pings; the shortest interval that there is
COUNTS = {  # metric: name of the rate
    "carillon_messages_total": "messages", "carillon_deliveries_total": "deliveries", "carillon_sends_total": "sends",
    "carillon_bytes_sent_total": "bytes_sent", "carillon_websockets_opened_total": "upgrades",
    "carillon_fsync_seconds_count": "syncs", "carillon_fsync_seconds_sum": "sync_seconds",
    "carillon_commit_bytes_total": "commit_bytes"}


def load_options(shape):
    """carillon-load's options for a point of the grid: each room has one publisher, who listens as well."""
    rooms, members, rate, size = shape
    return ["fanout", "--rooms", rooms, "--rate", rate, "--size", size, "--subscribers", members - 1, "--publishers", rooms]


# --- CPU, disk --------------------------------------------------------------------------------------------------------


def under(gateway, options, seconds):
    """The rates of one load."""
    with under_load.Load(gateway, options, seconds) as load:
        before = look(gateway)
        time.sleep(seconds)
        after = look(gateway)
        load.assert_runs()
    return rates(before, after)


def grid_point(gateway, shape, seconds):
    point = under(gateway, load_options(shape), seconds)
    rooms, members, _, size = shape
    return {**point, "rooms": rooms, "members": members, "size": size}


def look(gateway):
    """All counts and costs at one moment, when the gateway has just copied its own. Looking is work as well: `asked` are the
    bytes of the answers up to then, and `answer` those of the last one; few are asked for, because each takes CPU time."""
    until, (first, asked) = time.monotonic() + FRESH_S, metrics(gateway)
    while True:
        seen, answer = metrics(gateway)
        if seen["carillon_bytes_sent_total"] != first["carillon_bytes_sent_total"] or time.monotonic() > until:
            break
        asked += answer
        time.sleep(LOOK_S)
    return {"at": time.monotonic(), "cpu": threads.cpu_seconds(gateway.pid), "written": written_bytes(gateway.pid),
            "asked": asked, "answer": answer, **{name: seen[metric] for metric, name in COUNTS.items()}}


def metrics(gateway):
    """({name: value} of the metrics without labels, bytes of the answer)."""
    host, port = gateway.address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    return {name: float(value) for name, value in re.findall(r"^([a-z_]+) (\S+)$", text, re.M)}, len(text)


def written_bytes(pid):
    """Bytes that the process had the file systems write to devices (proc(5), /proc/PID/io)."""
    with open(f"/proc/{pid}/io", encoding="utf-8") as io:
        return int(re.search(r"^write_bytes: (\d+)", io.read(), re.M)[1])


def rates(before, after):
    seconds = after["at"] - before["at"]
    point = {name: (after[name] - before[name]) / seconds for name in [*COUNTS.values(), "written"]}
    point["bytes_sent"] -= (before["answer"] + after["asked"]) / seconds
    point["cpu"] = {group: (after["cpu"][group] - before["cpu"][group]) / seconds for group in after["cpu"]}
    point["sync_mean"] = point.pop("sync_seconds") / point["syncs"] if point["syncs"] else None
    return point


def pings(build, directory, seconds):
    """{"pings": a second, "cpu"}: what idle connections cost that are asked whether they live."""
    settings = {"net.ping_interval": f"{PING_MS}ms"}
    with lab.Gateway(build, settings, directory=directory) as gateway:
        with Held(gateway, PING_CONNECTIONS, 1):
            before = look(gateway)
            time.sleep(seconds)
            point = rates(before, look(gateway))
    return {"pings": PING_CONNECTIONS * 1000 / PING_MS, "cpu": point["cpu"]}


def bulk(build, directory, seconds):
    """What the store costs beyond its log: many messages, nobody who listens, and buffers so small that files are written and
    merged all the time, as in a store of many times their size."""
    with lab.Gateway(build, {"store.write_buffer": BULK_BUFFER}, directory=directory) as gateway:
        point = under(gateway, ["durable", "--publishers", 16, "--in-flight", 64, "--size", BULK_SIZE], seconds)
    return {**point, "size": BULK_SIZE}


def two_cores(build, directory, seconds):
    """The CPU time of one load on two cores ÷ that on one, or None where there is one CPU. The generator is beside both."""
    one, two = lab.cpus()
    if one == two:
        return None
    spent = []
    for cores, cpu in ((1, one), (2, f"{one},{two}")):
        with lab.Gateway(build, under_load.SETTINGS, cores=cores, cpu=cpu, directory=directory) as gateway:
            point = grid_point(gateway, TWO_CORES, seconds)
        spent.append(sum(point["cpu"].values()) / point["deliveries"])
    return spent[1] / spent[0]


# --- memory -----------------------------------------------------------------------------------------------------------


def memory(build, directory, held, crowds):
    """[{connections, rooms, subscriptions, bytes, slab}]: anonymous memory of a gateway that holds so much, each on a gateway
    of its own, and how much the kernel's grew. `held`: connections, all in one room; `crowds`: (connections, rooms) where
    everybody is in every room."""
    points = []
    shapes = [(Held, connections, 1) for connections in held] + [(Crowd, *crowd) for crowd in crowds]
    for kind, connections, rooms in shapes:
        with lab.Gateway(build, under_load.SETTINGS, directory=directory) as gateway:
            before = slab_bytes()
            with kind(gateway, connections, rooms):
                points.append({"connections": connections, "rooms": rooms, "subscriptions": connections * rooms,
                               "bytes": anonymous_bytes(gateway.pid), "slab": slab_bytes() - before})
    return points


def store_memory(build):
    """(bound of the store's cache, bound of what waits in memory to become files), by default settings: RocksDB begins to write
    files once its log holds LOG_WRITE_BUFFERS buffers (storage/kv_rocksdb.c)."""
    defaults = subprocess.run([lab.program(build, "carillon"), "config", "--defaults"], capture_output=True, text=True,
                              timeout=20, check=True).stdout

    def size(name):
        number, unit = re.search(rf"^{name} = (\d+)([kmg]?)$", defaults, re.M).groups()
        return int(number) << {"": 0, "k": 10, "m": 20, "g": 30}[unit]
    return size("cache"), LOG_WRITE_BUFFERS * size("write_buffer")


class Held:
    """So many idle connections, in so many rooms, until the block ends. A context manager."""

    def __init__(self, gateway, connections, rooms):
        self.gateway = gateway
        self.load = under_load.Load(gateway, ["idle", "--connections", connections, "--rooms", rooms],
                                    under_load.READY_S)
        self.connections = connections

    def __enter__(self):
        self.load.__enter__()
        until = time.monotonic() + under_load.READY_S
        while metrics(self.gateway)[0]["carillon_sessions"] < self.connections:
            if time.monotonic() > until:
                raise lab.Failure(f"{self.connections} connections were not there within {under_load.READY_S} s")
            self.load.assert_runs()
            time.sleep(0.05)
        time.sleep(0.2)  # the last of them gets its welcome
        return self

    def __exit__(self, *_):
        self.load.__exit__()


class Crowd:
    """Sockets whose users are all in all of some rooms, until the block ends. A context manager."""

    def __init__(self, gateway, connections, rooms):
        self.sockets, self.connections, self.rooms = [], connections, rooms
        self.master_key = gateway.master_key
        self.host, port = gateway.address.rsplit(":", 1)
        self.port = int(port)

    def __enter__(self):
        tenant = self.post("/v1/admin/tenants", {"name": "capacity"}, {"X-Master-Key": self.master_key})
        self.key = {"X-API-Key": tenant["api_key"]}
        users = [f"user-{number}" for number in range(self.connections)]
        for _ in range(self.rooms):
            self.post("/v1/rooms", {"type": "group", "members": users}, {**self.key, "X-User-Id": users[0]})
        for user in users:
            self.sockets.append(self.open(user))
        return self

    def post(self, path, body, headers):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status not in (200, 201):
            raise lab.Failure(f"POST {path} was answered with {answer.status}: {text[:300]}")
        return json.loads(text)

    def open(self, user):
        """A socket that is subscribed to all rooms of its user: the answer to `hello` has come."""
        one = socket.create_connection((self.host, self.port), timeout=30)
        fields = {"Host": "capacity", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
                  "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "carillon.v1.json",
                  "X-User-Id": user, **self.key}
        head = "GET /v1/ws HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
        text = b'{"type":"hello","id":0,"rooms":"all"}'
        # a frame of text whose mask is zero (RFC 6455 section 5.2)
        one.sendall(head.encode() + bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
        got = b""
        while b'"type":"welcome"' not in got:
            more = one.recv(65536)
            if not more:
                raise lab.Failure(f"a socket was refused: {got[-300:].decode(errors='replace')}")
            got += more
        return one

    def __exit__(self, *_):
        for one in self.sockets:
            one.close()


def anonymous_bytes(pid):
    """Memory that is of no file: RssAnon of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return int(re.search(r"^RssAnon:\s+(\d+) kB", status.read(), re.M)[1]) * 1024


def slab_bytes():
    """The kernel's own memory, most of which belongs to sockets where there are many."""
    with open("/proc/meminfo", encoding="utf-8") as info:
        return int(re.search(r"^Slab:\s+(\d+) kB", info.read(), re.M)[1]) * 1024
