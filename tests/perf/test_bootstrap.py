"""tools/bootstrap --perf: what it does to a machine, and without a registry. Programs that it finds by name are made up."""
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
    return subprocess.run([tree / "tools" / "bootstrap", "--perf"], capture_output=True, text=True, timeout=110, check=False,
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
