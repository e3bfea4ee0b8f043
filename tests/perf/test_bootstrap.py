"""tools/bootstrap --perf: what it does to a machine, and without a registry. What it finds by name is made up."""
import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def bootstrap(tree, programs, **environment):
    """Runs tools/bootstrap --perf in a tree of its own; `programs`: {name: text} of those that are made up."""
    (tree / "tools").mkdir()
    (tree / "perf" / "peers").mkdir(parents=True)
    (tree / "bin").mkdir()
    shutil.copy(REPOSITORY / "tools" / "bootstrap", tree / "tools")
    for name in ("package.json", "package-lock.json", ".npmrc"):
        shutil.copy(REPOSITORY / "perf" / "peers" / name, tree / "perf" / "peers")
    for name, text in programs.items():
        (tree / "bin" / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (tree / "bin" / name).chmod(0o755)
    return subprocess.run([tree / "tools" / "bootstrap", "--perf"], capture_output=True, text=True, timeout=110,
                          check=False,
                          env={**os.environ, "PATH": f"{tree / 'bin'}:{os.environ['PATH']}", **environment})


def test_registry_that_is_silent_is_soon_given_up_and_is_no_failure(tmp_path):
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        began = time.monotonic()
        done = bootstrap(tmp_path, {"dpkg-query": "printf 'ii '"}, NO_PROXY="127.0.0.1", no_proxy="127.0.0.1",
                         npm_config_cache=str(tmp_path / "cache"),
                         npm_config_registry=f"http://127.0.0.1:{silent.getsockname()[1]}/")
    assert done.returncode == 0 and "perf/peers are not installed" in done.stderr
    assert time.monotonic() - began < 60


def test_servers_that_are_installed_to_be_measured_are_not_started(tmp_path):
    """nginx is new here, Redis was somebody's before."""
    log = tmp_path / "log"
    done = bootstrap(tmp_path, {
        "dpkg-query": "exit 1", "apt-get": f'echo apt-get "$1" >>{log}', "npm": "exit 0",
        "systemctl": f'case $* in "cat nginx") exit 1 ;; cat*|show*) ;; *) echo systemctl "$@" >>{log} ;; esac',
        "sudo": 'exec "$@"'})
    assert done.returncode == 0, done.stderr
    assert log.read_text(encoding="utf-8").splitlines() == [
        "apt-get update", "systemctl --quiet mask nginx", "apt-get install", "systemctl --quiet unmask nginx",
        "systemctl --quiet disable nginx"]


def test_servers_are_unmasked_when_they_could_not_be_installed(tmp_path):
    log = tmp_path / "log"
    done = bootstrap(tmp_path, {
        "dpkg-query": "exit 1", "apt-get": '[ "$1" = update ]', "npm": "exit 0",
        "systemctl": f'case $1 in cat) exit 1 ;; show*) ;; *) echo "$2" >>{log} ;; esac', "sudo": 'exec "$@"'})
    assert done.returncode != 0
    assert log.read_text(encoding="utf-8").split() == ["mask", "unmask", "disable"]
