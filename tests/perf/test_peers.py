"""perf/peers.py: a peer serves and ends, and one that is not there is said to be absent by what is missing."""
import contextlib
import os
import socket
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "perf"))
import lab  # noqa: E402
import peers  # noqa: E402
import rows  # noqa: E402

BUILD = os.environ.get("CARILLON_BUILD", os.path.join(ROOT, "build", "release"))


def serve(name):
    with peers.serve(name, BUILD) as peer:
        return peer


@pytest.mark.parametrize("name, program", [("redis", "redis-server"), ("ws", "node")])
def test_program_that_is_not_installed_is_absent_and_says_how_it_comes(name, program, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(peers.Absent, match=f"{program} is not installed .tools/bootstrap --perf"):
        serve(name)


def test_uwebsockets_is_absent_until_its_library_is_named(monkeypatch):
    monkeypatch.delenv("CARILLON_UWS_LIBRARY", raising=False)
    with pytest.raises(peers.Absent, match="CARILLON_UWS_LIBRARY"):
        serve("uws")


def test_library_that_is_not_uwebsockets_is_a_failure_that_names_it(monkeypatch):
    monkeypatch.setenv("CARILLON_UWS_LIBRARY", "/nowhere/libsocketify.so")
    with pytest.raises(lab.Failure, match="/nowhere/libsocketify.so"):
        serve("uws")


@pytest.mark.parametrize("name", ["nchan", "ws", "socket.io", "uws"])
def test_peer_broadcasts_in_order_and_ends_with_the_measurement(name):
    try:
        with peers.serve(name, BUILD) as peer:
            pid = peer.pid
            run = subprocess.run([os.path.join(BUILD, "carillon-load"), "chat", "--rooms", "2", "--messages", "50",
                                  "--peer", peer.dialect, "--url", peer.url, "--seconds", "20", "--json"],
                                 capture_output=True, text=True, timeout=100, check=False)
    except peers.Absent as reason:
        pytest.skip(str(reason))
    assert run.returncode == 0, run.stderr
    assert not os.path.exists(f"/proc/{pid}")


def test_what_redis_syncs_lies_on_the_disk_that_the_gateway_is_measured_on(tmp_path):
    bench = rows.Bench(lab.arguments("", runs=1).parse_args(["--tiny", "--directory", str(tmp_path)]))
    with contextlib.ExitStack() as stack:
        redis = bench.peer(stack, "redis")
        if not redis:
            pytest.skip(bench.absent["redis"])
        with socket.create_connection(("127.0.0.1", redis.port)) as client:
            client.sendall(b"CONFIG GET dir\r\n")
            assert str(tmp_path) in client.recv(4096).decode()
    assert not os.listdir(tmp_path)
