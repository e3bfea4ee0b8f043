"""A gateway while carillon-load is at it: for programs that look at the gateway, not at what the generator reports."""
import json
import tempfile
import time
import urllib.error
import urllib.request

import lab

SETTINGS = {"limits.content_chars": 65536}  # of a gateway that takes all the loads of perf/: messages of 16 KiB are refused else

READY_S = 20          # until the load is there
BUSY_S = 0.05         # CPU seconds that the gateway has spent since: the load has begun
LOADS_S_MAX = 10      # beyond what was asked for: a load that is not ended ends by itself
USER = "load-0-0"     # who carillon-load's `rest` is
FOREVER = 10_000_000  # upgrades of `connect`, whose length is a count


def post(gateway, path, body, headers):
    request = urllib.request.Request(gateway.url + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)
    except (urllib.error.URLError, ValueError) as error:
        raise lab.Failure(f"POST {path}: {error}") from None


def make_room(gateway, user):
    """(key, room) of a tenant of its own."""
    key = post(gateway, "/v1/admin/tenants", {"name": "perf"}, {"X-Master-Key": gateway.master_key})["api_key"]
    room = post(gateway, "/v1/rooms", {"type": "group", "name": "perf"}, {"X-API-Key": key, "X-User-Id": user})
    return key, room["room_id"]


class Load:
    """carillon-load on the generator's CPU, from when the gateway is busy with it until the block ends. A context manager.
    ROOM in an option is a room that is made for it."""

    def __init__(self, gateway, options, seconds):
        """`options` begin with the scenario; `seconds` is how long it is needed for."""
        self.gateway, self.scenario = gateway, options[0]
        length = ["--connections", FOREVER] if self.scenario == "connect" else ["--seconds", READY_S + seconds + LOADS_S_MAX]
        who = ["--master-key", gateway.master_key]
        if any("ROOM" in str(option) for option in options):
            key, room = make_room(gateway, USER)
            who, options = ["--key", key], [str(option).replace("ROOM", room) for option in options]
        self.command = [lab.program(gateway.build, "carillon-load"), *options, *length, "--url", gateway.url, *who]

    def __enter__(self):
        self.said = tempfile.TemporaryFile()
        self.process = lab.start(self.command, lab.cpus()[1], stdout=self.said, stderr=self.said)
        try:
            self._begun()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begun(self):
        """Setting up is over when the generator says so, or, where it says nothing, when the gateway spends CPU time."""
        until, spent = time.monotonic() + READY_S, None
        while time.monotonic() < until:
            self.assert_runs()
            if self.scenario == "idle":
                return  # it is nothing to be busy with: whoever holds connections waits for them
            ready = self.scenario in ("connect", "rest") or "connections are ready" in self._text()
            if ready and spent is None:
                spent = self.gateway.cpu_seconds()
            if ready and self.gateway.cpu_seconds() - spent > BUSY_S:
                return
            time.sleep(0.02)
        raise lab.Failure(f"the load had not begun within {READY_S} s: {self._text()[-500:]}")

    def assert_runs(self):
        """A load that has ended, for whatever reason, was not there while the gateway was looked at."""
        if self.process.poll() is not None:
            raise lab.Failure(f"the load ended early, with code {self.process.returncode}: {self._text()[-500:]}")
        if "carillon-load: refused" in self._text():
            raise lab.Failure(f"the gateway refuses the load: {self._text()[-500:]}")

    def _text(self):
        self.said.seek(0)
        return self.said.read().decode(errors="replace")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        lab.end(self.process, 10)
        self.said.close()
