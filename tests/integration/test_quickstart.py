"""docs/QUICKSTART.md: every command in it runs, and answers what it says there."""

import os
import re
import shlex
import signal
import subprocess
import threading
import time

import pytest

from gateway import BUILD, Gateway, REPOSITORY

DOCUMENT = REPOSITORY / "docs" / "QUICKSTART.md"
WAIT_S = 30.0
START_S = 540.0  # a build that was not there yet is part of it

# What differs from run to run, and what stands for it on both sides.
VARIABLE = [
    (r"\b([rmt])_[0-9a-z]{13}", r"\1_ID"),
    (r"\bck_[0-9a-f]{12}_[0-9a-f]{64}", "KEY"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "TIME"),
    (r'"ticket":"[A-Za-z0-9_-]{20,}"', '"ticket":"TICKET"'),
]


def blocks():
    """(kind, terminal, text) of every fenced block, in order."""
    found = re.findall(r"^```(\w+) terminal (\d)\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) * 2 == DOCUMENT.read_text().count("```"), "a fenced block that says no terminal"
    return found


def same_for_all(text):
    for pattern, stands_for in VARIABLE:
        text = re.sub(pattern, stands_for, text)
    return text


class Terminal:
    """A shell that is given one block after the other."""

    def __init__(self, folder):
        # -m would be closer to a person's shell; without it the whole group can be ended at once
        self.shell = subprocess.Popen(["bash", "--norc"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, env=Gateway._environment(), start_new_session=True)
        self.shown = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while data := os.read(self.shell.stdout.fileno(), 65536):
            self.shown += data

    def text(self):
        return self.shown.decode()

    def enter(self, text):
        self.shell.stdin.write(text.encode())
        self.shell.stdin.flush()

    def await_text(self, wanted, start=0, timeout_s=WAIT_S):
        """What has been shown from `start` up to `wanted`."""
        deadline = time.monotonic() + timeout_s
        while wanted not in self.text()[start:]:
            assert time.monotonic() < deadline, f"{wanted!r} does not come:\n{self.text()}"
            assert self.shell.poll() is None, f"the shell has ended:\n{self.text()}"
            time.sleep(0.02)
        return self.text()[start:self.text().index(wanted, start)]

    def run(self, text):
        """Runs a block and returns what it printed."""
        start = len(self.text())
        self.enter(f"{text}\necho done-$?\n")
        output = self.await_text("done-", start)
        self.await_text("done-0\n", start, 5)
        return output

    def close(self):
        if self.shell.poll() is None:
            os.killpg(self.shell.pid, signal.SIGKILL)
        self.shell.wait()
        self.reader.join()
        self.shell.stdin.close()
        self.shell.stdout.close()


@pytest.fixture
def terminals(tmp_path):
    """Three terminals in a folder that looks like the repository to the commands of the document."""
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "release").symlink_to(BUILD)
    opened = {str(number): Terminal(tmp_path) for number in (1, 2, 3)}
    yield opened
    for terminal in opened.values():
        terminal.close()


def start(terminal, command, folder):
    """The first terminal's command, but with a directory and port of the test's. A build that is not the one of
    tools/quickstart is started as that would start it."""
    assert command == "tools/quickstart\n"
    program = str(REPOSITORY / "tools" / "quickstart")
    if BUILD != REPOSITORY / "build" / "release":
        program = f"{shlex.quote(str(BUILD / 'carillon'))} dev"
    terminal.enter(f"{program} --data {shlex.quote(str(folder))}/carillon-data --listen 127.0.0.1:0\n")
    terminal.await_text("Administer it:", timeout_s=START_S)
    return re.search(r"http://(127\.0\.0\.1:\d+)/#key=ck_", terminal.text())[1]


def test_every_command_of_the_quickstart_does_what_it_says(terminals, tmp_path):
    address, said, heard = None, "", ""
    for kind, number, text in blocks():
        terminal = terminals[number]
        if kind == "sh" and number == "1":
            address = start(terminal, text, tmp_path)
        elif kind == "sh" and number == "2":
            terminal.enter(text.replace("127.0.0.1:8080", address))
            terminal.await_text("listening as bob")
        elif kind == "sh":
            assert said == "", f"what is answered is not shown: {said}"
            said = terminal.run(text.replace("127.0.0.1:8080", address))
        elif number == "2":
            heard += text  # as the document goes on
        else:
            assert same_for_all(said) == same_for_all(text)
            said = ""
    assert said == ""
    terminals["2"].await_text("alice: hello, bob\n")
    assert same_for_all(terminals["2"].text()) == same_for_all(heard)
