"""Backups made while the gateway serves, and what becomes of a store that is brought back from one."""

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import time
from datetime import datetime

import pytest

from client import Operator, Tenant, call, metric, new_tenant
from gateway import BINARY, BUILD, Gateway
from shapes import assert_members

PATIENCE_S = 30.0


@pytest.fixture
def backup_gateway(make_gateway, tmp_path):
    """A function that starts a gateway with a directory for backups (in `.backups`)."""

    def make(**settings):
        directory = settings.pop("backup__dir", tmp_path / "backups")
        gateway = make_gateway(backup__dir=str(directory), **settings)
        gateway.backups = directory
        return gateway

    return make


@pytest.fixture
def restored(tmp_path):
    """A function that restores a backup into a fresh data directory and starts a gateway there."""
    started = []

    def restore(gateway, *arguments, **settings):
        fresh = Gateway(settings=settings)
        started.append(fresh)
        done = fresh.run_command("restore", "--backup", gateway.backups, "--data", fresh.data, *arguments)
        assert done.returncode == 0, done.stderr.decode()
        assert b"no problems" in done.stdout
        return fresh.start()

    yield restore
    for gateway in started:
        gateway.assert_healthy()
        gateway.discard()


async def items_of(gateway):
    answer = (await Operator(gateway).call("GET", "/backups")).ok()
    assert answer["next"] is None
    return answer["items"]


async def until(what, look):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        found = await look()
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{what} did not come within {PATIENCE_S} s")


async def ended(gateway, backup_id):
    async def look():
        item = next((item for item in await items_of(gateway) if item["backup_id"] == backup_id), None)
        return item if item and item["state"] != "running" else None

    return await until(f"the end of backup {backup_id}", look)


async def make_backup(gateway):
    """Asks for a backup and waits until it is complete."""
    begun = (await Operator(gateway).call("POST", "/backups")).ok(202)
    assert_members(begun, ("backup_id", "created_at", "state", "bytes", "files"))
    assert begun["state"] == "running"
    item = await ended(gateway, begun["backup_id"])
    assert item["state"] == "complete", item
    return item


def moved(user, gateway):
    """The same user of the same tenant, on another gateway."""
    tenant = Tenant(gateway, {"tenant_id": user.tenant.tenant_id, "api_key": user.api_key})
    return tenant.user(user.user_id)


# --- making -----------------------------------------------------------------------------------------------------------


async def test_without_a_directory_backups_are_off(gateway):
    for method in ("POST", "GET"):
        (await Operator(gateway).call(method, "/backups")).problem(409, code="backup.off")
    assert (await call(gateway, "GET", "/health")).ok()["checks"]["backup"] == "off"


async def test_only_the_operator_makes_backups(backup_gateway):
    gateway = backup_gateway()
    alice = (await new_tenant(gateway)).user("alice")
    (await alice.post("/admin/backups")).problem(401, code="auth.operator_required")
    assert await items_of(gateway) == []


async def test_a_backup_is_listed_and_counted(backup_gateway):
    gateway = backup_gateway()
    await new_tenant(gateway)
    assert await metric(gateway, "carillon_backup_last_success_timestamp_seconds") == 0
    first, second = await make_backup(gateway), await make_backup(gateway)
    assert [item["backup_id"] for item in await items_of(gateway)] == [second["backup_id"], first["backup_id"]]
    assert first["bytes"] > 0 and first["files"] > 0 and "error" not in first
    assert await metric(gateway, "carillon_backups_total") == 2
    assert await metric(gateway, "carillon_backup_failures_total") == 0
    assert abs(await metric(gateway, "carillon_backup_last_success_timestamp_seconds") - time.time()) < 60
    assert await metric(gateway, "carillon_backup_last_bytes") == second["bytes"]
    assert (await call(gateway, "GET", "/health")).ok()["checks"]["backup"] == "ok"
    gateway.restart("kill")
    assert len(await items_of(gateway)) == 2
    assert gateway.run_command("verify-backup", gateway.backups).returncode == 0


async def test_the_schedule_keeps_as_many_as_it_is_told(backup_gateway):
    gateway = backup_gateway(backup__interval="500ms", backup__keep="2")
    await until("the fourth backup", lambda: fourth(gateway))
    gateway.stop()
    listed = gateway.run_command("list-backups", gateway.backups)
    assert listed.returncode == 0
    rows = [line.split() for line in listed.stdout.decode().splitlines()[1:]]
    assert len(rows) == 2 and int(rows[1][0]) == int(rows[0][0]) + 1 >= 4
    assert gateway.run_command("verify-backup", gateway.backups).returncode == 0


async def test_a_backup_is_made_at_its_time_of_day(backup_gateway):
    """The clock of the process is put to a few seconds before half past three, by the time zone. What was missed before is
    made up for at the start; this is about the one that follows."""
    half_past_three = int(time.time()) + 4
    ahead_s = (3 * 3600 + 30 * 60 - half_past_three) % 86400  # of UTC
    zone = f"XXX-{ahead_s // 3600:02}:{ahead_s // 60 % 60:02}:{ahead_s % 60:02}"  # tzset(3): minus is east
    gateway = backup_gateway(backup__at="03:30", environment={"TZ": zone})

    async def made():
        return [item for item in await items_of(gateway) if item["state"] == "complete"
                and datetime.fromisoformat(item["created_at"]).timestamp() >= half_past_three]

    assert len(await until("the backup of half past three", made)) == 1


async def fourth(gateway):
    items = await items_of(gateway)
    good = [item for item in items if item["state"] == "complete"]
    assert len(good) <= 3, "one more than is kept, while the oldest is being removed"
    return good and int(good[0]["backup_id"]) >= 4


async def test_a_second_backup_does_not_copy_again_what_the_first_has(backup_gateway):
    gateway = backup_gateway()
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    for number in range(40):
        await alice.send(room_id, os.urandom(3000).hex())
    await make_backup(gateway)
    tables = set(os.listdir(gateway.backups / "shared_checksum"))
    await alice.send(room_id, "one more")
    await make_backup(gateway)
    assert tables <= set(os.listdir(gateway.backups / "shared_checksum"))
    fresh = set(os.listdir(gateway.backups / "shared_checksum")) - tables
    assert sum((gateway.backups / "shared_checksum" / name).stat().st_size for name in fresh) < 100_000


async def test_one_backup_is_made_at_a_time(backup_gateway):
    gateway = backup_gateway(backup__rate="256k")
    await fill(gateway)
    started = time.monotonic()
    begun = (await Operator(gateway).call("POST", "/backups")).ok(202)
    (await Operator(gateway).call("POST", "/backups")).problem(409, code="backup.running")
    assert await metric(gateway, "carillon_backup_running") == 1
    assert (await ended(gateway, begun["backup_id"]))["state"] == "complete"
    assert 1 <= await metric(gateway, "carillon_backup_last_duration_seconds") <= time.monotonic() - started


async def fill(gateway, messages=60):
    """Enough that a backup at 256 KiB a second takes a moment."""
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    for _ in range(messages):
        await alice.send(room_id, os.urandom(4900).hex())
    return alice, room_id


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_half_a_backup_is_none(backup_gateway, how):
    gateway = backup_gateway(backup__rate="32k")
    alice, room_id = await fill(gateway)
    epoch, head = await alice.position(room_id)
    begun = (await Operator(gateway).call("POST", "/backups")).ok(202)
    await asyncio.sleep(0.5)
    gateway.settings["backup.rate"] = "0"
    began = time.monotonic()
    getattr(gateway, how)()  # a stop ends with 0, and does not wait for all of the copying
    assert time.monotonic() - began < 15
    if how == "stop":
        last = [json.loads(line)["event"] for line in gateway.log_text().splitlines()[-2:]]
        assert last == ["broken_off", "stopped"]
    gateway.start()
    assert await items_of(gateway) == []
    assert await alice.position(room_id) == [epoch + (how == "kill"), head]
    again = await make_backup(gateway)
    assert again["backup_id"] == begun["backup_id"]
    assert gateway.run_command("verify-backup", gateway.backups).returncode == 0


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_backup_that_cannot_be_written_is_reported(backup_gateway, tmp_path):
    (tmp_path / "file").write_text("in the way")
    gateway = backup_gateway(backup__dir=tmp_path / "file" / "backups")
    assert '"scope":"backup","event":"directory_unusable"' in gateway.log_text()  # at once, not at the first backup
    [warning] = (await Operator(gateway).call("GET", "/status")).ok()["warnings"]
    assert warning.startswith("The last backup failed: ") and "cannot be made" in warning
    begun = (await Operator(gateway).call("POST", "/backups")).ok(202)
    item = await ended(gateway, begun["backup_id"])
    assert item["state"] == "failed" and "cannot be made" in item["error"]
    listed = subprocess.run([BUILD / "carillonctl", "--socket", gateway.admin_socket, "backup", "list"], check=True,
                            capture_output=True, text=True, timeout=30).stdout
    assert "ERROR" in listed and "cannot be made" in listed
    assert await metric(gateway, "carillon_backup_failures_total") == 1
    health = (await call(gateway, "GET", "/health")).ok()
    assert (health["status"], health["checks"]["backup"]) == ("ok", "failed")

    async def told():
        return '"scope":"backup","event":"failed"' in gateway.log_text()

    await until("its line in the log", told)


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small disk")
async def test_a_backup_that_does_not_fit_is_not_begun(backup_gateway, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=17m", "tmpfs", str(disk)], check=True)
    try:
        gateway = backup_gateway(backup__dir=disk / "backups", store__reserve="2m", store__write_buffer="1m")
        await fill(gateway, messages=200)
        begun = (await Operator(gateway).call("POST", "/backups")).ok(202)
        item = await ended(gateway, begun["backup_id"])
        assert item["state"] == "failed" and "make room" in item["error"]
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        await make_backup(gateway)
        assert [item["state"] for item in await items_of(gateway)] == ["complete"]
        gateway.stop()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_two_stores_do_not_share_a_directory(backup_gateway, tmp_path):
    first = backup_gateway()
    await make_backup(first)
    second = backup_gateway()
    begun = (await Operator(second).call("POST", "/backups")).ok(202)
    item = await ended(second, begun["backup_id"])
    assert item["state"] == "failed" and "another store" in item["error"]
    assert first.run_command("verify-backup", first.backups).returncode == 0


async def test_damage_is_found(backup_gateway, tmp_path):
    gateway = backup_gateway()
    alice, room_id = await fill(gateway)
    await make_backup(gateway)
    await make_backup(gateway)
    gateway.stop()
    tables = gateway.backups / "shared_checksum"
    largest = max(tables.iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    verified = gateway.run_command("verify-backup", gateway.backups)
    assert verified.returncode == 1 and verified.stdout.count(b"is damaged") == 2
    done = gateway.run_command("restore", "--backup", gateway.backups, "--data", tmp_path / "fresh")
    assert done.returncode == 1 and b"use another one" in done.stderr
    assert not list(tmp_path.glob("fresh*")), "nothing is left that could pass for a store"
    held = sorted(path.name for path in gateway.data.iterdir())
    done = gateway.run_command("restore", "--backup", gateway.backups, "--data", gateway.data, "--force")
    assert done.returncode == 1 and sorted(path.name for path in gateway.data.iterdir()) == held
    assert not list(gateway.data.parent.glob(gateway.data.name + ".*")), "what was there has not been touched"
    gateway.start()
    assert len(await alice.messages(room_id, limit=100)) == 60
    gateway.stop()
    largest.unlink()
    verified = gateway.run_command("verify-backup", gateway.backups, "--id", "1")
    assert verified.returncode == 1 and b"missing" in verified.stdout
    assert gateway.run_command("restore", "--backup", gateway.backups, "--data", tmp_path / "fresh").returncode == 4


async def test_a_damaged_store_pushes_out_no_good_backup(backup_gateway, restored, tmp_path):
    gateway = backup_gateway(store__write_buffer="1m", store__reserve="2m", backup__keep="1")
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    await alice.send(room_id, "first")
    good = await make_backup(gateway)
    for _ in range(2):  # a restart brings what is in the log into tables
        for _ in range(120):
            await alice.send(room_id, os.urandom(2400).hex())
        gateway.restart()
    gateway.stop()
    copied = {path.name.split("_")[0] for path in (gateway.backups / "shared_checksum").iterdir()}
    fresh = [path for path in (gateway.data / "db").glob("*.sst") if path.stem not in copied]
    largest = max(fresh, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    gateway.start()
    for _ in range(2):
        begun = (await Operator(gateway).call("POST", "/backups")).ok(202)
        item = await ended(gateway, begun["backup_id"])
        assert item["state"] == "failed" and "is damaged: the backup was thrown away" in item["error"]
        complete = [item["backup_id"] for item in await items_of(gateway) if item["state"] == "complete"]
        assert complete == [good["backup_id"]]
    gateway.kill()
    other = restored(gateway)
    assert [m["content"] for m in await moved(alice, other).messages(room_id)] == ["first"]


async def test_verify_backup_reads_what_a_backup_took_over_damaged(backup_gateway):
    """A copy of a table that was damaged in the store has a good checksum as a file."""
    gateway = backup_gateway()
    await fill(gateway)
    await make_backup(gateway)
    gateway.stop()
    largest = max((gateway.backups / "shared_checksum").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    before = crc32c(content)
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    listed = gateway.backups / "meta" / "1"
    text = listed.read_text()
    assert f"crc32 {before}" in text
    listed.write_text(text.replace(f"crc32 {before}", f"crc32 {crc32c(content)}"))
    verified = gateway.run_command("verify-backup", gateway.backups)
    assert verified.returncode == 1 and b"as the store was when it was made" in verified.stdout


def crc32c(content):
    """CRC-32C (RFC 3720 appendix B.4), as RocksDB's lists of backups have it."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


async def test_refusals_of_the_offline_commands(backup_gateway, tmp_path):
    gateway = backup_gateway()
    await make_backup(gateway)
    fresh = tmp_path / "fresh"

    def run(*arguments):
        done = gateway.run_command(*arguments)
        return done.returncode, done.stderr.decode()

    for command in ("list-backups", "verify-backup"):
        assert run(command, tmp_path / "nowhere")[0] == 4
        assert run(command)[0] == 2
    assert run("verify-backup", gateway.backups, "--id", "9")[0] == 1
    assert run("verify-backup", gateway.backups, "--id", "0")[0] == 2
    assert run("restore", "--backup", gateway.backups)[0] == 2
    assert run("restore", "--backup", tmp_path / "nowhere", "--data", fresh)[0] == 4
    code, said = run("restore", "--backup", gateway.backups, "--id", "9", "--data", fresh)
    assert code == 4 and "no good backup 9" in said
    assert not fresh.exists()
    code, said = run("restore", "--backup", gateway.backups, "--data", gateway.data, "--force")
    assert code == 4 and "stop it first" in said
    fresh.mkdir()
    (fresh / "precious").write_text("kept")
    code, said = run("restore", "--backup", gateway.backups, "--data", fresh)
    assert code == 4 and "not an empty directory" in said
    assert run("restore", "--backup", gateway.backups, "--data", fresh, "--force")[0] == 0
    aside = [path for path in tmp_path.iterdir() if path.name.startswith("fresh.before-restore-")]
    assert len(aside) == 1 and (aside[0] / "precious").read_text() == "kept"
    assert run("verify-store", fresh)[0] == 0


async def test_a_restore_that_was_cut_off_is_no_empty_store(backup_gateway, tmp_path):
    gateway = backup_gateway()
    await make_backup(gateway)
    gateway.stop()
    shutil.rmtree(gateway.data)
    (gateway.data / "restore.tmp").mkdir(parents=True)
    done = gateway.run_command("serve", "--data", gateway.data, "--listen", "127.0.0.1:0")
    assert done.returncode == 4 and b"did not come to its end" in done.stderr
    again = gateway.run_command("restore", "--backup", gateway.backups, "--data", gateway.data, "--force")
    assert again.returncode == 0
    gateway.start()


async def test_restores_into_one_directory_do_not_meet(backup_gateway, tmp_path):
    gateway = backup_gateway()
    await fill(gateway)
    await make_backup(gateway)
    gateway.stop()
    fresh = tmp_path / "fresh"
    command = [str(BINARY), "restore", "--backup", str(gateway.backups), "--data", str(fresh)]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 4], said
    assert gateway.run_command("verify-store", fresh).returncode == 0
    work = tmp_path / "other.restoring"
    work.mkdir()
    descriptor = os.open(work, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    restore = ("restore", "--backup", gateway.backups, "--data", tmp_path / "other")
    done = gateway.run_command(*restore)
    assert done.returncode == 4 and b"another restore" in done.stderr
    os.close(descriptor)
    (work / "precious").write_text("not of a restore")
    done = gateway.run_command(*restore)
    assert done.returncode == 4 and b"in the way" in done.stderr and (work / "precious").exists()
    (work / "restoring").write_text("")
    assert gateway.run_command(*restore).returncode == 0, "what a killed restore left is cleared"
    assert not work.exists()
    assert not list((tmp_path / "other").glob("*precious*"))


async def test_a_link_to_a_data_directory_stays_a_link(backup_gateway, tmp_path):
    gateway = backup_gateway()
    await make_backup(gateway)
    gateway.stop()
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "disk" / "data" / "old").write_text("kept")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "data")
    assert gateway.run_command("restore", "--backup", gateway.backups, "--data", link, "--force").returncode == 0
    assert link.is_symlink() and gateway.run_command("verify-store", link).returncode == 0
    aside = list((tmp_path / "disk").glob("data.before-restore-*"))
    assert len(aside) == 1 and (aside[0] / "old").read_text() == "kept"


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small disk")
async def test_a_new_file_system_is_restored_into_and_a_used_one_refused(backup_gateway, tmp_path):
    gateway = backup_gateway()
    await make_backup(gateway)
    gateway.stop()
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=True)
    try:
        (disk / "lost+found").mkdir()
        restore = ("restore", "--backup", gateway.backups, "--data", disk)
        done = gateway.run_command(*restore)
        assert done.returncode == 0, done.stderr
        assert {"MARK", "db", "pepper"} <= {path.name for path in disk.iterdir()}
        assert not (disk / "restore.tmp").exists()
        done = gateway.run_command(*restore, "--force")
        assert done.returncode == 4 and b"mount point" in done.stderr
        assert gateway.run_command("verify-store", disk).returncode == 0
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_backups_are_not_moved_aside_with_the_data(backup_gateway, make_gateway, tmp_path):
    gateway = backup_gateway()
    await make_backup(gateway)
    gateway.stop()
    inside = gateway.data / "backups"
    shutil.copytree(gateway.backups, inside)
    done = gateway.run_command("restore", "--backup", inside, "--data", gateway.data, "--force")
    assert done.returncode == 4 and b"the backups lie in" in done.stderr
    assert gateway.run_command("verify-store", gateway.data).returncode == 0
    for directory in (inside, f"{gateway.data}//backups/..", gateway.data):
        done = gateway.run_command("check-config", "--data", gateway.data, "--set", f"backup.dir={directory}")
        assert done.returncode == 3 and b"backup.dir lies in store.dir" in done.stderr, directory
    done = gateway.run_command("check-config", "--data", gateway.data, "--set", f"backup.dir={gateway.data}-backups")
    assert done.returncode == 0


# --- coming back ------------------------------------------------------------------------------------------------------


async def test_a_restored_store_holds_what_there_was(backup_gateway, restored):
    gateway = backup_gateway()
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    await alice.send_many(room_id, "abc")
    repeated = await alice.send(room_id, "once", client_id="once")
    await make_backup(gateway)
    gateway.kill()
    other = restored(gateway)
    alice, bob = moved(alice, other), moved(bob, other)
    assert [m["content"] for m in await bob.messages(room_id)] == ["a", "b", "c", "once"]
    again = await alice.send(room_id, "once", client_id="once")
    assert again["message_id"] == repeated["message_id"]
    socket = await bob.connect()
    sent = await alice.send(room_id, "after")
    assert sent["seq"] == 5
    assert (await socket.expect("message", seq=5))["content"] == "after"
    other.restart("kill")
    assert (await bob.messages(room_id))[-1]["content"] == "after"


async def test_no_position_of_the_lost_history_is_taken_for_one_of_the_restored(backup_gateway, restored):
    """Three messages, a backup, two more; a crash, and one more in the next epoch: then the backup comes back, and
    others are sent under the same seqs. Whoever holds a lost one is told."""
    gateway = backup_gateway()
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    await alice.send_many(room_id, "abc")
    await make_backup(gateway)
    await alice.send_many(room_id, "de")
    epoch, head = await bob.position(room_id)
    assert head == 5
    lost_room = await alice.new_room("group", bob)
    gateway.restart("kill")
    await alice.send(room_id, "f")
    later_epoch, head = await bob.position(room_id)
    assert [later_epoch, head] == [epoch + 1, 6]
    gateway.kill()

    other = restored(gateway)
    alice, bob = moved(alice, other), moved(bob, other)

    async def resumes(epoch, seq):
        socket = await bob.connect(resume={room_id: [epoch, seq]})
        resumed = await socket.expect("resumed", room_id=room_id)
        return resumed["recovered"], resumed["from"]

    for contents in ("", "xyz"):
        await alice.send_many(room_id, contents)
        assert await resumes(epoch, 3) == (True, 4)
        assert await resumes(epoch, 2) == (True, 3)
        assert await resumes(epoch, 5) == (False, 4)
        assert await resumes(later_epoch, 6) == (False, 1)
        assert await resumes(later_epoch, 2) == (False, 1)
    restored_epoch, head = await bob.position(room_id)
    assert head == 6 and restored_epoch > later_epoch + 1_000_000
    synced = (await bob.post("/sync", body={"rooms": {room_id: [later_epoch, 6]}})).succeeded()
    assert [room["recovered"] for room in synced["rooms"] if room["room_id"] == room_id] == [False]
    (await bob.get(f"/rooms/{lost_room}")).problem(404)
    assert await alice.new_room("group", bob) != lost_room, "no id is given twice"
    other.restart("kill")
    assert await resumes(restored_epoch, 6) == (True, 7)
    assert await resumes(later_epoch, 6) == (False, 1)


async def test_a_backup_restored_twice_begins_two_histories(backup_gateway, restored):
    gateway = backup_gateway()
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    await alice.send(room_id, "a")
    await make_backup(gateway)
    gateway.kill()
    first = restored(gateway)
    await moved(alice, first).send(room_id, "in the first")
    epoch, head = await moved(bob, first).position(room_id)
    first_room = await moved(alice, first).new_room("group")
    first.kill()
    second = restored(gateway)
    alice, bob = moved(alice, second), moved(bob, second)
    await alice.send(room_id, "in the second")
    socket = await bob.connect(resume={room_id: [epoch, head]})
    assert (await socket.expect("resumed", room_id=room_id))["recovered"] is False
    assert await alice.new_room("group") != first_room


async def test_backups_go_on_after_a_restore_into_the_same_directory(backup_gateway, restored):
    gateway = backup_gateway()
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    await alice.send(room_id, "a")
    await make_backup(gateway)
    await alice.send(room_id, "lost")
    gateway.kill()
    other = restored(gateway, **{"backup.dir": str(gateway.backups)})
    await moved(alice, other).send(room_id, "b")
    other.backups = gateway.backups
    assert (await make_backup(other))["backup_id"] == "2"
    other.kill()
    last = restored(other)
    assert [m["content"] for m in await moved(alice, last).messages(room_id)] == ["a", "b"]


# --- going on without what is missing ---------------------------------------------------------------------------------


def damage_log(gateway):
    """Damages the first record of the newest write-ahead log, as a bad disk would."""
    log = max((gateway.data / "db").glob("*.log"), key=lambda path: path.name)
    content = bytearray(log.read_bytes())
    content[:8] = bytes(byte ^ 0xA5 for byte in content[:8])
    log.write_bytes(content)


def refused_for_its_mark(gateway):
    done = gateway.run_command("serve", "--data", gateway.data, "--listen", "127.0.0.1:0")
    return done.returncode == 4 and b"remove the file MARK" in done.stderr


async def test_a_store_that_lost_everything_gives_no_id_again(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    await alice.send_many(room_id, "abc")
    epoch, head = await bob.position(room_id)
    gateway.kill()
    damage_log(gateway)
    assert refused_for_its_mark(gateway)
    (gateway.data / "MARK").unlink()
    gateway.start()
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    other = await alice.new_room("group", bob)
    await alice.send_many(other, "xyz")
    assert other != room_id
    socket = await bob.connect(resume={other: [epoch, head]})
    assert (await socket.expect("resumed", room_id=other))["recovered"] is False
    gateway.restart()
    assert (await bob.position(other))[0] > epoch + 1_000_000


async def test_a_store_that_lost_its_tail_gives_no_id_again(gateway):
    alice, bob, carol = (await new_tenant(gateway)).users("alice", "bob", "carol")
    kept = await alice.new_room("group", bob, carol)
    await alice.send(kept, "kept")
    gateway.restart()  # what came before lies in tables or an older log
    gateway.restart()
    await alice.send(kept, "lost")
    held = await bob.position(kept)
    lost = await alice.new_room("group", bob, is_private=True)
    await alice.send(lost, "for bob only")
    gateway.kill()
    damage_log(gateway)
    assert refused_for_its_mark(gateway)
    (gateway.data / "MARK").unlink()
    gateway.start()
    assert [m["content"] for m in await carol.messages(kept)] == ["kept"]
    assert await alice.new_room("group", carol) != lost
    await alice.send(kept, "another")
    socket = await bob.connect(resume={kept: held})
    assert (await socket.expect("resumed", room_id=kept))["recovered"] is False
