"""What the programs of perf/ share: describing the machine, running programs pinned and bounded, a gateway of one's
own, contestants in alternation, medians, ratios and tables. Standard library only.

    import lab

    def measure(options):
        with lab.Gateway(options.build) as gateway:
            def main_build():
                return gateway.load("fanout", "--subscribers", 1000, seconds=3)
            rounds = lab.alternate({"carillon": main_build, "peer": peer}, options.runs)
        return lab.ratio(rounds, "carillon", "peer", lambda result: result["deliveries_per_second"])

    lab.main(measure, lab.arguments(__doc__).parse_args())

A number is a median of runs with its least and greatest; contestants run in turns, and a ratio is taken within one
round, because absolute figures drift from one minute to the next. Each process has a time limit and ends with this one,
however this one ends. A run that breaks a promise has no number: it raises Failure, and the exit code is 1."""
import argparse
import json
import os
import platform
import resource
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
READY_S = 15    # until a gateway says that it serves
STOP_S = 15     # from SIGTERM to its end
PROGRAM_S = 120  # a program's time limit when the caller names none
FSYNCS = 200    # appends that tell what an fsync costs in a directory


class Failure(Exception):
    """A run that has no number: a program failed, took too long, or counted what it should not."""


class Skip(Exception):
    """This machine cannot run it; the exit code is 77, as under ctest and automake."""


# --- the machine ------------------------------------------------------------------------------------------------------


def cpus():
    """(the server's CPU, the generator's CPU): the first two that this process may use; where there is one, twice it."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[min(1, len(usable) - 1)]


def machine(directory, fsyncs=FSYNCS):
    """What a reader of the figures has to know; `directory` is where the data under test lies."""
    return {
        "cpu": _cpu_model(), "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(), "descriptors_max": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "directory": os.path.realpath(directory), "filesystem": filesystem(directory),
        "fsync": fsync_latency(directory, fsyncs), "commit": commit(),
    }


def machine_lines(described):
    """The same for people."""
    fsync = described["fsync"]
    return [f"{described['cpus']} × {described['cpu']}, {described['memory_mib'] / 1024:.0f} GiB, "
            f"Linux {described['kernel']}, {described['descriptors_max']:,} descriptors a process",
            f"{described['directory']} on {described['filesystem']}: append and fdatasync "
            f"p50 {fsync['p50_us']:.0f} µs, p99 {fsync['p99_us']:.0f} µs; commit {described['commit']}"]


def _cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def filesystem(directory):
    """The type of the file system, and its device, from the longest mount point that holds the directory."""
    place, best = os.path.realpath(directory), ("", "unknown")
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            device, point, kind = line.split()[:3]
            point = point.encode().decode("unicode_escape")
            inside = place == point or place.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, f"{kind} ({device})")
    return best[1]


def fsync_latency(directory, times=FSYNCS, size=512):
    """Percentiles of append and fdatasync, one at a time: a durable answer cannot be quicker."""
    path = os.path.join(directory, f"fsync-{os.getpid()}")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    took = []
    try:
        for _ in range(times):
            began = time.perf_counter()
            os.write(descriptor, b"x" * size)
            os.fdatasync(descriptor)
            took.append((time.perf_counter() - began) * 1e6)
    finally:
        os.close(descriptor)
        os.unlink(path)
    return {"p50_us": round(percentile(took, 50), 1), "p99_us": round(percentile(took, 99), 1)}


def commit():
    """The commit of the tree, with `+` when tracked files differ from it; "unknown" outside of git."""
    def git(*command):
        return subprocess.run(["git", "-C", ROOT, *command], capture_output=True, text=True, timeout=20,
                              check=True).stdout
    try:
        changed = git("status", "--porcelain", "--untracked-files=no").strip()
        return git("rev-parse", "--short=10", "HEAD").strip() + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


# --- processes --------------------------------------------------------------------------------------------------------

_running = []  # Popen of what was started and not yet waited for


def start(command, cpu=None, **popen):
    """Starts a program on one CPU. It is killed when this process ends, whatever ends it: PR_SET_PDEATHSIG, prctl(2)."""
    prefix = ["setpriv", "--pdeathsig", "KILL"]
    if cpu is not None:
        prefix += ["taskset", "--cpu-list", str(cpu)]
    process = subprocess.Popen([*prefix, *map(str, command)], stdin=subprocess.DEVNULL, **popen)
    _running.append(process)
    return process


def end(process, timeout_s=0.0):
    """Waits for its end, kills it when that takes too long, and returns its exit code."""
    try:
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    finally:
        if process.returncode is not None and process in _running:
            _running.remove(process)
    return code


def end_all():
    for process in list(_running):
        process.kill()
        end(process, 5)


def run(command, cpu=None, timeout_s=PROGRAM_S):
    """Runs a program that prints one JSON object, and returns it. Failure when it fails, takes too long or prints
    something else."""
    name = os.path.basename(str(command[0]))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(command, cpu, stdout=out, stderr=err)
        began = time.monotonic()
        code = end(process, timeout_s)
        late = time.monotonic() - began >= timeout_s
        out.seek(0)
        err.seek(0)
        text, complaint = out.read().decode(errors="replace"), err.read().decode(errors="replace").strip()
    if code == 77:
        raise Skip(complaint or f"{name} cannot run here")
    if code != 0:
        why = f"took more than {timeout_s} s" if late else f"ended with code {code}"
        raise Failure(f"{name} {why}: {' '.join(map(str, command))}\n{complaint or text.strip()}"[-2000:])
    try:
        result = json.loads(text)
    except ValueError:
        raise Failure(f"{name} printed no JSON: {text[:200]!r} {complaint[-500:]}") from None
    if not isinstance(result, dict):
        raise Failure(f"{name} printed JSON that is no object: {text[:200]!r}")
    return result


class Gateway:
    """`carillon serve` on the server's CPU, with data of its own that goes with it. A context manager."""

    def __init__(self, build, settings=None, cores=1, cpu=None, directory=None):
        """`settings` are given by --set; `cpu` is a CPU or a list as of taskset ("0,1"); data lies in `directory`."""
        self.build, self.cores, self.settings = build, cores, dict(settings or {})
        self.cpu = cpus()[0] if cpu is None else cpu
        self.parent, self.directory, self.data = directory, None, None
        self.master_key = secrets.token_hex(16)
        self.process, self.address = None, None

    def __enter__(self):
        binary = program(self.build, "carillon")
        self.directory = tempfile.mkdtemp(prefix="carillon-perf-")  # a short path, as a Unix socket's must be
        self.data = tempfile.mkdtemp(prefix="carillon-perf-data-", dir=self.parent)
        self.log_path = os.path.join(self.directory, "log")
        settings = {"admin.master_key": self.master_key, "admin.socket": os.path.join(self.directory, "admin.sock"),
                    **self.settings}
        command = [binary, "serve", "--cores", self.cores, "--data", self.data, "--listen", "127.0.0.1:0"]
        for name, value in settings.items():
            command += ["--set", f"{name}={value}"]
        try:
            with open(self.log_path, "wb") as log:
                self.process = start(command, self.cpu, stdout=log, stderr=log)
            self.address = self._ready()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind, *_):
        """A gateway that does not end well spoils the numbers that were taken from it."""
        self.process.send_signal(signal.SIGTERM)
        code = end(self.process, STOP_S)
        last = self.log_tail()
        self._discard()
        if kind is None and code != 0:
            raise Failure(f"the gateway ended with code {code}: {last}")

    def _discard(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            end(self.process, 5)
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(self.data, ignore_errors=True)

    def _ready(self):
        """The address of its ready line."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            with open(self.log_path, "rb") as log:
                for line in log:
                    if line.endswith(b"\n") and b'"event":"ready"' in line:
                        return json.loads(line)["listen"]
            if self.process.poll() is not None:
                raise Failure(f"the gateway ended before it was ready: {self.log_tail()}")
            time.sleep(0.02)
        raise Failure(f"the gateway was not ready within {READY_S} s: {self.log_tail()}")

    def log_tail(self):
        with open(self.log_path, "rb") as log:
            return b"\n".join(log.read()[-2000:].splitlines()[-5:]).decode(errors="replace")

    @property
    def pid(self):
        return self.process.pid  # setpriv and taskset have become the gateway

    @property
    def url(self):
        return f"http://{self.address}"

    def load(self, scenario, *options, seconds=3, cpu=None):
        """Runs carillon-load against it on the generator's CPU and returns its JSON."""
        command = [program(self.build, "carillon-load"), scenario, *options, "--seconds", seconds, "--url", self.url,
                   "--master-key", self.master_key, "--pid", self.pid, "--json"]
        return run(command, cpus()[1] if cpu is None else cpu, timeout_s=seconds + PROGRAM_S)

    def cpu_seconds(self):
        """CPU time of all its threads so far."""
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def program(build, name):
    """The path of a program of the build directory; Failure with what to do when it is not there."""
    path = os.path.join(build, name)
    if not os.access(path, os.X_OK):
        raise Failure(f"{path} is not built: cmake --preset release && cmake --build --preset release")
    return path


def commit_floor(build, directory, rate=5000, seconds=2, size=330):
    """The least that a durable answer waits on this disk in this minute: {"p50_us", "p99_us", …} of floor-fsync, which
    appends and syncs what is due at `rate` messages of `size` bytes a second, and has nothing else to do."""
    return run([program(build, os.path.join("perf", "floor-fsync")), "--rate", rate, "--seconds", seconds,
                "--bytes", size, "--directory", directory, "--json"], timeout_s=seconds + PROGRAM_S)


def write_floor(build, directory, rate=5000, seconds=2, size=330):
    """The least that an answer of class fast waits on one CPU: {"p50_us", "p99_us", …} of floor-write, which hands each row
    to a thread that writes it into RocksDB and hands it back."""
    return run([program(build, os.path.join("perf", "floor-write")), "--rate", rate, "--seconds", seconds,
                "--bytes", size, "--directory", directory, "--json"], timeout_s=seconds + PROGRAM_S)


# --- rounds and what they say -----------------------------------------------------------------------------------------


def alternate(contestants, runs):
    """Runs each contestant (name: function) once a round, `runs` rounds: {name: [result of round 1, …]}. Every other
    round goes backwards, so that nobody always runs behind the same one."""
    results = {name: [] for name in contestants}
    for number in range(runs):
        order = list(contestants)
        for name in order if number % 2 == 0 else reversed(order):
            results[name].append(contestants[name]())
    return results


def percentile(values, percent):
    """The nearest-rank percentile: a value that was measured."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def spread(values):
    """{median, min, max, runs} of one figure's runs."""
    values = list(values)
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "runs": len(values)}


def figure(results, pick):
    """The spread of one figure over a contestant's results; `pick` is its name or a function of a result."""
    return spread(_picker(pick)(result) for result in results)


def ratio(rounds, name, other, pick):
    """The spread of figure(name) ÷ figure(other), each taken within one round."""
    of = _picker(pick)
    return spread(of(one) / of(two) for one, two in zip(rounds[name], rounds[other], strict=True))


def _picker(pick):
    return pick if callable(pick) else lambda result: result[pick]


# --- telling ----------------------------------------------------------------------------------------------------------


def number(value, unit=""):
    """Three digits that a person can compare: 2.37M, 163k, 4.95, 0.042; exact below 10,000 when it is whole. With a
    unit there is no M or k between the two: 12,345 µs."""
    size = abs(value)
    if unit and size >= 999.5:
        text = f"{value:,.0f}"
    elif size >= 999_500:
        text = f"{value / 1e6:.3g}M" if size < 999.5e6 else f"{value / 1e9:.3g}G"
    elif size >= 9_999.5:
        text = f"{value / 1e3:.3g}k"
    elif value == int(value):
        text = f"{int(value)}"
    elif size >= 100:
        text = f"{value:.0f}"
    elif size >= 1:
        text = f"{value:.3g}"
    else:
        text = f"{value:.2g}"
    return text + unit


def span(measured, unit=""):
    """A spread for people: median (min–max)."""
    if measured["runs"] == 1:
        return number(measured["median"], unit)
    ends = [number(measured[end], unit).removesuffix(unit) for end in ("min", "max")]
    return f"{number(measured['median'], unit)} ({'–'.join(ends)})"


def table(columns, rows):
    """Lines of aligned columns: the first to the left, the others to the right."""
    cells = [list(columns)] + [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = []
    for row in cells:
        others = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        lines.append("  ".join([row[0].ljust(widths[0])] + others).rstrip())
    return "\n".join(lines)


def progress(text):
    """What is being done, on standard error, so that standard output holds results alone."""
    print(text, file=sys.stderr, flush=True)


# --- programs ---------------------------------------------------------------------------------------------------------


def arguments(description, runs=5):
    """The options that every program of perf/ takes; add the program's own."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=positive, default=runs, metavar="N", help=f"runs of each figure ({runs})")
    parser.add_argument("--tiny", action="store_true",
                        help="the least that shows that everything works; no figures to quote")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.add_argument("--build", default=os.path.join(ROOT, "build", "release"), metavar="DIR",
                        help="build directory (build/release)")
    parser.add_argument("--directory", metavar="DIR", help="where data is written (the system's temporary directory)")
    return parser


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("a number above 0 is expected")
    return value


def main(work, options):
    """Runs work(options), which prints its results; ends with 0, 1 (Failure), 77 (Skip) or 130 (Ctrl-C), and leaves
    neither a process nor a directory of its own behind."""
    def stop(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, stop)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    name, code = os.path.basename(sys.argv[0]), 0
    try:
        work(options)
    except Failure as failure:
        code = 1
        print(f"{name}: {failure}", file=sys.stderr)
    except Skip as reason:
        code = 77
        print(f"{name}: {reason}", file=sys.stderr)
    except KeyboardInterrupt:
        code = 130
        print(f"{name}: stopped", file=sys.stderr)
    finally:
        end_all()
    sys.exit(code)
