"""A gateway with load on it that is disturbed without being killed: what the tests of descriptors, memory, readers and
the network share beyond lib.py. The load is recorded, devices follow the rooms, and at the end the history checker and the
verifier of the store judge, as after crashes."""
import copy
import json
import os
import shlex
import subprocess
import sys
import time

import lib

SKIPPED = 77  # the exit code of a test that this machine cannot run, as automake and ctest have it


class Skip(Exception):
    """The machine cannot show this; the sentence says why."""


def run(test, options, before=None):
    """lib.run, for a test that may find out that the machine cannot run it; before() is called ahead of all else."""
    def guarded(options_, directory):
        try:
            return test(options_, directory)
        except Skip as skip:
            lib.Gateway.kill_all()
            skipped(skip)
    try:
        if before:
            before()
    except Skip as skip:
        skipped(skip)
    lib.run(guarded, options)


def skipped(skip):
    print(f"SKIP {os.path.basename(sys.argv[0])}: {skip}", flush=True)
    os._exit(SKIPPED)  # past lib.run, which knows pass and fail


def need(*programs):
    """Skip when one of the programs is not installed."""
    for program in programs:
        if subprocess.run(["which", program], stdout=subprocess.DEVNULL, check=False).returncode != 0:
            raise Skip(f"{program} is not installed (tools/bootstrap --tests)")


def wrapped(options, directory, name, prefix=(), settings=(), binary=None):
    """Options whose binary starts the gateway behind `prefix` (prlimit …) and with settings ("section.key", value). The
    script replaces itself, so that the process that the test knows is the gateway."""
    path = os.path.join(directory, name)
    more = [part for key, value in settings for part in ("--set", f"{key}={value}")]
    with open(path, "w", encoding="utf-8") as script:
        script.write(f'#!/bin/sh\nexec {shlex.join([*map(str, prefix), binary or options.binary])} "$@" '
                     f'{shlex.join(more)}\n')
    os.chmod(path, 0o755)
    changed = copy.copy(options)
    changed.binary = path
    return changed


class Scene(lib.Crashes):
    """Rooms, members, followers and one gateway; load() starts recorded load beside the caller."""

    def __init__(self, options, directory, prefix=(), settings=(), binary=None, environment=None):
        super().__init__(options, directory, environment)
        self.gateway.options = wrapped(options, directory, "gateway", prefix, settings, binary)
        self.loads = 0

    @property
    def pid(self):
        return self.gateway.process.pid

    def cpu_seconds(self):
        """CPU time of the gateway so far (proc(5): utime and stime are the 14th and 15th field)."""
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def cpu_share(self, seconds):
        """Of one CPU, over the next seconds."""
        before, began = self.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / (time.monotonic() - began)

    def metric(self, name):
        """The sum of all series of a metric."""
        text = lib.must(self.port, "GET", "/metrics")
        lines = [line for line in text.splitlines() if line.startswith((name + " ", name + "{"))]
        if not lines:
            raise lib.Failure(f"the gateway has no metric {name}")
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def load(self, rate, seconds, *more, timeout=20):
        """Starts recorded load at a steady rate; returns once it sends. finish_load() takes its report."""
        self.loads += 1
        record = os.path.join(self.directory, f"record-{self.loads}.jsonl")
        errors = os.path.join(self.directory, f"load-{self.loads}.log")
        with open(errors, "wb") as file:
            process = subprocess.Popen(self.load_command(record, "--rate", str(rate), "--seconds", str(seconds),
                                                         "--timeout", str(timeout), *more),
                                       stdout=subprocess.PIPE, stderr=file)
        process.record, process.errors = record, errors
        try:
            self.wait_for_ready(process, errors)
        except lib.Failure:
            process.kill()
            raise
        return process

    def finish_load(self, process, tolerate=False, seconds=60):
        """The report of load(); counts what it had acknowledged. Failure when a promise was broken or, unless that is
        tolerated, a connection was lost or a message refused."""
        try:
            out, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise lib.Failure(f"carillon-load did not end: {lib.tail(process.errors)}") from None
        if process.returncode != 0:
            raise lib.Failure(f"carillon-load ended with {process.returncode}: {lib.tail(process.errors)}")
        report = json.loads(out)
        if not tolerate and (report["refused"] or report["lost_connections"]):
            raise lib.Failure(f"the load was disturbed: {report['refused']} refused, {report['lost_connections']} "
                              f"connections lost; {lib.tail(process.errors)}")
        ok, unknown = self.ask_again(process.record)
        self.counts["ok"] += ok
        self.counts["unknown"] += unknown
        return report

    def send_one(self, timeout=10, content="one more"):
        """Sends a recorded message by HTTP; it must be acknowledged."""
        room = self.rng.choice(self.rooms)
        number = self.rooms.index(room)
        names = {"room": room, "sender": f"load-{number}-0", "client_id": f"one-{self.rng.getrandbits(64):x}"}
        self.record.write("invoke", content=content, **names)
        try:
            status, answer = lib.request(self.port, "POST", f"/v1/rooms/{room}/messages",
                                         {"content": content, "client_id": names["client_id"]},
                                         lib.acting(self.key, names["sender"]), timeout)
        except OSError as error:
            raise lib.Failure(f"a message was not served: {error!r}") from None
        if status // 100 != 2:
            raise lib.Failure(f"a message was answered {status}: {answer}")
        self.record.write("ok", seq=answer["seq"], message_id=answer["message_id"], **names)
        self.counts["ok"] += 1

    def still_lives(self):
        ended = self.gateway.process.poll()
        if ended is not None:
            raise lib.Failure(f"the gateway ended by itself with code {ended}; its log: "
                              f"{lib.tail(self.gateway.log_path)}")

    def check_followers(self):
        for follower in self.followers:
            if follower.problem:
                raise lib.Failure(follower.problem)


def eventually(what, predicate, seconds):
    """Waits until predicate() is true; Failure with `what` when it is not within that time."""
    until = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > until:
            raise lib.Failure(f"not within {seconds} s: {what}")
        time.sleep(0.02)
