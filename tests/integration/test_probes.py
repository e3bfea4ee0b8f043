"""Tracepoints (src/base/probe.h): the header, the table in perf/README.md and the notes in the binary say the same."""

import asyncio
import os
import re
import shutil
import signal
import subprocess

import pytest

from client import new_tenant
from gateway import BINARY, REPOSITORY

SIZES = {"uint32_t": 4, "uint64_t": 8, "size_t": 8}


def of_the_header():
    """{probe: [(parameter, bytes), …]}"""
    text = (REPOSITORY / "src/base/probe.h").read_text()
    functions = re.findall(r"^PROBE_FUNCTION probe_(\w+)\(([^)]*)\)", text, re.M)
    return {name: [(p.split()[-1], SIZES[p.split()[0]]) for p in parameters.split(",")] for name, parameters in functions}


def of_the_readme():
    """{probe: [parameter, …]}, from the rows `| name | parameter, … | what |` below the heading."""
    section = (REPOSITORY / "perf/README.md").read_text().split("## Tracepoints", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", section, re.M)
    return {name: re.findall(r"`(\w+)`", parameters) for name, parameters in rows}


def of_the_binary():
    """{probe: {(bytes of each argument), …}}, one tuple for each place; a negative size means signed."""
    notes = subprocess.run(["readelf", "--wide", "-n", str(BINARY)], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"Provider: carillon\s+Name: (\w+)\s+Location:.*\s+Arguments: ?(.*)", notes)
    probes = {}
    for name, arguments in found:
        sizes = tuple(abs(int(argument.split("@")[0])) for argument in arguments.split())
        probes.setdefault(name, set()).add(sizes)
    return probes


needs_sdt = pytest.mark.skipif(not of_the_binary(), reason="built without <sys/sdt.h> (systemtap-sdt-dev)")


def test_the_probes_are_built_in_where_their_header_is_installed():
    installed = subprocess.run(["cc", "-E", "-include", "sys/sdt.h", "-x", "c", os.devnull], capture_output=True,
                               check=False).returncode == 0
    assert bool(of_the_binary()) == installed


@needs_sdt
def test_the_binary_has_each_probe_of_the_header_with_its_arguments():
    header, binary = of_the_header(), of_the_binary()
    assert header and set(binary) == set(header)
    for name, parameters in header.items():
        assert binary[name] == {tuple(size for _, size in parameters)}, name


def test_the_table_for_readers_names_the_same_probes_and_arguments():
    assert of_the_readme() == {name: [p for p, _ in parameters] for name, parameters in of_the_header().items()}


@needs_sdt
def test_latency_bt_uses_no_probe_or_argument_that_there_is_not():
    script = (REPOSITORY / "perf/latency.bt").read_text()
    clauses = re.findall(r"^usdt:\*:carillon:(\w+)\n(.*?)^}", script, re.M | re.S)
    header = of_the_header()
    assert {name for name, _ in clauses} <= set(header)
    for name, body in clauses:
        used = [int(number) for number in re.findall(r"\barg(\d+)", body)]
        assert max(used, default=-1) < len(header[name]), name


def bpftrace_works():
    if os.geteuid() != 0 or not shutil.which("bpftrace"):
        return False
    return subprocess.run(["bpftrace", "-e", "BEGIN { exit(); }"], capture_output=True, check=False, timeout=60).returncode == 0


@needs_sdt
@pytest.mark.slow
@pytest.mark.skipif(not bpftrace_works(), reason="bpftrace is not installed, or may not run here")
async def test_latency_bt_sees_every_stage_of_a_message_once_a_core(gateway):
    alice, = (await new_tenant(gateway)).users("alice")
    room_id = await alice.new_room("group")
    sockets = [await alice.connect() for _ in range(150)]  # at least one core needs several turns for them
    tracer = await asyncio.create_subprocess_exec(
        "bpftrace", "-p", str(gateway.process.pid), str(REPOSITORY / "perf/latency.bt"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    try:
        while b"Tracing" not in (line := await tracer.stdout.readline()):
            assert line, "bpftrace ended"
        await sockets[0].message(room_id, "traced")
        for socket in sockets:
            await socket.expect("message", content="traced")
        tracer.send_signal(signal.SIGINT)
        said, _ = await tracer.communicate()
    finally:
        if tracer.returncode is None:
            tracer.kill()
            await tracer.wait()
    for stage in ("parse_to_commit", "commit_to_durable", "durable_to_fanout", "fanout_to_send", "parse_to_fanout", "sync"):
        assert f"@{stage}_us:" in said.decode(), said.decode()
    for name in ("durable_to_fanout_us", "parse_to_fanout_us", "events_of_a_run"):
        histogram = said.decode().split(f"@{name}:", 1)[1].split("@", 1)[0].rsplit("\n\n", 1)[0]
        counts = re.findall(r"^[\[(].*?[\])]\s+(\d+) \|", histogram, re.M)
        assert 1 <= sum(map(int, counts)) <= gateway.cores, said.decode()
