"""tools/check: a run in which something could not be run is not a green one."""

import os
import shutil
import subprocess

import pytest

from gateway import REPOSITORY


def check(tree, tools, *arguments):
    """Runs tools/check in a tree of its own, in which every program that it finds by name says yes."""
    done = subprocess.run([tree / "tools" / "check", *arguments], capture_output=True, text=True, timeout=120,
                          check=False, env={**os.environ, "PATH": str(tools)})
    results = ("passed", "failed", "missing", "absent")
    rows = [line.rsplit(maxsplit=2) for line in done.stdout.splitlines() if line.endswith(results)]
    table = {row[0].strip(): row[2] for row in rows if len(row) == 3 and row[1].isdigit()}
    return done.returncode, {step: result for step, result in table.items() if not step.endswith(",")}


def tree_of_yes(tmp_path):
    """A tree in which whatever tools/check --fast runs says yes at once, and the folder of the programs it finds."""
    tree, tools = tmp_path / "tree", tmp_path / "tools"
    (tree / "tools").mkdir(parents=True)
    (tree / "tests" / "fault").mkdir(parents=True)
    (tree / "tests" / "integration").mkdir()
    (tree / "tests" / "perf").mkdir()
    for test in ("fault/test_nothing.py", "integration/test_nothing.py", "perf/test_nothing.py"):
        (tree / "tests" / test).write_text("def test_nothing():\n    pass\n")
    shutil.copy(REPOSITORY / "tools" / "check", tree / "tools" / "check")
    tools.mkdir()
    for name in "bash env dirname readlink rm mkdir nproc grep tail sed timeout cat true cut tr wc".split():
        (tools / name).symlink_to(shutil.which(name))
    yes = [tools / "cmake", tools / "ctest", tools / "shellcheck", tree / "tools" / "bootstrap",
           tree / "tools" / "columns", *(tree / "tests" / "fault" / name for name in ("kill", "power-loss"))]
    for path in yes:
        path.write_text("#!/bin/sh\nexit 0\n")
        path.chmod(0o755)
    return tree, tools


def test_a_fault_script_that_cannot_be_run_and_a_missing_shellcheck_fail(tmp_path):
    tree, tools = tree_of_yes(tmp_path)
    code, rows = check(tree, tools, "--fast")
    assert code == 0 and rows["scripts"] == rows["columns"] == rows["fault kill"] == "passed", rows

    (tree / "tests" / "fault" / "kill").chmod(0o644)
    code, rows = check(tree, tools, "--fast")
    assert code == 1 and rows["fault kill"] == "missing", rows

    (tree / "tests" / "fault" / "kill").chmod(0o755)
    (tools / "shellcheck").unlink()
    code, rows = check(tree, tools, "--fast")
    assert code == 1 and rows["scripts"] == "missing", rows


def test_a_part_is_the_steps_that_match_and_what_they_need(tmp_path):
    tree, tools = tree_of_yes(tmp_path)
    code, rows = check(tree, tools, "--fast", "--only", "^fault (kill|power)")
    needed = ["bootstrap", "configure release", "build release"]
    assert code == 0 and list(rows) == [*needed, "fault kill", "fault power-loss"], rows
    assert check(tree, tools, "--fast", "--only", "scripts") == (0, {"scripts": "passed"})
    assert len(list((tree / "build" / "check").glob("*.log"))) == 6, "a piece keeps the logs of the others"

    (tree / "tools" / "bootstrap").write_text("#!/bin/sh\nexit 1\n")
    code, rows = check(tree, tools, "--fast", "--only", "fault kill")
    assert code == 1 and rows == {"bootstrap": "failed"}, rows

    for pattern in ("no such step", "["):
        assert check(tree, tools, "--fast", "--only", pattern) == (2, {})


COLUMNS = REPOSITORY / "tools" / "columns"


def columns(*arguments):
    done = subprocess.run([COLUMNS, *arguments], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout


def test_a_line_is_as_wide_as_it_has_characters(tmp_path):
    source = tmp_path / "a.c"
    source.write_text("/* " + "ä" * 114 + " */\n", encoding="utf-8")
    assert columns(source)[0] == 0
    source.write_text("int a;\n/* " + "ä" * 115 + " */\n", encoding="utf-8")
    code, said = columns(source)
    assert code == 1 and said.startswith(f"{source}:2: 121 columns"), said
    assert columns(tmp_path / "none.c")[0] == 2


@pytest.mark.skipif(not shutil.which("clang-format"), reason="needs clang-format (tools/bootstrap --analysis)")
def test_wrapping_leaves_the_other_lines_alone(tmp_path):
    source = tmp_path / "a.c"
    kept = "int   kept ( void ) ;\n"
    wide = [f"/* --- a part {'-' * 120} */", f"/* {'word ' * 30}end */", f"int f(int {'a' * 60}, int {'b' * 60});"]
    source.write_text(wide[0] + "\n" + kept + wide[1] + "\n" + wide[2] + "\n")
    assert columns("--wrap", source)[0] == 0
    lines = source.read_text().splitlines()
    assert kept in source.read_text() and len(lines) == 6, lines
    assert len(lines[0]) == 119 and lines[0].endswith("- */")
