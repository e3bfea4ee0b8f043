"""Planted bugs (src/base/planted.h) stay out of the product: not one byte of them is in a gateway that is built as ever."""

import re
import subprocess

import pytest

from gateway import BINARY, BUILD, REPOSITORY

ROWS = re.findall(r"^PLANT\((\w+), \"\w+\",\s+\"(.+)\"\)$", (REPOSITORY / "src/base/planted.def").read_text(), re.M)
BUILT_IN = re.search(r"CARILLON_PLANTED:BOOL=ON|CARILLON_PLANT_ACK", (BUILD / "CMakeCache.txt").read_text())


def without_debug_information(directory):
    """The program as it is loaded: the debug information alone may name the source files."""
    stripped = directory / "carillon"
    subprocess.run(["objcopy", "--strip-debug", str(BINARY), str(stripped)], check=True)
    return stripped.read_bytes()


@pytest.mark.skipif(bool(BUILT_IN), reason="this build is made to have them")
def test_nothing_of_a_planted_bug_is_in_the_gateway(tmp_path):
    assert ROWS
    loaded = without_debug_information(tmp_path)
    assert b"commit_writer_step" in loaded, "the symbols are not there to be looked at"
    for name, sentence in ROWS:
        assert name.encode() not in loaded, name
        assert sentence.encode() not in loaded, sentence
    assert not re.findall(rb"[\w ]*planted[\w ]*", loaded, re.I)


@pytest.mark.skipif(bool(BUILT_IN), reason="this build is made to have them")
def test_the_version_says_nothing_of_planted_bugs():
    said = subprocess.run([str(BINARY), "--version"], capture_output=True, text=True, check=True,
                          env={"CARILLON_PLANTED": "ack_before_sync"})
    assert re.fullmatch(r"carillon \d+\.\d+\.\d+ \(store format \d+\)\n", said.stdout) and said.stderr == ""


@pytest.mark.skipif(not BUILT_IN, reason="no bugs are planted in this build")
def test_a_gateway_with_planted_bugs_says_so():
    said = subprocess.run([str(BINARY), "--version"], capture_output=True, text=True, check=True,
                          env={"CARILLON_PLANTED": "seq_reused"})
    assert "NOT FOR USE" in said.stdout and "on: seq_reused" in said.stdout
    refused = subprocess.run([str(BINARY), "--version"], capture_output=True, text=True, check=False,
                             env={"CARILLON_PLANTED": "no_such_bug"})
    assert refused.returncode == 2 and "no_such_bug" in refused.stderr
