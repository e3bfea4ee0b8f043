"""Starting: what stands in the way is named in one sentence, with what to do next and the exit code that scripts go by;
what the service manager is told; and how long it takes."""

import ctypes
import json
import os
import pwd
import resource
import shutil
import signal
import socket
import struct
import subprocess
import time

import pytest

from client import call, new_tenant
from gateway import BINARY, Gateway
from recorder import limit

FAILED, USAGE, CONFIGURATION, STORE = 1, 2, 3, 4
NOBODY = 65534
root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root")


def serve(data, *arguments, listen="127.0.0.1:0", timeout_s=30, **how):
    """Runs `serve`, which must end by itself; (exit code, what it said for people, and of errors in the log)."""
    done = subprocess.run([str(BINARY), "serve", "--data", str(data), "--listen", listen, "--cores", "1", *arguments],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False,
                          env=Gateway._environment(), **how)
    said = [line for line in done.stderr.decode().splitlines() if not line.startswith("{") or '"level":"error"' in line]
    return done.returncode, "\n".join(said)


def assert_refused(outcome, code, *words):
    """One sentence that begins with the program's name."""
    got, said = outcome
    assert got == code, outcome
    assert said.startswith("carillon: ") and "\n" not in said, said
    for word in words:
        assert word in said, said


@pytest.fixture
def store(make_gateway):
    """A data directory that a gateway has left, with a room in it."""
    gateway = make_gateway()
    gateway.stop()
    return gateway.data


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a small file system of its own; unmounted at the end."""
    mounted = []

    def mount(size):
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def as_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


@pytest.fixture
def open_path(tmp_path):
    """A directory that every user of the machine may reach: pytest's own are closed."""
    path = tmp_path.parent / f"open-{os.getpid()}-{time.monotonic_ns()}"
    path = type(path)("/tmp") / path.name
    path.mkdir(mode=0o755)
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def limited(which, soft, hard=None):
    return lambda: resource.setrlimit(which, (soft, soft if hard is None else hard))


# --- the data directory -----------------------------------------------------------------------------------------------


def test_a_store_in_use_names_its_holder(make_gateway):
    gateway = make_gateway()
    assert_refused(serve(gateway.data), STORE, "in use", f"pid {gateway.process.pid}", "stop")


def test_what_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert_refused(serve(tmp_path / "file"), STORE, "is not a directory", "name another")
    assert_refused(serve(tmp_path / "file" / "below"), STORE, "cannot be made", "name another")


@root_only
def test_a_directory_without_permission_names_the_user(open_path):
    (open_path / "closed").mkdir(mode=0o700)
    assert_refused(serve(open_path / "closed", preexec_fn=as_nobody), STORE, "EACCES", f"user {NOBODY}", "chown")
    assert_refused(serve(open_path / "new", preexec_fn=as_nobody), STORE, "EACCES", f"user {NOBODY}", "chown")


@root_only
def test_a_read_only_file_system_is_named(store, small_disk):
    disk = small_disk("64m")
    shutil.copytree(store, disk / "data")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert_refused(serve(disk / "data"), STORE, "read-only", "mount it writable")
    assert_refused(serve(disk / "new"), STORE, "read-only", "mount it writable")
    assert subprocess.run([str(BINARY), "verify-store", str(disk / "data")], capture_output=True).returncode == 0


@root_only
def test_a_full_disk_is_named(small_disk):
    assert_refused(serve(small_disk("8m") / "data"), STORE, "bytes free", "make room")


DAMAGES = {
    "CURRENT": ("CURRENT", lambda path: path.write_bytes(b"MANIFEST-000"), "restore"),
    "no CURRENT": ("CURRENT", lambda path: path.unlink(), "restore"),
    "MANIFEST": ("MANIFEST-", lambda path: flip(path, 10), "restore"),
    "no MANIFEST": ("MANIFEST-", lambda path: path.unlink(), "restore"),
    "no log": (".log", lambda path: path.unlink(), "acknowledged writes are lost"),
    "log cut short": (".log", lambda path: os.truncate(path, path.stat().st_size // 2), "acknowledged writes are lost"),
    "log": (".log", lambda path: flip(path, path.stat().st_size // 2), "acknowledged writes are lost"),
}


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_refused_and_left_alone(store, damage):
    name, break_it, words = DAMAGES[damage]
    path = max((path for path in (store / "db").iterdir() if name in path.name), key=lambda path: path.stat().st_size)
    break_it(path)
    before = {path.name: path.stat().st_size for path in (store / "db").glob("*.sst")}
    assert_refused(serve(store), STORE, words, "restore the store from a backup")
    assert before.items() <= {path.name: path.stat().st_size for path in (store / "db").glob("*.sst")}.items()


@pytest.mark.parametrize("damage", [name for name in DAMAGES if "log" not in name])
def test_the_verifier_tells_a_damaged_database_too(store, damage):
    name, break_it, _ = DAMAGES[damage]
    break_it(next(path for path in (store / "db").iterdir() if name in path.name))
    done = subprocess.run([str(BINARY), "verify-store", str(store)], capture_output=True, check=False)
    assert done.returncode == STORE and b"restore the store from a backup" in done.stderr


async def test_a_damaged_table_is_never_shown_as_something_else(make_gateway):
    gateway = make_gateway(store__write_buffer="1m")
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    sent = [os.urandom(1500).hex() for _ in range(600)]
    await alice.send_many(room_id, sent)
    gateway.restart("stop")
    gateway.stop()
    tables = sorted((gateway.data / "db").glob("*.sst"), key=lambda path: path.stat().st_size)
    for at in range(1, 20):
        flip(tables[-1], tables[-1].stat().st_size * at // 20)
    done = gateway.run_command("verify-store", gateway.data)
    assert done.returncode in (FAILED, STORE), done.stdout
    assert b"problem" in done.stdout or b"damaged" in done.stderr
    code = subprocess.Popen(gateway._command(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=open(gateway.log_path, "ab"), env=gateway._environment())
    gateway.process = code
    try:
        gateway.host, gateway.port = gateway._await_ready(0 if not gateway.log_path.exists() else log_end(gateway))
    except AssertionError:
        assert "restore" in gateway.log_text()  # it was refused: just as well
        return
    shown = 0
    for seq in range(1, len(sent) + 1):
        answer = await alice.get(f"/rooms/{room_id}/messages/{seq}")
        if answer.status == 200:
            assert answer.json["content"] == sent[seq - 1]
            shown += 1
        else:
            answer.problem(503, code="store.read_failed")
    assert shown < len(sent), "the damage was not met"


def log_end(gateway):
    lines = gateway.log_path.read_bytes()
    return lines.rindex(b'"stopped"')


@pytest.mark.parametrize("left, words", [(0, "cut short"), (10, "cut short"), (None, "damaged")])
def test_a_damaged_mark_is_refused_each_time(store, left, words):
    if left is None:
        (store / "MARK").write_bytes(b"x" * 8192)
    else:
        os.truncate(store / "MARK", left)
    for _ in range(2):
        assert_refused(serve(store), STORE, f"low-water mark is {words}", "restore", "remove the file MARK")


async def test_without_the_mark_it_serves_in_a_new_history(make_gateway):
    gateway = make_gateway()
    epoch = (await call(gateway, "GET", "/health")).ok()["epoch"]
    gateway.stop()
    (gateway.data / "MARK").unlink()
    gateway.start()
    assert (await call(gateway, "GET", "/health")).ok()["epoch"] > epoch + 1_000_000
    assert '"event":"mark_missing"' in gateway.log_text()


# --- addresses --------------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert_refused(serve(tmp_path / "data", listen=address), FAILED, address, "already in use", "--listen")
    assert not (tmp_path / "data").exists(), "found out before the store is made"


def test_a_port_that_is_given_back_in_time_is_taken(make_gateway):
    gateway = make_gateway()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        waiting = subprocess.Popen([str(BINARY), "serve", "--data", str(gateway.directory / "other"), "--listen",
                                    f"127.0.0.1:{port}"], stderr=subprocess.PIPE, env=Gateway._environment())
        time.sleep(0.3)
    try:
        assert any(b'"ready"' in line for line in waiting.stderr)
    finally:
        waiting.kill()
        waiting.wait()


def test_an_address_that_nobody_has_is_named(tmp_path):
    assert_refused(serve(tmp_path / "data", listen="203.0.113.7:8080"), FAILED, "203.0.113.7:8080", "no interface")


@root_only
def test_a_port_without_permission_names_the_capability(open_path):
    (open_path / "data").mkdir()
    os.chown(open_path / "data", NOBODY, NOBODY)
    if int(open("/proc/sys/net/ipv4/ip_unprivileged_port_start").read()) <= 80:
        pytest.skip("every user may open every port here")
    assert_refused(serve(open_path / "data", listen="127.0.0.1:80", preexec_fn=as_nobody), FAILED, "127.0.0.1:80",
                   "CAP_NET_BIND_SERVICE")


@pytest.mark.parametrize("way", ["setting", "data directory"])
def test_a_long_path_of_the_admin_socket_is_refused_before_the_store_is_made(tmp_path, way):
    data = tmp_path / ("x" * 100) / "data" if way == "data directory" else tmp_path / "data"
    arguments = ["--set", f"admin.socket=/tmp/{'x' * 120}"] if way == "setting" else []
    assert_refused(serve(data, *arguments), CONFIGURATION, "admin.socket", "107")
    assert not data.exists()


def test_an_admin_socket_without_a_directory_is_named(tmp_path):
    outcome = serve(tmp_path / "data", "--set", f"admin.socket={tmp_path}/none/s")
    assert_refused(outcome, FAILED, "none/s", "make its directory first")


# --- the system -------------------------------------------------------------------------------------------------------

SYS_IO_URING_SETUP, SYS_IO_URING_REGISTER = 425, 427
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
RET_ALLOW, RET_ERRNO = 0x7FFF0000, 0x00050000


def without_call(number, error):
    """A filter, like a container's, that answers one system call with an error (seccomp(2))."""

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    code = b"".join(struct.pack("HBBI", *row) for row in (
        (0x20, 0, 0, 0),                  # load the call's number
        (0x15, 0, 1, number),             # if it is this one
        (0x06, 0, 0, RET_ERRNO | error),  # … fail
        (0x06, 0, 0, RET_ALLOW)))
    rows = ctypes.create_string_buffer(code)
    program = Program(4, ctypes.cast(rows, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)

    def install():
        assert rows and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        assert libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)) == 0

    return install


@pytest.mark.parametrize("error", [1, 38], ids=["EPERM", "ENOSYS"])
def test_without_io_uring_the_sysctl_and_the_kernel_are_named(tmp_path, error):
    outcome = serve(tmp_path / "data", preexec_fn=without_call(SYS_IO_URING_SETUP, error))
    assert_refused(outcome, FAILED, "Linux 6.1", "kernel.io_uring_disabled", "seccomp")
    assert not (tmp_path / "data").exists()


def test_a_kernel_that_lacks_a_part_of_io_uring_is_too_old(tmp_path):
    outcome = serve(tmp_path / "data", preexec_fn=without_call(SYS_IO_URING_REGISTER, 22))
    assert_refused(outcome, FAILED, "too old", "Linux 6.1")


def test_too_few_open_files_are_named(tmp_path):
    for number in (20, limit("DESCRIPTORS_MIN") - 1):
        outcome = serve(tmp_path / "data", preexec_fn=limited(resource.RLIMIT_NOFILE, number))
        assert_refused(outcome, FAILED, f"open files is {number}", "ulimit -n", "LimitNOFILE")
    assert not (tmp_path / "data").exists()


async def test_few_open_files_are_enough_for_a_store_of_many_tables(make_gateway):
    """With the fewest descriptors that a start takes RocksDB keeps half as many tables open, and closes others for them."""
    fewest = limit("DESCRIPTORS_MIN")
    gateway = make_gateway(store__write_buffer="1m")
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    await alice.send_many(room_id, [os.urandom(2000).hex() for _ in range(400)])
    gateway.stop()
    command = ["prlimit", f"--nofile={fewest}:{fewest}", *gateway._command()]
    log_start = gateway.log_path.stat().st_size
    gateway.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=open(gateway.log_path, "ab"),
                                       env=gateway._environment())
    gateway.host, gateway.port = gateway._await_ready(log_start)
    assert len(await alice.messages(room_id, limit=1000)) == 400
    sent = await alice.send(room_id, "goes on")
    assert sent["seq"] == 401


@root_only
def test_too_little_locked_memory_is_named(open_path):
    (open_path / "data").mkdir()
    os.chown(open_path / "data", NOBODY, NOBODY)

    def starve():
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
        as_nobody()

    process = subprocess.Popen([str(BINARY), "serve", "--data", str(open_path / "data"), "--listen", "127.0.0.1:0"],
                               stderr=subprocess.PIPE, env=Gateway._environment(), preexec_fn=starve)
    try:
        said = next(line for line in process.stderr if b'"ready"' in line or line.startswith(b"carillon:"))
    finally:
        process.kill()
        process.wait()
    if b'"ready"' in said:
        pytest.skip("this kernel does not count a ring as locked memory")
    assert process.returncode == FAILED or b"LimitMEMLOCK" in said
    assert b"ulimit -l" in said


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines, place, words", [
    (["[store]", "cache = 12q"], 2, "store.cache must be"),
    (["[store]", "", "cahce = 1m"], 3, "did you mean store.cache"),
    (["durability = sometimes"], 1, "one of fsync, fast"),
    (["[net]", "listen"], 2, "key = value"),
    (["[backup]", "dir = b", "at = 25:00"], 3, "no time of day"),
    (["[net]", "idle_timeout = 20s", "# a comment", "ping_interval = 30s"], 4, "must be shorter"),
])
def test_a_bad_setting_names_file_and_line(tmp_path, lines, place, words):
    file = tmp_path / "carillon.conf"
    file.write_text("\n".join(lines) + "\n")
    assert_refused(serve(tmp_path / "data", "--config", str(file)), CONFIGURATION, f"{file}:{place}: ", words)


@pytest.mark.parametrize("mode, key, events", [
    (0o644, "k" * 32, {"secret_readable"}), (0o600, "k" * 32, set()), (0o600, "sesam", {"master_key_short"})])
def test_a_master_key_that_others_may_learn_is_warned_of(tmp_path, mode, key, events):
    file = tmp_path / "carillon.ini"
    file.write_text(f"[admin]\nmaster_key = {key}\n[store]\ndir = {tmp_path / 'file'}\n[net]\nlisten = 127.0.0.1:0\n")
    file.chmod(mode)
    (tmp_path / "file").write_text("in the way, so that the start ends by itself")
    done = subprocess.run([str(BINARY), "serve", "--config", str(file)], capture_output=True, timeout=30, check=False,
                          env=Gateway._environment())
    lines = [json.loads(line) for line in done.stderr.decode().splitlines() if line.startswith("{")]
    assert {line["event"] for line in lines if line["scope"] == "config"} == events
    assert key.encode() not in done.stderr


def test_a_bad_setting_of_the_command_line_does_not_blame_the_file(tmp_path):
    file = tmp_path / "carillon.conf"
    file.write_text("[backup]\ndir = b\nat = 03:00\n")
    code, said = serve(tmp_path / "data", "--config", str(file), "--set", "backup.at=25:00")
    assert code == CONFIGURATION and "25:00" in said and str(file) not in said


# --- the service manager ------------------------------------------------------------------------------------------------


def next_state(manager):
    return manager.recv(4096).decode().split("\n")


def test_the_service_manager_is_told(make_gateway, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = f"/tmp/carillon-notify-{os.getpid()}"
        manager.bind(path)
        manager.settimeout(20)
        try:
            process = subprocess.Popen([str(BINARY), "serve", "--data", str(tmp_path / "d"), "--listen", "127.0.0.1:0",
                                        "--set", "admin.socket=/tmp/" + os.path.basename(path) + ".admin"],
                                       stderr=subprocess.DEVNULL, env={**Gateway._environment(), "NOTIFY_SOCKET": path})
            ready = next_state(manager)
            assert ready[0] == "READY=1" and ready[1].startswith("STATUS=Serving 127.0.0.1:")
            before = time.monotonic_ns() // 1000
            process.send_signal(signal.SIGHUP)
            reloading = dict(line.split("=") for line in next_state(manager))
            assert reloading["RELOADING"] == "1"
            assert before <= int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
            assert next_state(manager)[0] == "READY=1"
            process.send_signal(signal.SIGTERM)
            assert next_state(manager) == ["STOPPING=1"]
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
            os.unlink(path)


def status_of(process):
    with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file)


@root_only
async def test_it_becomes_the_user_it_is_told_to(open_path):
    gateway = Gateway(settings={"process.user": "nobody", "admin.socket": str(open_path / "home" / "s")})
    gateway.data = open_path / "home" / "data"
    (open_path / "home").mkdir()
    user = pwd.getpwnam("nobody")
    os.chown(open_path / "home", user.pw_uid, user.pw_gid)
    try:
        gateway.start()
        status = status_of(gateway.process)
        assert set(status["Uid"].split("\t")) == {str(user.pw_uid)}
        assert set(status["Gid"].split("\t")) == {str(user.pw_gid)}
        assert int(status["CapEff"], 16) == 0
        assert all(path.stat().st_uid == user.pw_uid for path in gateway.data.rglob("*"))
        await new_tenant(gateway)
        gateway.stop()
    finally:
        gateway.discard()


@root_only
def test_a_user_that_cannot_become_another_is_told(open_path):
    (open_path / "data").mkdir()
    os.chown(open_path / "data", NOBODY, NOBODY)
    outcome = serve(open_path / "data", "--set", "process.user=root", preexec_fn=as_nobody)
    assert_refused(outcome, CONFIGURATION, "process.user", "only root can")
    assert_refused(serve(open_path / "data", "--set", "process.user=nobody-of-that-name"), CONFIGURATION, "no user")


def test_it_gives_up_what_it_never_needs(make_gateway):
    gateway = make_gateway()
    assert status_of(gateway.process)["NoNewPrivs"] == "1"


@root_only
@pytest.mark.skipif("asan" in str(BINARY), reason="the sanitizer's build stays readable")
def test_others_of_its_user_cannot_read_its_memory(open_path):
    (open_path / "data").mkdir()
    os.chown(open_path / "data", NOBODY, NOBODY)
    process = subprocess.Popen([str(BINARY), "serve", "--data", str(open_path / "data"), "--listen", "127.0.0.1:0"],
                               stderr=subprocess.PIPE, env=Gateway._environment(), preexec_fn=as_nobody)
    try:
        assert any(b'"ready"' in line for line in process.stderr)
        assert os.stat(f"/proc/{process.pid}/mem").st_uid == 0, "it may be traced and dumped (proc(5))"
    finally:
        process.kill()
        process.wait()


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_start_after_a_crash_takes_a_moment_however_much_was_written(make_gateway):
    """Some 200 MB of messages, of which as much as may be is still in the log alone when the gateway is killed."""
    gateway = make_gateway()
    load = subprocess.run([str(BINARY.parent / "carillon-load"), "durable", "--url", f"http://127.0.0.1:{gateway.port}",
                           "--master-key", gateway.master_key, "--rooms", "50", "--publishers", "50", "--in-flight", "8",
                           "--size", "5000", "--messages", "40000", "--seconds", "40", "--json"],
                          capture_output=True, timeout=120, check=False)
    assert load.returncode == 0, load.stderr
    assert json.loads(load.stdout)["acked"] > 1000
    gateway.kill()
    began = time.monotonic()
    gateway.start()
    assert time.monotonic() - began < 5
    ready = [json.loads(line) for line in gateway.log_text().splitlines() if '"event":"ready"' in line][-1]
    assert ready["took_ms"] < 5000


def test_closed_standard_streams_do_not_become_files_of_the_store(tmp_path):
    data = tmp_path / "data"
    process = subprocess.Popen(["/bin/sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', str(BINARY), "serve", "--data", str(data),
                                "--listen", "127.0.0.1:0", "--cores", "1", "--set", "admin.master_key=" + "k" * 16],
                               env=Gateway._environment())
    try:
        deadline = time.monotonic() + 15
        while not (data / "admin.sock").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        streams = [os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)]
        assert streams == ["/dev/null"] * 3
    finally:
        process.terminate()
        assert process.wait(15) == 0
