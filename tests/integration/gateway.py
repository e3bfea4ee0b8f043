"""The gateway as a process: started on a directory of its own, ended in every way a process ends, and watched.

Nothing here knows the protocol; it only starts the real binary and reads what it says on stderr.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CARILLON_BUILD", REPOSITORY / "build" / "release")).resolve()
BINARY = BUILD / "carillon"

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 15.0
DRAIN_TIMEOUT_S = 1  # of the servers under test, so that a stop never holds up the run

# What stands on stderr when the program found itself broken. Each is a failure of whatever test was running.
REPORTS = (
    '"event":"assertion_failed"',
    "AddressSanitizer",
    "LeakSanitizer",
    "ThreadSanitizer",
    "UndefinedBehaviorSanitizer",
    "runtime error:",
    "terminate called",
    "Assertion `",
)


class Gateway:
    """One data directory and the process that serves it, if one does."""

    def __init__(self, cores=2, settings=None, environment=None, config=None, command_prefix=()):
        """Settings by --set; `environment` adds variables, `config` is a file's text, `command_prefix` stands in front of
        the program (prlimit …)."""
        # Short on purpose: the admin socket's path must fit the 108 bytes of sockaddr_un.
        self.directory = Path(tempfile.mkdtemp(prefix="carillon-"))
        self.data = self.directory / "data"
        self.admin_socket = self.directory / "admin.sock"
        self.log_path = self.directory / "stderr.log"
        self.config_path = None  # a file of settings, which those on the command line override
        self.master_key = secrets.token_hex(16)
        self.cores = cores
        self.settings = {
            "admin.master_key": self.master_key,
            "admin.socket": str(self.admin_socket),
            "drain.timeout_s": str(DRAIN_TIMEOUT_S),
            **(settings or {}),
        }
        self.environment, self.command_prefix = environment or {}, list(command_prefix)
        self.config_path = self.directory / "carillon.ini" if config is not None else None
        if config is not None:
            self.config_path.write_text(config, encoding="utf-8")
        self.process = None
        self.host, self.port = "127.0.0.1", 0
        self._log_seen = 0

    # --- life ------------------------------------------------------------------------------------------------

    def start(self):
        """Starts the gateway and returns when it has announced its address."""
        assert self.process is None, "already running"
        log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**self._environment(), **self.environment})
        self.host, self.port = self._await_ready(log_start)
        return self

    def stop(self):
        """SIGTERM: drains and ends with exit code 0."""
        process = self._running()
        process.send_signal(signal.SIGTERM)
        self.await_exit(0)

    def kill(self):
        """SIGKILL: the process gets no chance to tidy up."""
        process = self._running()
        process.kill()
        self.await_exit(-signal.SIGKILL)

    def restart(self, how="stop"):
        """Ends the process by `stop` or `kill` and starts another one on the same directory."""
        getattr(self, how)()
        return self.start()

    def await_exit(self, code):
        """Waits until the process has ended and asserts its exit code (negative: the signal that ended it)."""
        process, self.process = self._running(), None
        try:
            ended = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the gateway did not end within {STOP_TIMEOUT_S} s\n{self.log_tail()}") from None
        self.assert_no_reports()
        assert ended == code, f"the gateway ended with {ended}, expected {code}\n{self.log_tail()}"

    def discard(self):
        """Ends whatever still runs, without judging it, and removes the directory."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def is_running(self):
        return self.process is not None and self.process.poll() is None

    # --- what it said ------------------------------------------------------------------------------------------

    def log_text(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines=30):
        return "--- last lines of the gateway's stderr ---\n" + "\n".join(self.log_text().splitlines()[-lines:])

    def assert_healthy(self):
        """The process that should run does run, and has reported nothing since the last look."""
        if self.process is not None and self.process.poll() is not None:
            code, self.process = self.process.returncode, None
            raise AssertionError(f"the gateway ended by itself with {code}\n{self.log_tail()}")
        self.assert_no_reports()

    def assert_no_reports(self):
        text = self.log_text()
        fresh, self._log_seen = text[self._log_seen:], len(text)
        reports = [line for line in fresh.splitlines() if any(mark in line for mark in REPORTS)]
        assert not reports, "the gateway reported a defect:\n" + "\n".join(reports[:5]) + "\n" + self.log_tail(60)

    # --- command line --------------------------------------------------------------------------------------------

    def run_command(self, *arguments, timeout_s=30):
        """Runs one of the binary's other commands (`verify-store` …) and returns the finished process."""
        return subprocess.run([str(BINARY), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True,
                              timeout=timeout_s, env=self._environment(), check=False)

    def _command(self):
        command = [*self.command_prefix, str(BINARY), "serve", "--data", str(self.data), "--listen", "127.0.0.1:0",
                   "--cores", str(self.cores)]
        if self.config_path is not None:
            command += ["--config", str(self.config_path)]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        return command

    @staticmethod
    def _environment():
        """The caller's environment without CARILLON_ variables, which would be settings of the gateway."""
        return {name: value for name, value in os.environ.items() if not name.startswith("CARILLON_")}

    def _running(self):
        assert self.process is not None, "not running"
        return self.process

    def _await_ready(self, log_start):
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for line in self.log_path.read_bytes()[log_start:].splitlines():
                address = ready_address(line)
                if address:
                    return address
            if self.process.poll() is not None:
                code, self.process = self.process.returncode, None
                raise AssertionError(f"the gateway ended with {code} before it was ready\n{self.log_tail()}")
            time.sleep(0.01)
        self.process.kill()
        self.process.wait()
        self.process = None
        raise AssertionError(f"the gateway was not ready within {START_TIMEOUT_S} s\n{self.log_tail()}")


def ready_address(line):
    """The (host, port) that a log line announces, or None when it is another line or not whole yet."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict) or fields.get("event") != "ready" or "listen" not in fields:
        return None
    host, _, port = fields["listen"].rpartition(":")
    return host.strip("[]"), int(port)
