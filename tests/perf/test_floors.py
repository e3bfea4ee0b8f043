"""perf/floors and its programs: each teaches, refuses what it does not understand, and says when there is no number.
That they measure is shown by `perf/floors --tiny`, which tools/check runs."""
import json
import os
import subprocess
import sys
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CARILLON_BUILD", os.path.join(ROOT, "build", "release"))
FLOORS = os.path.join(ROOT, "perf", "floors")
PROGRAMS = ("fanout", "ring", "fsync", "rocksdb", "spsc", "wake", "sockets")
ABSENT = 77


def run(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=100, check=False,
                          **options)


def floor(name):
    return os.path.join(BUILD, "perf", f"floor-{name}")


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_teaches(name):
    done = run(floor(name), "--help")
    assert done.returncode == 0
    for part in (f"floor-{name}: ", "usage:", "--json", "examples:", "exit code:"):
        assert part in done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_refuses_what_it_does_not_know(name):
    for words in (["--no-such-option"], ["word"]):
        done = run(floor(name), *words)
        assert done.returncode == 2 and done.stderr and not done.stdout


@pytest.mark.parametrize("words, says", [
    (["fanout", "--way", "pigeon"], "send uring silent"), (["fanout", "--window", "0"], "from 1 to 256"),
    (["ring", "--batch", "1.5"], "from 1 to 4096"), (["fsync", "--seconds", "nan"], "from 0.01 to 60"),
    (["fsync", "--bytes", "9e9"], "from 1 to 65536")])
def test_an_option_says_what_it_takes(words, says):
    done = run(floor(words[0]), *words[1:])
    assert done.returncode == 2 and says in done.stderr


def test_open_loop_latency_counts_from_when_a_message_was_due(tmp_path):
    """So fast that each sync falls behind: what waits for its turn has waited, and no message is left out."""
    done = run(floor("fsync"), "--rate", 200000, "--seconds", 0.2, "--directory", tmp_path, "--json")
    if done.returncode == ABSENT:
        pytest.skip(done.stderr)
    result = json.loads(done.stdout)
    assert result["messages_per_sync"] > 2
    assert result["p50_us"] > result["sync_us"] / 2
    assert not os.listdir(tmp_path)


def test_a_database_is_removed_when_it_has_been_measured(tmp_path):
    done = run(floor("rocksdb"), "--seconds", 0.02, "--directory", tmp_path, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["rows_per_second"] > 0
    assert not os.listdir(tmp_path)


def test_a_window_is_sent_together():
    """With a window the sends hold several frames each; without one, one."""
    def deliveries_a_send(window):
        done = run(floor("fanout"), "--subscribers", 10, "--seconds", 0.05, "--window", window, "--until", "all",
                   "--json")
        if done.returncode == ABSENT:
            pytest.skip(done.stderr)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        return result["deliveries_per_second"] / result["sends_per_second"]
    assert deliveries_a_send(1) == pytest.approx(1)
    assert deliveries_a_send(16) > 1.5


# --- the runner -------------------------------------------------------------------------------------------------------


def test_the_runner_lists_what_it_has():
    done = run(FLOORS, "--list")
    assert done.returncode == 0
    names = [line.split(":")[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert names == ["fanout", "ring", "fsync", "commit", "rocksdb", "write", "spsc", "wake", "sockets"]


@pytest.mark.parametrize("name, says", [("teapot", "there are: fanout"), ("ring/teapot", "no row of ring")])
def test_the_runner_refuses_a_floor_that_is_not_there(name, says):
    done = run(FLOORS, name)
    assert done.returncode == 2 and says in done.stderr


def fake(build, text):
    """A floor-ring that does what `text` says, so that the runner can be watched."""
    os.makedirs(build / "perf")
    program = build / "perf" / "floor-ring"
    program.write_text(f"#!{sys.executable}\nimport sys\n{text}\n", encoding="utf-8")
    program.chmod(0o755)


def ring(build):
    return run(FLOORS, "ring", "--tiny", "--json", "--build", build, "--directory", build)


def test_the_runner_gives_medians_and_ends(tmp_path):
    fake(tmp_path, """
import json, os
count = int(open('count').read()) if os.path.exists('count') else 0
open('count', 'w').write(str(count + 1))
print(json.dumps({'ns_per_operation': (5, 1, 9)[count % 3], 'ns_per_enter': 1}))""")
    done = run(FLOORS, "ring/batch 1 completions all", "--runs", 3, "--json", "--build", tmp_path,
               "--directory", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)["floors"]["ring"]["batch 1 completions all"]
    assert row["ns_per_operation"] == {"median": 5, "min": 1, "max": 9, "runs": 3}


def test_the_runner_fails_when_a_program_fails(tmp_path):
    fake(tmp_path, "sys.exit('63 completions instead of 64')")
    done = ring(tmp_path)
    assert done.returncode == 1 and "63 completions instead of 64" in done.stderr and not done.stdout


def test_the_runner_fails_when_a_figure_is_missing(tmp_path):
    fake(tmp_path, "print('{}')")
    done = ring(tmp_path)
    assert done.returncode == 1 and "ns_per_operation" in done.stderr


def test_what_a_machine_cannot_run_is_said_and_is_no_failure(tmp_path):
    fake(tmp_path, "print('io_uring is forbidden', file=sys.stderr); sys.exit(77)")
    done = ring(tmp_path)
    assert done.returncode == ABSENT
    rows = json.loads(done.stdout)["floors"]["ring"].values()
    assert all("io_uring is forbidden" in row["absent"] for row in rows)


@pytest.mark.parametrize("name, words", [("fanout", ["--seconds", 30]), ("sockets", ["--settle", 10])])
def test_a_program_that_is_killed_leaves_no_process(name, words):
    """Both have another process at the far end of their connections."""
    command = [floor(name), *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: process.poll() is not None or other_end(process.pid))
        if process.poll() == ABSENT:
            pytest.skip("this machine cannot run it")
        child = other_end(process.pid)
        process.kill()
    wait_for(lambda: ended(child))


def wait_for(condition, seconds=30):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def other_end(pid):
    """The number of its child, once the child is a child that ends with it: it opens sockets after that."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            child = children.read().strip()
        sockets = [name for name in os.listdir(f"/proc/{child}/fd") if int(name) > 2] if child else []
        return child if len(sockets) > 5 else None
    except FileNotFoundError:
        return None


def ended(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
