"""The rows of perf/scenarios: for each a name, what it asks, how a gateway and those it is compared with are measured,
and the targets. A row is a function of a Bench that returns a Result; everything runs one after the other, in turns."""
import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
import time
import urllib.request

import lab
import peers
import under_load

CONTENT_BYTES = 128
WS_HEADER_BYTES = 4  # of a frame with 126 to 65,535 bytes of payload (RFC 6455, section 5.2)
LARGE_BYTES = 16384
LARGE_SETTING = {"limits.content_chars": 20000}
CROWD_SETTING = {"limits.members_per_room": 15000}
SOCKETS_MAX = 15000  # of one generator: carillon-load's own bound (ENGINE_PEERS_MAX)
# Where the kernel has what io_uring keeps of a socket that waits (Linux 6.18, /proc/slabinfo): the request; of an armed receive
# also its poll (struct async_poll) and its message header (struct io_async_msghdr). A TCP socket has nothing of these sizes.
IO_URING_SLABS = {"io_kiocb": 256, "kmalloc-96": 96, "kmalloc-512": 512}
SLAB_SEEN = 0.9  # of the generator's part: the rest of the machine frees something meanwhile
TCP_SLABS = ("TCP", "sock_inode_cache", "filp")
SETTLE_S = 0.3  # late frees and replies are done
WRK_CONNECTIONS = 64
WRK_CONNECTIONS_SOME = 16  # that leave the server's CPU time to spare, so that latency is not the time in its queues
HOLDERS_READY_S = 60  # for each generator
OTHERS_PERCENT_MAX = 5.0  # of one CPU: what other programs may use during a run without disturbing it

UNREADABLE = ("io_uring_bytes", "tcp_bytes")  # figures that not every machine lets read

ROWS = {}  # name: (title, whether only --all runs it, function)


def row(name, title, big=False):
    def keep(function):
        ROWS[name] = (title, big, function)
        return function
    return keep


@dataclasses.dataclass
class Target:
    """What a row promises: `value` takes the rounds and gives a spread; `must` and `stretch` are bounds, None without."""

    text: str
    sign: str  # ">=" or "<="
    value: object
    must: float = None
    stretch: float = None
    unit: str = ""

    def judge(self, rounds):
        """What --json shows; `met` is None where somebody to compare with is absent."""
        try:
            value = self.value(rounds)
        except KeyError as absent:
            return {**self._shape(), "value": None, "must_met": None, "stretch_met": None, "absent": absent.args[0]}
        return {**self._shape(), "value": value, "must_met": self._holds(value, self.must),
                "stretch_met": self._holds(value, self.stretch)}

    def _shape(self):
        return {"text": self.text, "sign": self.sign, "must": self.must, "stretch": self.stretch, "unit": self.unit}

    def _holds(self, value, bound):
        if bound is None:
            return None
        return value["median"] >= bound if self.sign == ">=" else value["median"] <= bound


@dataclasses.dataclass
class Result:
    rounds: dict   # contestant: [figures of round 1, …]
    columns: dict  # figure: heading
    targets: list
    titles: dict = dataclasses.field(default_factory=dict)  # contestant: what it is
    absent: dict = dataclasses.field(default_factory=dict)  # contestant: why


def taken(result, figure):
    """A figure of a contestant that ran: that it has none is a mistake, and no reason for a target to pass unmeasured."""
    if figure not in result and figure not in UNREADABLE:
        raise lab.Failure(f"a run has no figure {figure}; it has {', '.join(result)}")
    return result[figure]


def ratio(figure, of, other="carillon"):
    """carillon's figure ÷ the other's of the same round."""
    return lambda rounds: lab.ratio(rounds, other, of, lambda result: taken(result, figure))


def figure(name, contestant="carillon"):
    return lambda rounds: lab.figure(rounds[contestant], lambda result: taken(result, name))


def above(name, *of, contestant="carillon"):
    """How far a figure stands above those of others, added up, in the same round."""
    return lambda rounds: lab.spread(taken(one, name) - sum(taken(other, name) for other in others)
                                     for one, *others in zip(rounds[contestant], *(rounds[name] for name in of), strict=True))


class Bench:
    """What rows need of the command line, and what they start: everything is on an ExitStack of the row."""

    def __init__(self, options):
        self.build, self.directory, self.tiny, self.runs = options.build, options.directory, options.tiny, options.runs
        self.seconds = 0.2 if options.tiny else options.seconds
        self.titles, self.absent, self.frame = {}, {}, CONTENT_BYTES + 218

    def pick(self, full, tiny):
        return tiny if self.tiny else full

    def gateway(self, stack, settings=None, cores=1, cpu=None, name="carillon"):
        gateway = stack.enter_context(lab.Gateway(self.build, settings, cores, cpu, self.directory))
        durability = (settings or {}).get("durability", "fsync")
        self.titles[name] = f"Carillon, {durability}" + (f", {cores} cores" if cores > 1 else "")
        return gateway

    def peer(self, stack, name):
        """The peer, or None when it is absent."""
        try:
            peer = stack.enter_context(peers.serve(name, self.build, self.directory))
        except peers.Absent as reason:
            self.absent[name] = str(reason)
            return None
        self.titles[name] = peer.title
        return peer

    def load(self, server, scenario, *shape, seconds=None, cpu=None):
        """Runs carillon-load against a gateway or a peer. Figures of all depths are in one dictionary: latency_ok.p50_us."""
        seconds = self.seconds if seconds is None else seconds
        command = [lab.program(self.build, "carillon-load"), scenario, *shape, "--url", server.url, "--pid", server.pid,
                   "--json"]
        if isinstance(server, lab.Gateway):
            command += ["--master-key", server.master_key]
        else:
            command += ["--peer", server.dialect] if server.dialect else []
        if scenario != "connect":
            command += ["--seconds", seconds]
        if scenario in ("fanout", "chat", "durable"):
            command += ["--warmup", self.pick(0.5, 0.1)]
        if scenario in ("fanout", "chat") and not isinstance(server, lab.Gateway):
            command += ["--frame", self.frame]
        figures = flat(lab.run(command, lab.cpus()[1] if cpu is None else cpu, timeout_s=seconds + lab.PROGRAM_S))
        if not self.tiny and figures.get(DELIVERIES) == 0:
            raise lab.Failure(f"{scenario}: nothing was delivered within {seconds} s")
        if isinstance(server, lab.Gateway) and figures.get("push_bytes"):
            self.frame = round(figures["push_bytes"])  # what the peers are given from now on
        return figures

    def alternate(self, contestants, columns, targets):
        rounds = lab.alternate({name: watched(contestant) for name, contestant in contestants.items()}, self.runs)
        titles = {name: self.titles.get(name, name) for name in contestants}
        return Result(rounds, columns, targets, titles, dict(self.absent))


def watched(contestant):
    """The contestant, whose figures also say how much of the CPUs others used meanwhile (`others_percent`, 100 is one
    CPU): a run that was disturbed shows it."""
    def run():
        began, before, own = time.monotonic(), busy_seconds(), own_cpu_seconds()
        figures = contestant()
        took = time.monotonic() - began
        others = busy_seconds() - before - (own_cpu_seconds() - own)
        return {**figures, "others_percent": max(0.0, 100 * others / took)}
    return run


def busy_seconds():
    """User and system time of all CPUs, without interrupts, which belong to nobody (proc(5))."""
    with open("/proc/stat", encoding="utf-8") as stat:
        user, nice, system = stat.readline().split()[1:4]
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def own_cpu_seconds():
    """CPU time of this program and of everything that it has started."""
    times, running = os.times(), 0
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="utf-8") as children:
        for pid in children.read().split():
            with contextlib.suppress(OSError):
                running += peers.cpu_ns(int(pid))
    return times.user + times.system + times.children_user + times.children_system + running / 1e9


def flat(result, prefix=""):
    figures = {}
    for name, value in result.items():
        if isinstance(value, dict):
            figures.update(flat(value, f"{prefix}{name}."))
        else:
            figures[prefix + name] = value
    return figures


def floor_is_there(bench):
    """Whether the programs of perf/floor/ are built: a sanitizer's build leaves them out."""
    if os.access(os.path.join(bench.build, "perf", "floor-fanout"), os.X_OK):
        return True
    bench.absent["floor"] = "perf/floor is not built"
    return False


def fanout_floor(bench, subscribers, window=1):
    """[(name, function)]: one prebuilt frame, as long as the gateway's, to as many sockets is what the kernel takes."""
    bench.titles["floor"] = f"floor: silent io_uring sends of one frame to {subscribers} sockets"

    def run():
        # the frame's length is known only now: the gateway has run in this round or the one before
        result = lab.run([lab.program(bench.build, os.path.join("perf", "floor-fanout")), "--json",
                          "--subscribers", subscribers, "--window", window, "--size", bench.frame + WS_HEADER_BYTES,
                          "--seconds", bench.seconds])
        return {DELIVERIES: result["deliveries_per_second"], DELIVERY_CPU: result["cpu_ns_per_delivery"],
                "messages_per_second": result["messages_per_second"],
                "generator_cpu_percent": result["receiver_cpu_percent"]}
    return [("floor", run)] if floor_is_there(bench) else []


def commit_floor(bench):
    """[(name, function)]: the least that a durable answer waits, where the gateway's data lies."""
    bench.titles["commit floor"] = "commit floor: append and fdatasync of 5000 messages a second as they are due"

    def run():
        result = lab.commit_floor(bench.build, bench.directory or tempfile.gettempdir(), seconds=bench.seconds)
        return {"latency_delivery.p50_us": result["p50_us"], "latency_delivery.p99_us": result["p99_us"],
                "p50_us": result["p50_us"], "p99_us": result["p99_us"]}
    return [("commit floor", run)] if floor_is_there(bench) else []


# --- fan-out ----------------------------------------------------------------------------------------------------------

DELIVERIES = "deliveries_per_second"
DELIVERY_CPU = "server_cpu_ns_per_delivery"
BROADCAST_COLUMNS = {DELIVERIES: "deliveries/s", "messages_per_second": "messages/s", DELIVERY_CPU: "CPU ns each",
                     "latency_delivery.p50_us": "p50 µs", "latency_delivery.p99_us": "p99 µs",
                     "generator_cpu_percent": "generator %"}


def write_floor(bench):
    """[(name, function)]: the least that an answer of class fast waits where one CPU does everything."""
    bench.titles["write floor"] = "write floor: a row to a thread that writes it, unsynced, and back, 5000 a second"

    def run():
        result = lab.write_floor(bench.build, bench.directory or tempfile.gettempdir(), seconds=bench.seconds)
        return {"latency_delivery.p50_us": result["p50_us"], "latency_delivery.p99_us": result["p99_us"]}
    return [("write floor", run)] if floor_is_there(bench) else []


def broadcast(bench, shape, names, targets, fast=False, settings=None, columns=None, floors=()):
    """One shape of load (scenario and options) on a gateway, one that is `fast` if asked for, and peers; `floors` are
    (name, function) that run beside them."""
    with contextlib.ExitStack() as stack:
        contestants = {}

        def contestant(name, server):
            contestants[name] = lambda: bench.load(server, *shape)
        contestant("carillon", bench.gateway(stack, settings))
        if fast:
            contestant("fast", bench.gateway(stack, {**(settings or {}), "durability": "fast"}, name="fast"))
        for name in names:
            peer = bench.peer(stack, name)
            if peer:
                contestant(name, peer)
        contestants.update(floors)
        return bench.alternate(contestants, columns or BROADCAST_COLUMNS, targets)


@row("W1", "1 room, 1000 subscribers, 1 message in flight")
def w1(bench):
    shape = ("fanout", "--subscribers", bench.pick(1000, 40), "--in-flight", 1)
    return broadcast(bench, shape, ("uws", "nchan", "ws", "socket.io"), [
        Target("deliveries/s ÷ uws", ">=", ratio(DELIVERIES, "uws"), 0.95, 1.0),
        Target("deliveries/s ÷ floor", ">=", ratio(DELIVERIES, "floor"), 0.95, 1.0),
        Target("CPU of a delivery ÷ uws", "<=", ratio(DELIVERY_CPU, "uws"), 0.9)],
                     floors=fanout_floor(bench, bench.pick(1000, 40)))


@row("W16", "1 room, 1000 subscribers, 16 messages in flight")
def w16(bench):
    shape = ("fanout", "--subscribers", bench.pick(1000, 40), "--in-flight", 16)
    return broadcast(bench, shape, ("uws", "nchan", "ws"), [
        Target("deliveries/s ÷ uws", ">=", ratio(DELIVERIES, "uws"), 1.0, 1.1),
        Target("CPU of a delivery ÷ uws", "<=", ratio(DELIVERY_CPU, "uws"), 0.85),
        Target("deliveries/s ÷ nchan", ">=", ratio(DELIVERIES, "nchan"), 10)],
                     floors=fanout_floor(bench, bench.pick(1000, 40), 16))


@row("100x10", "100 rooms of 10 subscribers, 100 publishers, 4 messages in flight each")
def rooms_of_ten(bench):
    num = bench.pick(100, 5)
    shape = ("fanout", "--rooms", num, "--subscribers", 10, "--publishers", num, "--in-flight", 4)
    return broadcast(bench, shape, ("uws", "nchan"), [
        Target("deliveries/s ÷ uws", ">=", ratio(DELIVERIES, "uws"), 1.0, 1.1),
        Target("CPU of a delivery ÷ uws", "<=", ratio(DELIVERY_CPU, "uws"), 0.9),
        Target("deliveries/s ÷ nchan", ">=", ratio(DELIVERIES, "nchan"), 3)])


@row("100x2", "100 rooms of 2 members who both talk, 1 message in flight each; durable and `fast`")
def rooms_of_two(bench):
    return broadcast(bench, ("chat", "--rooms", bench.pick(100, 5), "--members", 2), ("uws",), [
        Target("deliveries/s ÷ uws", ">=", ratio(DELIVERIES, "uws"), 0.7, 0.8),
        Target("fast: deliveries/s ÷ uws", ">=", ratio(DELIVERIES, "uws", "fast"), 0.9)], fast=True)


@row("16KiBx100", "1 room, 100 subscribers, messages of 16 KiB, 1 in flight")
def large(bench):
    shape = ("fanout", "--subscribers", bench.pick(100, 10), "--size", LARGE_BYTES)
    return broadcast(bench, shape, ("uws",), [
        Target("deliveries/s ÷ uws", ">=", ratio(DELIVERIES, "uws"), 0.9, 1.0)], settings=LARGE_SETTING,
                     floors=fanout_floor(bench, bench.pick(100, 10)))


LATENCY_COLUMNS = {"latency_delivery.p50_us": "p50 µs", "latency_delivery.p99_us": "p99 µs",
                   "latency_delivery.p999_us": "p99.9 µs", "messages_per_second": "messages/s", DELIVERY_CPU: "CPU ns each"}


@row("latency", "open loop of 5000 messages a second, 100 rooms of 2 members; from when a message was due to its receipts")
def latency(bench):
    shape = ("chat", "--rooms", bench.pick(100, 5), "--members", 2, "--rate", bench.pick(5000, 500))
    p50, p99 = "latency_delivery.p50_us", "latency_delivery.p99_us"
    return broadcast(bench, shape, ("uws",), [
        Target("p50 above the commit floor's", "<=", above(p50, "commit floor"), 60, unit=" µs"),
        Target("p99 ÷ the commit floor's", "<=", ratio(p99, "commit floor"), 1.5),
        Target("fast: p50", "<=", figure(p50, "fast"), 60, 45, " µs"),
        Target("fast: p50 above uws' and the write floor's", "<=", above(p50, "uws", "write floor", contestant="fast"),
               unit=" µs")], fast=True, columns=LATENCY_COLUMNS, floors=commit_floor(bench) + write_floor(bench))


# --- connections ------------------------------------------------------------------------------------------------------


@row("upgrades", "WebSocket upgrades, each with the end of an older connection")
def upgrades(bench):
    shape = ("connect", "--connections", bench.pick(20000, 500), "--hold", bench.pick(1000, 50))
    cpu = "server_cpu_us_per_upgrade"
    columns = {"upgrades_per_second": "upgrades/s", cpu: "CPU µs each", "latency_upgrade.p50_us": "p50 µs"}
    with contextlib.ExitStack() as stack:
        contestants, gateway = {}, bench.gateway(stack)
        contestants["carillon"] = lambda: bench.load(gateway, *shape)
        for name in ("uws", "nchan", "ws"):
            peer = bench.peer(stack, name)
            if peer:
                contestants[name] = lambda peer=peer: bench.load(peer, *shape)
        return bench.alternate(contestants, columns, [
            Target("CPU of an upgrade", "<=", figure(cpu), 22, 17, " µs"),
            Target("CPU of an upgrade ÷ uws", "<=", ratio(cpu, "uws"))])


# --- durable ----------------------------------------------------------------------------------------------------------

ACKS = "acked_per_second"
ACK_COLUMNS = {ACKS: "acked/s", "server_cpu_ns_per_message": "CPU ns each", "latency_ok.p50_us": "p50 µs",
               "latency_ok.p99_us": "p99 µs"}
REDIS_STREAMS = 16


def redis_benchmark(bench, redis, pipeline):
    """XADD of as many bytes as a message into streams, by redis-benchmark: 16 clients, each sends `pipeline` commands
    and waits for their answers, which come after the fsync of the turn that took them."""
    num = bench.pick({1: 40000, 64: 600000}[pipeline], 2000)
    command = ["redis-benchmark", "-h", "127.0.0.1", "-p", redis.port, "-c", 16, "-P", pipeline, "-n", num,
               "-r", REDIS_STREAMS, "--csv", "XADD", "stream:__rand_int__", "*", "content", "a" * CONTENT_BYTES]
    before = peers.cpu_ns(redis.pid)
    lines = run_text(command, lab.cpus()[1]).strip().splitlines()
    used = peers.cpu_ns(redis.pid) - before
    names, values = ([cell.strip('"') for cell in line.split('","')] for line in lines[-2:])
    said = dict(zip(names, values, strict=True))
    run_text(["redis-cli", "-h", "127.0.0.1", "-p", redis.port, "FLUSHALL"], lab.cpus()[1])
    return {ACKS: float(said["rps"]), "server_cpu_ns_per_message": used / num,
            "latency_ok.p50_us": float(said["p50_latency_ms"]) * 1e3,
            "latency_ok.p99_us": float(said["p99_latency_ms"]) * 1e3}


def run_text(command, cpu, timeout_s=lab.PROGRAM_S):
    """Runs a program that prints text and returns it."""
    process = lab.start(command, cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise lab.Failure(f"{command[0]} took more than {timeout_s} s") from None
    finally:
        lab.end(process)
    if process.returncode != 0:
        raise lab.Failure(f"{command[0]} ended with code {process.returncode}: {(err or out)[-1000:]}")
    return out


def acks(bench, in_flight, targets):
    with contextlib.ExitStack() as stack:
        gateway, redis = bench.gateway(stack), bench.peer(stack, "redis")
        contestants = {"carillon": lambda: bench.load(gateway, "durable", "--publishers", 16, "--in-flight", in_flight)}
        if redis:
            contestants["redis"] = lambda: redis_benchmark(bench, redis, in_flight)
        return bench.alternate(contestants, ACK_COLUMNS, targets)


@row("durable-64", "messages acknowledged: 16 publishers, 64 in flight each, every answer after its fsync")
def durable_64(bench):
    return acks(bench, 64, [Target("acked/s", ">=", figure(ACKS), 150_000, unit="/s"),
                            Target("acked/s ÷ Redis Streams", ">=", ratio(ACKS, "redis"), stretch=0.5)])


@row("durable-1", "messages acknowledged: 16 publishers, 1 in flight each")
def durable_1(bench):
    return acks(bench, 1, [Target("acked/s ÷ Redis Streams", ">=", ratio(ACKS, "redis"), 1.0)])


# --- REST -------------------------------------------------------------------------------------------------------------


def wrk(bench, server, script, *arguments, connections=WRK_CONNECTIONS):
    """wrk with one thread; the script's last line is its JSON. `all_cpu_us` is the CPU time that answers to all connections
    take the server: on one CPU a p50 is not below it by much, however short each request's own way is."""
    before, own = peers.cpu_ns(server.pid), os.times()
    said = json.loads(run_text(["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(bench.seconds))}s", "-s",
                                os.path.join(lab.ROOT, "perf", "wrk", script), server.url, "--", *arguments],
                               lab.cpus()[1]).strip().splitlines()[-1])
    if said["failed"] or said["lost"] or not said["requests"]:
        raise lab.Failure(f"wrk: {said['failed']} of {said['requests']} requests failed, {said['lost']} connections were lost")
    now = os.times()
    wrk_s = now.children_user + now.children_system - own.children_user - own.children_system
    cpu_ns = (peers.cpu_ns(server.pid) - before) / said["requests"]
    return {**said, "answers_per_second": said["requests"] / said["seconds"],
            "generator_cpu_percent": 100 * wrk_s / said["seconds"], "cpu_ns": cpu_ns,
            "all_cpu_us": connections * cpu_ns / 1000}


def wrk_installed(bench):
    try:
        run_text(["sh", "-c", "command -v wrk"], None)
    except lab.Failure:
        bench.absent["wrk"] = "wrk is not installed (tools/bootstrap --perf, package wrk)"
        return False
    return True


REST_COLUMNS = {"answers_per_second": "answers/s", "cpu_ns": "CPU ns each", "p50_us": "p50 µs", "p99_us": "p99 µs",
                "generator_cpu_percent": "generator %"}


@row("rest-health", "GET /health by wrk, 64 connections")
def rest_health(bench):
    answers = "answers_per_second"
    targets = [Target("answers/s ÷ uws", ">=", ratio(answers, "uws"), 1.0),
               Target("answers/s ÷ nginx", ">=", ratio(answers, "nginx"), 1.1),
               Target("CPU of an answer ÷ uws", "<=", ratio("cpu_ns", "uws")),
               Target("CPU of an answer ÷ nginx", "<=", ratio("cpu_ns", "nginx"))]
    if not wrk_installed(bench):
        return Result({}, REST_COLUMNS, targets, {}, dict(bench.absent))
    with contextlib.ExitStack() as stack:
        servers = {"carillon": bench.gateway(stack)}
        servers.update((name, bench.peer(stack, name)) for name in ("uws", "nginx", "ws"))
        return bench.alternate({name: lambda server=server: wrk(bench, server, "rest.lua")
                                for name, server in servers.items() if server}, REST_COLUMNS, targets)


def commit_floor_at(bench, rate):
    """A function: the commit floor at `rate()` messages a second. The more there are, the more of them come while the one
    before is being synced, and wait for that too."""
    def run():
        result = lab.commit_floor(bench.build, bench.directory or tempfile.gettempdir(), rate=rate(), seconds=bench.seconds)
        return {"p50_us": result["p50_us"], "p99_us": result["p99_us"], "answers_per_second": result["messages_per_second"]}
    return run


def in_queue(rounds):
    """p50 ÷ the CPU time that answers to all connections take: near 1 the server does nothing but answer."""
    return lab.figure(rounds["carillon"], lambda result: taken(result, "p50_us") / taken(result, "all_cpu_us"))


@row("rest-send", "durable sends over HTTP by wrk, 64 connections, and 16")
def rest_send(bench):
    some = f"{WRK_CONNECTIONS_SOME} connections"
    targets = [Target("p50 above the commit floor's", "<=", above("p50_us", "commit floor"), 100, unit=" µs"),
               Target("p50 above the floor's at its rate", "<=", above("p50_us", "floor at its rate"), unit=" µs"),
               Target("p50 ÷ the CPU time of 64 answers", "<=", in_queue),
               Target(f"{some}: p50 above the floor's at its rate", "<=", above("p50_us", f"{some}: floor", contestant=some), 100,
                      unit=" µs"),
               Target("p99", "<=", figure("p99_us"), 10_000, unit=" µs")]
    if not wrk_installed(bench):
        return Result({}, REST_COLUMNS, targets, {}, dict(bench.absent))
    with contextlib.ExitStack() as stack:
        gateway, rates = bench.gateway(stack), {}
        key, room = under_load.make_room(gateway, "alice")

        def sends(name, connections):
            def run():
                result = wrk(bench, gateway, "send.lua", key, "alice", room, connections=connections)
                rates[name] = result["answers_per_second"]
                return result
            return run
        bench.titles[some] = f"Carillon, fsync, {some}"
        contestants = {"carillon": sends("carillon", WRK_CONNECTIONS), some: sends(some, WRK_CONNECTIONS_SOME),
                       **dict(commit_floor(bench))}
        if floor_is_there(bench):
            bench.titles["floor at its rate"] = "commit floor at as many messages a second"
            bench.titles[f"{some}: floor"] = f"commit floor at as many as with {some}"
            contestants["floor at its rate"] = commit_floor_at(bench, lambda: rates["carillon"])
            contestants[f"{some}: floor"] = commit_floor_at(bench, lambda: rates[some])
        return bench.alternate(contestants, REST_COLUMNS, targets)


# --- memory and scale -------------------------------------------------------------------------------------------------


def user_bytes(pid):
    """Memory of its own that a process has, shared memory too, but no files (proc(5), smaps_rollup: exact, unlike status)."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as rollup:
        fields = dict(line.split(":", 1) for line in rollup if ":" in line)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("Pss_Anon", "Pss_Shmem"))


def resident_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as rollup:
        return next(int(line.split()[1]) / 1024 for line in rollup if line.startswith("Rss:"))


def slab_bytes():
    """Bytes in use of each of the kernel's slab caches, of the whole machine; None where /proc/slabinfo cannot be read."""
    try:
        with open("/proc/slabinfo", encoding="utf-8") as slabs:
            rows = [line.split() for line in slabs][2:]  # behind the version and the names of the columns
    except OSError:
        return None
    return {fields[0]: int(fields[1]) * int(fields[3]) for fields in rows}


def kernel_figures(before, after, sockets):
    """What a further socket has taken of the kernel's memory. The generator has a receive armed on each of its own, and the
    other end of each TCP connection. Where not even the generator's part shows, the kernel keeps it in other caches
    (CONFIG_RANDOM_KMALLOC_CACHES, other sizes), and nothing is said of io_uring: the difference would be far too low."""
    if before is None or after is None:
        return {}
    grown = {name: (size - before.get(name, 0)) / sockets for name, size in after.items()}
    figures = {"tcp_bytes": sum(grown.get(name, 0) for name in TCP_SLABS) / 2}
    if all(grown.get(name, 0) >= SLAB_SEEN * generators for name, generators in IO_URING_SLABS.items()):
        figures["io_uring_bytes"] = sum(grown[name] - generators for name, generators in IO_URING_SLABS.items())
    return figures


class Holders:
    """Generators that hold idle connections which are subscribed to rooms; ended with the context."""

    def __init__(self, bench, server):
        self.bench, self.server, self.processes, self.num = bench, server, [], 0
        time.sleep(SETTLE_S)  # whoever looked whether it serves is gone
        self.descriptors_before = self.descriptors()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            lab.end(process, 5)

    def add(self, num, users, state=None):
        """Waits until all are there. With the same `state` file the connections are of the same users and room."""
        self.num += num
        command = [lab.program(self.bench.build, "carillon-load"), "idle", "--connections", num, "--rooms", 1,
                   "--source", f"127.0.1.{len(self.processes) + 1}", "--seconds", 3600, "--url", self.server.url]
        if isinstance(self.server, lab.Gateway):
            command += ["--master-key", self.server.master_key, "--users", users]
            command += ["--state", state] if state else []
        else:
            command += ["--peer", self.server.dialect]
        self.processes.append(lab.start(command, lab.cpus()[1], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        text=True))
        until = time.monotonic() + HOLDERS_READY_S
        while self.there() < self.num:
            self.whole()
            if time.monotonic() > until:
                raise lab.Failure(f"{self.there()} of {self.num} idle connections came within {HOLDERS_READY_S} s")
            time.sleep(0.05)

    def whole(self):
        for process in self.processes:
            if process.poll() is not None:
                raise lab.Failure(f"a holder of idle connections ended: {process.stderr.read()[-500:]}")

    def there(self):
        """Subscriptions of the gateway; for a peer, which does not say, what it has opened since."""
        if isinstance(self.server, lab.Gateway):
            return metric(self.server, "carillon_subscriptions")
        return self.descriptors() - self.descriptors_before

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.server.pid}/fd"))


def metric(gateway, name):
    with urllib.request.urlopen(gateway.url + "/metrics", timeout=20) as answer:
        for line in answer.read().decode().splitlines():
            if line.split("{")[0].split(" ")[0] == name:
                return float(line.rsplit(" ", 1)[1])
    raise lab.Failure(f"/metrics has no {name}")


@row("memory", "idle connections subscribed to one room: what a further one takes, and a room of 15,000 members", big=True)
def memory(bench):
    some, more, members = bench.pick(4000, 200), bench.pick(10000, 800), bench.pick(15000, 1000)

    def further(start):
        """What `more` sockets take behind `some`: those of the gateway are one user's."""
        with contextlib.ExitStack() as stack:
            server = start(stack)
            holders = stack.enter_context(Holders(bench, server))
            state = os.path.join(server.directory, "state") if isinstance(server, lab.Gateway) else None
            holders.add(some, 1, state)
            time.sleep(SETTLE_S)
            before, slabs = user_bytes(server.pid), slab_bytes()
            holders.add(more, 1, state)
            time.sleep(SETTLE_S)
            holders.whole()
            figures = {"socket_bytes": (user_bytes(server.pid) - before) / more}
            if isinstance(server, lab.Gateway):
                figures.update(kernel_figures(slabs, slab_bytes(), more))
            return figures

    def crowd():
        with contextlib.ExitStack() as stack:
            gateway = bench.gateway(stack, CROWD_SETTING)
            holders = stack.enter_context(Holders(bench, gateway))
            holders.add(members, members)
            return {"rss_mib": resident_mib(gateway.pid)}

    contestants = {"carillon": lambda: {**further(bench.gateway), **crowd()}}
    for name in ("uws", "nchan", "ws"):
        with contextlib.ExitStack() as stack:
            if bench.peer(stack, name):
                contestants[name] = lambda name=name: further(lambda stack: bench.peer(stack, name))
    columns = {"socket_bytes": "bytes a socket", "io_uring_bytes": "io_uring bytes", "tcp_bytes": "TCP bytes",
               "rss_mib": "RSS MiB"}
    return bench.alternate(contestants, columns, [
        Target("user-space bytes of an idle connection", "<=", figure("socket_bytes"), 400, 350),
        Target("what io_uring keeps of an idle connection, in bytes", "<=", figure("io_uring_bytes"), 300),
        Target(f"RSS with {members:,} connected members of one room", "<=", figure("rss_mib"), 50, unit=" MiB")])


@row("scale-connections", "100,000 idle connections at once on 6 cores, and 1000 messages a second beside them", big=True)
def scale_connections(bench):
    num = bench.pick(100_000, 600)

    def crowded():
        with contextlib.ExitStack() as stack:
            gateway = bench.gateway(stack, CROWD_SETTING, cores=6)
            holders = stack.enter_context(Holders(bench, gateway))
            began = time.monotonic()
            while holders.num < num:
                part = min(SOCKETS_MAX, num - holders.num)
                holders.add(part, part)
            took, idle = time.monotonic() - began, holders.there()
            figures = bench.load(gateway, "chat", "--rooms", bench.pick(100, 5), "--members", 2, "--rate", 1000)
            holders.whole()
            return {**figures, "idle": idle, "connecting_s": took, "rss_mib": resident_mib(gateway.pid)}
    columns = {"idle": "idle", "connecting_s": "connecting s", "rss_mib": "RSS MiB", **LATENCY_COLUMNS}
    return bench.alternate({"carillon": crowded}, columns, [
        Target("idle connections at once", ">=", figure("idle"), num),
        Target("p99 of a delivery beside them", "<=", figure("latency_delivery.p99_us"), 5000, unit=" µs")])


def spread_over(bench, gateway, connections, rate):
    """Rooms of 10 people, one of them talks; the same number of messages however many rooms there are."""
    rooms = max(1, connections // 10)
    return bench.load(gateway, "fanout", "--rooms", rooms, "--subscribers", 9, "--publishers", rooms, "--rate", rate)


SCALE_COLUMNS = {DELIVERIES: "deliveries/s", DELIVERY_CPU: "CPU ns each", "latency_delivery.p99_us": "p99 µs"}


@row("scale-cpu", "the same 3000 messages a second in rooms of 10: 100 and 15,000 connections; 1 core and 2", big=True)
def scale_cpu(bench):
    rate, many = bench.pick(3000, 200), bench.pick(14990, 200)
    with contextlib.ExitStack() as stack:
        one = bench.gateway(stack)
        two = bench.gateway(stack, cores=2, cpu=",".join(map(str, sorted(set(lab.cpus())))), name="2 cores")
        bench.titles["15,000"] = "Carillon, fsync, 15,000 connections"
        return bench.alternate({
            "carillon": lambda: spread_over(bench, one, 100, rate),
            "2 cores": lambda: spread_over(bench, two, 100, rate),
            "15,000": lambda: spread_over(bench, one, many, rate)}, SCALE_COLUMNS, [
                Target("CPU of a delivery, 2 cores ÷ 1", "<=", ratio(DELIVERY_CPU, "carillon", "2 cores"), 1.15),
                Target("CPU of a delivery, 15,000 connections ÷ 100", "<=", ratio(DELIVERY_CPU, "carillon", "15,000"), 1.15)])


def bound(target, word):
    """≥ 0.95, or nothing where there is no such bound."""
    if target[word] is None:
        return ""
    return f"{'≥' if target['sign'] == '>=' else '≤'} {lab.number(target[word])}{target['unit']}"


def said(target):
    """The measured value. A ratio has three digits: 0.997 must not read like 1 beside a bound of 1."""
    value = target["value"]
    if target["unit"] or value["median"] >= 10:
        return lab.span(value, target["unit"])
    text = f"{value['median']:.3g}"
    return text if value["runs"] == 1 else f"{text} ({value['min']:.3g}–{value['max']:.3g})"


def target_line(target):
    """One judged target for people."""
    bounds = [f"{word} {bound(target, word)}" for word in ("must", "stretch") if target[word] is not None]
    if target["value"] is None:
        return f"{target['text']}: not measured ({', '.join(bounds)})"
    verdict = {True: "met", False: "MISSED", None: ""}[target["must_met"]]
    if target["stretch_met"]:
        verdict = "stretch met"
    line = f"{target['text']}: {said(target)}"
    return line + (f" ({', '.join(bounds)})" if bounds else "") + (f": {verdict}" if verdict else "")
