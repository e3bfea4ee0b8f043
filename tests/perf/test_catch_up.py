"""perf/catch-up: how it ends, and that nothing of it is left behind."""
import os
import pathlib
import signal
import subprocess
import tempfile
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = os.environ.get("CARILLON_BUILD", str(REPOSITORY / "build" / "release"))
CATCH_UP = str(REPOSITORY / "perf" / "catch-up")


def children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()


def test_build_that_is_not_there_is_a_mistake_of_usage():
    refused = subprocess.run([CATCH_UP, "resume", "--build", "/nowhere"], capture_output=True, text=True, timeout=20)
    assert refused.returncode == 2 and "/nowhere/carillon is not built" in refused.stderr


def test_readers_who_come_back_have_everything():
    done = subprocess.run([CATCH_UP, "resume", "--build", BUILD, "--subscribers", "20", "--missed", "50", "--json"],
                          capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_run_that_is_ended_leaves_neither_gateway_nor_directory():
    place = tempfile.mkdtemp()  # a short path, as a Unix socket's must be
    command = [CATCH_UP, "slow", "--build", BUILD, "--subscribers", "20", "--seconds", "60"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          env={**os.environ, "TMPDIR": place}) as process:
        # the gateway, and its load
        until = time.monotonic() + 30
        while len(started := children(process.pid)) < 2 and time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130 and len(started) == 2
    until = time.monotonic() + 10  # one that was just being started ends right behind its parent
    while (left := [pid for pid in started if os.path.exists(f"/proc/{pid}")]) and time.monotonic() < until:
        time.sleep(0.02)
    assert not left
    os.rmdir(place)  # it is empty
