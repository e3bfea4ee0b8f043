"""Completions and manual pages: they say what the programs say, and shells and man take them."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from gateway import BUILD, REPOSITORY

COMPLETIONS = REPOSITORY / "tools" / "completions"
PAGES = REPOSITORY / "tools" / "man"
PROGRAMS = ("carillon", "carillonctl", "carillon-load")
PATIENCE_S = 20.0


def says(*command, code=0):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=PATIENCE_S,
                          stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == code, done
    return done.stdout


def plain(page):
    """A manual page's text without its escapes and requests."""
    text = (PAGES / page).read_text()
    for escaped, char in (("\\-", "-"), ("\\(aq", "'"), ("\\(ga", "`"), ("\\(ha", "^"), ("\\(ti", "~"), ("\\e", "\\")):
        text = text.replace(escaped, char)
    return re.sub(r"\\f[A-Z]", "", text)


def test_the_files_are_what_the_programs_say_of_themselves():
    done = subprocess.run([str(REPOSITORY / "tools" / "reference"), "--check", "--build", str(BUILD)], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_command_and_option_of_carillonctl_is_in_its_page_and_completion():
    page, bash, zsh = plain("carillonctl.1"), *((COMPLETIONS / name).read_text() for name in ("carillonctl.bash", "_carillonctl"))
    commands = [line.split("  ")[1] for line in says(BUILD / "carillonctl", "--help").split("\n\n")[2].splitlines()]
    assert len(commands) > 25
    for usage in commands:
        words = [word for word in usage.split() if word.islower() and not word.startswith("[")]
        assert f'.SS "{usage}"' in page, usage
        for word in words:
            assert word in bash and word in zsh, word
        for name in re.findall(r"^  --([a-z-]+)", says(BUILD / "carillonctl", *words, "--help"), re.M):
            assert f"--{name}" in page and f"--{name}" in bash and f"--{name}[" in zsh, (usage, name)


def test_every_setting_is_in_its_page_with_its_default():
    page, section, settings = plain("carillon.conf.5"), "", 0
    for line in says(BUILD / "carillon", "config", "--defaults").splitlines():
        if match := re.fullmatch(r"\[(\S+)\]", line):
            section = match[1] + "."
        elif match := re.fullmatch(r"(\S+) =\s*(.*)", line):
            assert f"{section}{match[1]}{' = ' + match[2] if match[2] else ''}\n" in page, line
            settings += 1
    assert settings > 25


def test_every_command_of_carillon_and_scenario_of_carillon_load_is_in_its_page():
    for program, page in (("carillon", "carillon.1"), ("carillon-load", "carillon-load.1")):
        names = re.findall(r"^  ([a-z][a-z-]+)  ", says(BUILD / program, "--help"), re.M)
        assert len(names) > 5
        for name in names:
            assert name in plain(page) and name in (COMPLETIONS / f"{program}.bash").read_text(), name


@pytest.mark.parametrize("page", [f"{program}.1" for program in PROGRAMS] + ["carillon.conf.5"])
def test_man_has_nothing_to_say_against_a_page(page):
    if shutil.which("mandoc"):
        assert says("mandoc", "-T", "lint", "-W", "warning", PAGES / page) == ""
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(PAGES / page)], capture_output=True,
                          text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0 and done.stderr == "", done.stderr


# --- bash -----------------------------------------------------------------------------------------------------------------


def completed(program, *words):
    """What bash offers for the last word."""
    script = (f"source {COMPLETIONS / program}.bash; compopt() {{ :; }}; COMP_WORDS=({program} \"$@\"); COMP_CWORD=$#; "
              f"_{program.replace('-', '_')}; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    return [line for line in says("bash", "-c", script, "bash", *words).splitlines() if line]


def test_bash_completes_groups_actions_and_options():
    assert completed("carillonctl", "ten") == ["tenant"]
    assert completed("carillonctl", "tenant", "") == ["list", "create", "show", "disable", "enable", "delete"]
    assert completed("carillonctl", "--socket", "/x", "tenant", "cr") == ["create"]
    assert completed("carillonctl", "connections", "--t") == ["--tenant"]
    assert completed("carillonctl", "tenant", "list", "--once") == []
    assert completed("carillonctl", "key", "create", "t_1", "--role", "") == ["server", "admin", "read"]
    assert "--wait" in completed("carillonctl", "drain", "--")
    assert completed("carillon", "verify") == ["verify-store", "verify-backup"]
    assert "--listen" in completed("carillon", "serve", "--")
    assert completed("carillon", "serve", "--set", "drain.") == ["drain.timeout_s="]
    assert completed("carillon-load", "fan") == ["fanout"]
    assert "--subscribers" in completed("carillon-load", "fanout", "--sub")
    assert completed("carillon-load", "rest", "--subs") == []


def test_bash_completes_files_where_files_are_meant(tmp_path):
    (tmp_path / "carillon.ini").touch()
    assert completed("carillon", "serve", "--config", f"{tmp_path}/car") == [f"{tmp_path}/carillon.ini"]
    assert completed("carillonctl", "--socket", f"{tmp_path}/car") == [f"{tmp_path}/carillon.ini"]
    assert completed("carillonctl", "--master-key", f"{tmp_path}/car") == []  # a secret is in no list


@pytest.mark.parametrize("program", PROGRAMS)
def test_bash_has_nothing_to_say_against_a_completion(program):
    assert says("bash", "-n", COMPLETIONS / f"{program}.bash") == ""
    if shutil.which("shellcheck"):
        says("shellcheck", "--shell=bash", COMPLETIONS / f"{program}.bash")


# --- zsh ------------------------------------------------------------------------------------------------------------------


def zsh_completes(typed, wanted, tmp_path):
    """Types something and a tab at an interactive zsh; whether what was wanted shows on the screen."""
    process, fd = pty.fork()
    if process == 0:
        os.environ.update(TERM="dumb", PS1="> ", ZDOTDIR=str(tmp_path), PATH=f"{BUILD}:{os.environ['PATH']}")
        os.execvp("zsh", ["zsh", "-f", "-i"])
    seen = ""
    try:
        os.write(fd, f"fpath=({COMPLETIONS} $fpath); autoload -Uz compinit; compinit -D -u; print ready\n".encode())
        deadline, asked = time.monotonic() + PATIENCE_S, False
        while time.monotonic() < deadline:
            ready, _, _ = select.select([fd], [], [], 0.5)
            if ready:
                seen += os.read(fd, 65536).decode(errors="replace")
            if not asked and re.search(r"^ready\s", seen, re.M):
                asked, seen = True, ""
                os.write(fd, typed.encode() + b"\t")
            if asked and wanted in seen:
                return True
        raise AssertionError(f"{wanted!r} is not in {seen!r}")
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(fd)


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_takes_the_completions(tmp_path):
    for program in PROGRAMS:
        assert says("zsh", "-n", COMPLETIONS / f"_{program}") == ""
    assert zsh_completes("carillonctl connec", "carillonctl connections", tmp_path)
    assert zsh_completes("carillonctl tenant cre", "tenant create", tmp_path)
    assert zsh_completes("carillonctl drain --wa", "--wait", tmp_path)
    assert zsh_completes("carillon verify-s", "verify-store", tmp_path)
