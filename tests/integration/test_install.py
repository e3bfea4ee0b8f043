"""`cmake --install`: what lands where, and that it runs from there."""

import os
import re
import shutil
import signal
import subprocess

import pytest

from gateway import BINARY, Gateway

BUILD = BINARY.parent

pytestmark = pytest.mark.skipif(not (BUILD / "cmake_install.cmake").exists() or not shutil.which("cmake"),
                                reason="needs cmake and its build folder")


@pytest.fixture(autouse=True)
def the_list_of_what_was_installed_stays():
    """`xargs rm < install_manifest.txt` removes the last installation; that is the operator's, not one of these."""
    manifest = BUILD / "install_manifest.txt"
    before = manifest.read_bytes() if manifest.exists() else None
    yield
    if before is None:
        manifest.unlink(missing_ok=True)
    else:
        manifest.write_bytes(before)


def install(prefix, destdir=None):
    environment = {**os.environ, **({"DESTDIR": str(destdir)} if destdir else {})}
    return subprocess.run(["cmake", "--install", str(BUILD), "--prefix", str(prefix)], env=environment, check=True,
                          capture_output=True, timeout=120).stdout.decode()


def files_below(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_everything_lands_in_its_place(tmp_path):
    install("/usr", destdir=tmp_path)
    files = files_below(tmp_path)
    assert {"usr/bin/carillon", "usr/bin/carillonctl", "usr/bin/carillon-load",
            "usr/lib/systemd/system/carillon.service", "usr/lib/sysusers.d/carillon.conf",
            "usr/lib/tmpfiles.d/carillon.conf", "etc/carillon/carillon.conf",
            "usr/share/doc/carillon/README.md", "usr/share/doc/carillon/docs/OPERATING.md"} <= files
    unit = (tmp_path / "usr/lib/systemd/system/carillon.service").read_text()
    assert "ExecStart=/usr/bin/carillon serve --config /etc/carillon/carillon.conf\n" in unit
    assert "@CARILLON" not in unit
    source = BINARY.parent.parent.parent
    for page in (source / "tools" / "man").glob("*.[15]"):
        assert f"usr/share/man/man{page.suffix[1]}/{page.name}" in files
    for program in ("carillon", "carillonctl", "carillon-load"):
        assert os.access(tmp_path / "usr/bin" / program, os.X_OK)


def test_no_link_of_the_installed_documents_is_dead(tmp_path):
    install("/usr", destdir=tmp_path)
    documents = list((tmp_path / "usr/share/doc/carillon").rglob("*.md"))
    links = [(page, target) for page in documents
             for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()) if "://" not in target]
    assert len(links) > 40
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []


def test_the_installed_configuration_is_the_default_but_for_the_places(tmp_path):
    install("/usr", destdir=tmp_path)
    file = tmp_path / "etc/carillon/carillon.conf"
    active = [line for line in file.read_text().splitlines() if line and line[0] not in "#["]
    assert active == ["dir = /var/lib/carillon", "socket = /run/carillon/admin.sock"]

    def in_effect(*arguments):
        done = subprocess.run([str(BINARY), "check-config", *arguments], capture_output=True, check=True,
                              env=Gateway._environment())
        return done.stdout

    assert in_effect("--config", str(file)) == in_effect("--set", "store.dir=/var/lib/carillon",
                                                         "--set", "admin.socket=/run/carillon/admin.sock")


def test_a_configuration_that_is_there_is_kept(tmp_path):
    install("/usr", destdir=tmp_path)
    file = tmp_path / "etc/carillon/carillon.conf"
    file.write_text("[net]\nlisten = 127.0.0.1:9\n")
    assert "Kept:" in install("/usr", destdir=tmp_path)
    assert file.read_text() == "[net]\nlisten = 127.0.0.1:9\n"


def test_the_installed_program_runs(tmp_path):
    prefix = tmp_path / "opt"
    install(prefix)
    config = prefix / "etc/carillon/carillon.conf"
    assert config.exists()
    process = subprocess.Popen([str(prefix / "bin/carillon"), "serve", "--config", str(config), "--data",
                                str(tmp_path / "d"), "--listen", "127.0.0.1:0", "--set",
                                f"admin.socket=/tmp/carillon-install-{os.getpid()}"],
                               stderr=subprocess.PIPE, env=Gateway._environment())
    try:
        assert any(b'"ready"' in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    listed = subprocess.run(["ldd", str(prefix / "bin/carillon")], capture_output=True, text=True, check=True).stdout
    assert "not found" not in listed and "libcrypto.so.3" not in listed


def test_the_service_may_do_what_it_has_to(tmp_path):
    """What a gateway needs of its unit; systemd itself would only miss it when the service runs."""
    install("/usr", destdir=tmp_path)
    rows = {}
    for line in (tmp_path / "usr/lib/systemd/system/carillon.service").read_text().splitlines():
        if line and line[0] not in "#[":
            name, value = line.split("=", 1)
            rows.setdefault(name, []).append(value)

    def only(name):
        assert len(rows[name]) == 1, (name, rows[name])
        return rows[name][0]

    assert (only("Type"), only("User"), only("Group")) == ("notify", "carillon", "carillon")
    assert only("ExecReload") == "/bin/kill -HUP $MAINPID"
    # ProtectSystem=strict leaves it only these to write to: store, admin socket, log.file, backups
    assert only("ProtectSystem") == "strict"
    assert [only(name) for name in ("StateDirectory", "RuntimeDirectory", "LogsDirectory")] == ["carillon"] * 3
    assert only("StateDirectoryMode") == "0700" and only("UMask") == "0077"
    assert only("ReadWritePaths") == "-/var/backups/carillon"
    assert "d /var/backups/carillon 0700 carillon carillon" in (tmp_path / "usr/lib/tmpfiles.d/carillon.conf").read_text()
    # a socket is a descriptor, and io_uring locks memory for its rings
    assert int(only("LimitNOFILE")) >= 1 << 20
    assert only("LimitMEMLOCK").endswith("M") and int(only("LimitMEMLOCK")[:-1]) >= 64
    assert {"AF_INET", "AF_INET6", "AF_UNIX"} <= set(only("RestrictAddressFamilies").split())
    calls = " ".join(rows["SystemCallFilter"]).split()
    assert {"@system-service", "io_uring_setup", "io_uring_enter", "io_uring_register"} <= set(calls)
    # a refusal does not mend itself, a crash may
    assert only("Restart") == "on-failure" and only("RestartPreventExitStatus").split() == ["2", "3", "4"]
    # drain.timeout_s by default 10, a backup under way 5, and the store's close
    assert int(only("TimeoutStopSec")) >= 30
    # logrotate's file of the manual stands where the unit lets it be written
    operating = (tmp_path / "usr/share/doc/carillon/docs/OPERATING.md").read_text()
    assert "/var/log/carillon/carillon.log {" in operating


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_service_is_valid_and_closed(tmp_path):
    prefix = tmp_path / "opt"
    install(prefix)
    unit = prefix / "lib/systemd/system/carillon.service"
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True,
                              timeout=60, check=False)
    ours = [line for line in verified.stderr.splitlines() if "carillon" in line]
    assert verified.returncode == 0 or not ours, verified.stderr
    assert not [line for line in ours if "Unknown" in line or "Failed to parse" in line], ours
    scored = subprocess.run(["systemd-analyze", "security", "--offline=true", str(unit)], capture_output=True, text=True,
                            timeout=60, check=False)
    score = float(scored.stdout.rsplit("Overall exposure level for carillon.service:", 1)[1].split()[0])
    assert score <= 2.0, score
