"""A gateway while carillon-load is at it: for programs that look at the gateway, not at what the generator reports."""
import tempfile
import time

import lab

SETTINGS = {"limits.content_chars": 65536}  # of a gateway that takes all the loads of perf/: messages of 16 KiB are refused else

READY_S = 20          # until the load is there
BUSY_S = 0.05         # CPU seconds that the gateway has spent since: the load has begun
LOADS_S_MAX = 10      # beyond what was asked for: a load that is not ended ends by itself
FOREVER = 10_000_000  # upgrades of `connect`, whose length is a count


class Load:
    """carillon-load on the generator's CPU, from when the gateway is busy with it until the block ends. A context manager."""

    def __init__(self, gateway, options, seconds):
        """`options` begin with the scenario; `seconds` is how long it is needed for."""
        self.gateway, self.scenario = gateway, options[0]
        length = ["--connections", FOREVER] if self.scenario == "connect" else ["--seconds", READY_S + seconds + LOADS_S_MAX]
        self.command = [lab.program(gateway.build, "carillon-load"), *options, *length, "--url", gateway.url,
                        "--master-key", gateway.master_key]

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
