"""The preload objects and the power model are proved on small programs, so that the fault tests rest on something: what
was not synced is lost, what was synced is kept, and a slow disk is slow."""
import errno
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import disk_faults  # noqa: E402
import lib  # noqa: E402
import power_model  # noqa: E402


class Worst:
    """Instead of a random generator: everything that may be lost is lost."""

    def choice(self, options):
        return options[0]

    def randint(self, low, high):
        return low

    def random(self):
        return 1.0


class Best(Worst):
    """Everything that may have reached the disk did."""

    def choice(self, options):
        return options[1]

    def randint(self, low, high):
        return high


@pytest.fixture(scope="session")
def preloads(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("preloads"))
    return {name: lib.build_preload(name, directory) for name in ("preload_sync", "preload_power", "preload_disk", "preload_clock")}


PROGRAM_HEAD = """
import os, signal
def opened(name, flags=os.O_WRONLY | os.O_CREAT): return os.open(name, flags, 0o644)
def sync_directory():
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY); os.fsync(fd); os.close(fd)
"""


@pytest.fixture
def power(preloads, tmp_path):
    """Runs a program under the preload up to its SIGKILL, cuts the power, returns {name: content} of what is left."""
    data, snapshot, journal = (str(tmp_path / name) for name in ("data", "snapshot", "journal"))
    os.makedirs(data)

    def cut(program, rng):
        shutil.rmtree(snapshot, ignore_errors=True)
        shutil.copytree(data, snapshot)
        if os.path.exists(journal):
            os.unlink(journal)
        environment = dict(os.environ, LD_PRELOAD=preloads["preload_power"], CARILLON_POWER_DIR=data,
                           CARILLON_POWER_JOURNAL=journal)
        done = subprocess.run([sys.executable, "-c", PROGRAM_HEAD + program + "\nos.kill(os.getpid(), signal.SIGKILL)"],
                              cwd=data, env=environment, check=False)
        assert done.returncode == -signal.SIGKILL
        model = power_model.Model(snapshot)
        model.replay(power_model.read_journal(journal))
        model.lose_power(rng)
        model.write_to(data)
        return {name: open(os.path.join(data, name), "rb").read() for name in sorted(os.listdir(data))}

    return cut


def test_what_was_synced_is_kept_and_what_came_after_is_lost(power):
    program = 'f = opened("a"); os.write(f, b"kept"); os.fdatasync(f); sync_directory(); os.write(f, b"lost")'
    assert power(program, Worst()) == {"a": b"kept"}


def test_what_was_not_synced_may_also_survive(power):
    program = 'f = opened("a"); os.write(f, b"kept"); os.fdatasync(f); sync_directory(); os.write(f, b" too")'
    assert power(program, Best()) == {"a": b"kept too"}


def test_an_overwritten_range_comes_back(power):
    power('f = opened("a"); os.write(f, b"0123456789"); os.fsync(f); sync_directory()', Worst())
    assert power('f = opened("a"); os.pwrite(f, b"XX", 4)', Worst()) == {"a": b"0123456789"}
    assert power('f = opened("a"); os.pwrite(f, b"XX", 4); os.fdatasync(f)', Worst()) == {"a": b"0123XX6789"}


def test_a_gathered_write_and_a_truncation_are_seen(power):
    power('f = opened("a"); os.writev(f, [b"01", b"23", b"45"]); os.fsync(f); sync_directory()', Worst())
    assert power('f = opened("a"); os.ftruncate(f, 2)', Worst()) == {"a": b"012345"}
    assert power('f = opened("a"); os.ftruncate(f, 2); os.fsync(f)', Worst()) == {"a": b"01"}
    assert power('f = opened("a", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)', Worst()) == {"a": b"01"}
    assert power('f = opened("a"); os.posix_fallocate(f, 0, 4); os.fsync(f)', Worst()) == {"a": b"01\0\0"}


def test_a_new_name_needs_a_sync_of_its_directory(power):
    assert power('f = opened("a"); os.write(f, b"x"); os.fsync(f)', Worst()) == {}
    assert power('f = opened("b"); os.write(f, b"x"); os.fsync(f); sync_directory()', Worst()) == {"b": b"x"}


def test_a_rename_needs_a_sync_of_its_directory(power):
    program = """
f = opened("current"); os.write(f, b"old"); os.fsync(f); sync_directory()
f = opened("next"); os.write(f, b"new"); os.fsync(f); sync_directory()
os.rename("next", "current")
"""
    assert power(program, Worst()) == {"current": b"old", "next": b"new"}
    assert power(program + "sync_directory()", Worst()) == {"current": b"new"}


def test_a_rename_without_a_sync_of_its_content_shows_an_empty_file(power):
    program = """
f = opened("current"); os.write(f, b"old"); os.fsync(f); sync_directory()
f = opened("next"); os.write(f, b"new"); os.rename("next", "current"); sync_directory()
"""
    assert power(program, Worst()) == {"current": b""}


def test_a_removed_file_comes_back_without_a_sync_of_its_directory(power):
    power('f = opened("a"); os.write(f, b"x"); os.fsync(f); sync_directory()', Worst())
    assert power('os.unlink("a")', Worst()) == {"a": b"x"}
    assert power('os.unlink("a"); sync_directory()', Worst()) == {}


def test_a_sync_does_not_cover_what_is_written_while_it_runs(power, monkeypatch):
    monkeypatch.setenv("CARILLON_POWER_SYNC_MS", "300")
    program = """
import threading, time
f = opened("a"); sync_directory(); os.write(f, b"kept")
syncer = threading.Thread(target=os.fdatasync, args=(f,)); syncer.start()
time.sleep(0.1); os.write(f, b"lost"); syncer.join()
"""
    assert power(program, Worst()) == {"a": b"kept"}


def test_a_torn_write_keeps_a_prefix(power):
    program = 'f = opened("a"); os.fsync(f); sync_directory(); os.write(f, b"0123456789" * 100)'
    lengths = {len(power(program + f"\n# {seed}", random.Random(seed))["a"]) for seed in range(12)}
    assert {0, 1000} & lengths and any(0 < length < 1000 for length in lengths)


SLOW = """
import os, sys, time
f = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o644)
for sync in (os.fsync, os.fdatasync):
    os.write(f, b"x"); began = time.monotonic(); sync(f); print(time.monotonic() - began)
"""


def slow(preload, tmp_path, **environment):
    done = subprocess.run([sys.executable, "-c", SLOW, str(tmp_path / "file")], check=True, stdout=subprocess.PIPE,
                          text=True, env=dict(os.environ, LD_PRELOAD=preload, **environment))
    return [float(line) for line in done.stdout.split()]


def test_a_slow_disk_delays_every_sync(preloads, tmp_path):
    assert min(slow(preloads["preload_sync"], tmp_path, CARILLON_SYNC_DELAY_MS="150")) >= 0.15
    assert min(slow(preloads["preload_sync"], tmp_path)) < 0.15


def test_the_delay_of_a_running_process_can_be_changed(preloads, tmp_path):
    delay = tmp_path / "delay"
    delay.write_bytes(struct.pack("<I", 0))
    program = SLOW.replace("for sync", "input()\nfor sync")
    environment = dict(os.environ, LD_PRELOAD=preloads["preload_sync"], CARILLON_SYNC_DELAY_FILE=str(delay))
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "file")], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True, env=environment)
    time.sleep(0.3)  # it has started, with no delay
    with open(delay, "r+b") as file:
        file.write(struct.pack("<I", 150))
    out, _ = child.communicate("\n", timeout=10)
    assert min(float(line) for line in out.split()) >= 0.15


def run_on(preloads, data, plan, program, *behind):
    """Runs a program in `data` under the faults of `plan`; returns what it printed."""
    environment = dict(os.environ, LD_PRELOAD=" ".join((preloads["preload_disk"], *behind)), CARILLON_DISK_DIR=str(data),
                       CARILLON_DISK_PLAN=plan.path, CARILLON_POWER_DIR=str(data),
                       CARILLON_POWER_JOURNAL=str(data) + ".journal")
    return subprocess.run([sys.executable, "-c", PROGRAM_HEAD + ATTEMPT + program], cwd=data, env=environment, check=True,
                          stdout=subprocess.PIPE, text=True).stdout.split()


ATTEMPT = """
def attempt(call, *arguments):
    try: call(*arguments); print("good")
    except OSError as error: print(error.errno)
"""


@pytest.fixture
def disk(preloads, tmp_path):
    data, plan = tmp_path / "data", disk_faults.Plan(str(tmp_path))
    data.mkdir()
    return data, plan, lambda program, *behind: run_on(preloads, data, plan, program, *behind)


def test_the_chosen_syncs_fail_and_no_others(disk):
    _, plan, run = disk
    plan.fail(["wal"], errno.EIO, first=1, count=2)
    program = """
wal, table = opened("1.log"), opened("2.sst")
for fd in (wal, table, wal, wal, wal, table): attempt(os.fdatasync, fd)
"""
    assert run(program) == ["good", "good", "5", "5", "good", "good"]
    assert plan.get("failed") == 2 and plan.get("syncs of wal") == 4 and plan.get("syncs of table") == 2
    assert 0 < plan.get("first_failed_ns") <= time.monotonic_ns()


def test_a_write_can_fail_instead(disk):
    data, plan, run = disk
    plan.fail(["mark"], errno.ENOSPC, call=disk_faults.WRITE)
    assert run('f = opened("MARK"); attempt(os.pwrite, f, b"x", 0); attempt(os.fsync, f); attempt(os.pwrite, f, b"y", 0)') == [
        "28", "good", "good"]
    assert (data / "MARK").read_bytes() == b"y"


def test_every_kind_of_file_is_told_from_the_others(disk):
    data, plan, run = disk
    (data / "backups").mkdir()
    names = ("1.log", "1.sst", "MANIFEST-000001", "MARK", "backups/1.sst", "pepper")
    run("".join(f'os.fsync(opened("{name}"))\n' for name in names).replace('"MANIFEST', '"./MANIFEST') + "sync_directory()")
    assert [plan.get("syncs of " + kind) for kind in disk_faults.KINDS] == [1, 0, 1, 1, 1, 1, 1, 1]


def test_reads_and_writes_can_be_slow_and_are_counted_by_thread(disk):
    _, plan, run = disk
    plan.set(read_delay_us=150_000, write_delay_us=150_000)
    program = """
import ctypes, time
began = time.monotonic(); f = opened("a", os.O_RDWR | os.O_CREAT); os.write(f, b"x"); os.pread(f, 1, 0)
print(time.monotonic() - began)
ctypes.CDLL(None).prctl(15, b"core/0", 0, 0, 0); os.pread(f, 1, 0)
"""
    assert float(run(program)[0]) >= 0.3
    assert plan.get("reads") == 2 and plan.get("writes") == 1 and plan.get("on_core") == 1


def test_what_a_failed_sync_covered_is_lost_though_a_later_one_succeeds(preloads, disk, tmp_path):
    data, plan, run = disk
    snapshot = str(tmp_path / "snapshot")
    os.makedirs(snapshot)
    plan.fail(["wal"], errno.EIO)
    program = """
f = opened("1.log"); sync_directory()
os.write(f, b"lost"); attempt(os.fdatasync, f); os.write(f, b"kept"); attempt(os.fdatasync, f)
"""
    assert run(program, preloads["preload_power"]) == ["5", "good"]
    model = power_model.Model(snapshot)
    model.replay(power_model.read_journal(str(data) + ".journal"))
    model.lose_power(Worst())
    model.write_to(str(data))
    assert (data / "1.log").read_bytes() == b"\0\0\0\0kept"


CLOCK = """
import threading, time
wall, began = time.time(), time.monotonic(); input(); print(time.time() - wall); print(time.monotonic() - began)
condition = threading.Condition(); began = time.monotonic()
with condition: condition.wait(0.2)
print(time.monotonic() - began)
"""


@pytest.mark.parametrize("step_ms", [86_400_000, -86_400_123])
def test_the_wall_clock_of_a_running_process_is_stepped_and_nothing_else(preloads, tmp_path, step_ms):
    clock = tmp_path / "clock"
    clock.write_bytes(struct.pack("<q", 0))
    child = subprocess.Popen([sys.executable, "-c", CLOCK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env=dict(os.environ, LD_PRELOAD=preloads["preload_clock"], CARILLON_CLOCK_FILE=str(clock)))
    time.sleep(0.3)  # it has started
    with open(clock, "r+b") as file:
        file.write(struct.pack("<q", step_ms))
    wall, mono, waited = (float(line) for line in child.communicate("\n", timeout=10)[0].split())
    assert abs(wall - mono - step_ms / 1000) < 1
    assert 0 < mono < 10 and 0.2 <= waited < 5


def test_a_wait_until_a_time_of_the_stepped_clock_takes_as_long_as_it_says(preloads, tmp_path):
    source, program, clock = tmp_path / "wait.c", tmp_path / "wait", tmp_path / "clock"
    source.write_text("""
#include <pthread.h>
#include <time.h>
int main(void) {
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
    struct timespec until; clock_gettime(CLOCK_REALTIME, &until); until.tv_sec += 1;
    pthread_mutex_lock(&mutex);
    return pthread_cond_timedwait(&cond, &mutex, &until) != 110;
}
""")
    subprocess.run(["cc", "-o", str(program), str(source)], check=True)
    for step_ms in (86_400_000, -86_400_000):
        clock.write_bytes(struct.pack("<q", step_ms))
        began = time.monotonic()
        subprocess.run([str(program)], check=True, timeout=30,
                       env=dict(os.environ, LD_PRELOAD=preloads["preload_clock"], CARILLON_CLOCK_FILE=str(clock)))
        assert 0.9 < time.monotonic() - began < 10
