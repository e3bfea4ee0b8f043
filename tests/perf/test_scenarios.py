"""perf/scenarios and perf/results: what they say of a target, and how they end."""

import contextlib
import importlib.machinery
import importlib.util
import json
import pathlib
import subprocess
import sys
import time

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "perf"))
import rows  # noqa: E402

SCENARIOS = REPOSITORY / "perf" / "scenarios"
TIMEOUT_S = 120


def run(*arguments, program=SCENARIOS):
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=TIMEOUT_S)


def rounds(**contestants):
    return {name: [{"rate": value} for value in values] for name, values in contestants.items()}


def test_ratio_is_the_median_of_those_of_the_same_round():
    """Both halve in the second round: the ratio does not move."""
    value = rows.ratio("rate", "peer")(rounds(carillon=[100, 50, 90], peer=[50, 25, 30]))
    assert (value["median"], value["min"], value["max"], value["runs"]) == (2, 2, 3, 3)


@pytest.mark.parametrize("sign, must, stretch, met", [
    (">=", 2, 2.1, (True, False)), (">=", 2.1, None, (False, None)), ("<=", 2, 1.9, (True, False)), ("<=", 1.9, 1, (False, False)),
    (">=", None, 1.0, (None, True)),
])
def test_target_is_met_up_to_its_bound(sign, must, stretch, met):
    target = rows.Target("ratio", sign, rows.ratio("rate", "peer"), must, stretch)
    judged = target.judge(rounds(carillon=[100], peer=[50]))
    assert (judged["must_met"], judged["stretch_met"]) == met


def test_target_whose_peer_is_absent_is_not_measured_and_says_so():
    judged = rows.Target("ratio", ">=", rows.ratio("rate", "peer"), 1).judge(rounds(carillon=[100]))
    assert judged["value"] is None and judged["must_met"] is None and judged["absent"] == "peer"
    assert "not measured" in rows.target_line(judged)


@pytest.mark.parametrize("value", [rows.figure("speed"), rows.ratio("speed", "peer"), rows.above("speed", "peer")])
def test_target_whose_figure_nobody_has_is_a_failure(value):
    with pytest.raises(rows.lab.Failure, match="no figure speed"):
        rows.Target("speed", ">=", value, 1).judge(rounds(carillon=[100], peer=[50]))


def test_ratio_just_below_its_bound_does_not_read_like_the_bound():
    judged = rows.Target("ratio", ">=", rows.ratio("rate", "peer"), 1).judge(rounds(carillon=[0.997], peer=[1]))
    assert rows.target_line(judged) == "ratio: 0.997 (must ≥ 1): MISSED"


def slabs_of(sockets, **bytes_of_each):
    return {name.replace("_", "-") if name.startswith("kmalloc") else name: 1000 + sockets * size
            for name, size in bytes_of_each.items()}


def test_what_io_uring_keeps_is_what_the_generator_does_not_have():
    names = {"io_kiocb": 512, "kmalloc_96": 96, "kmalloc_512": 512, "TCP": 4000}
    figures = rows.kernel_figures(slabs_of(0, **names), slabs_of(100, **names), 100)
    assert figures == {"io_uring_bytes": 256, "tcp_bytes": 2000}


@pytest.mark.parametrize("elsewhere", ["kmalloc_96", "kmalloc_512"])
def test_kernel_that_keeps_it_in_other_caches_is_not_said_to_need_less(elsewhere):
    names = {"io_kiocb": 512, "kmalloc_96": 96, "kmalloc_512": 512, "TCP": 4000, elsewhere: 0}
    assert rows.kernel_figures(slabs_of(0, **names), slabs_of(100, **names), 100) == {"tcp_bytes": 2000}


def test_list_names_every_row_and_says_which_are_big():
    listed = json.loads(run("--list", "--json").stdout)
    assert set(listed) == set(rows.ROWS) and listed["W1"]["big"] is False and listed["memory"]["big"] is True


@pytest.mark.parametrize("arguments, complaint", [
    (("W2",), "there is no row W2"), (("--check", "--tiny"), "nothing that --check could hold"), (("--runs", "0"), "above 0"),
])
def test_what_cannot_be_measured_is_refused(arguments, complaint):
    refused = run(*arguments)
    assert refused.returncode == 2 and complaint in refused.stderr


def test_row_that_runs_says_figures_absent_peers_and_machine():
    done = run("durable-1", "--tiny", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    row = result["scenarios"][0]
    assert row["contestants"]["carillon"]["acked_per_second"]["median"] > 0
    assert ("redis" in row["contestants"]) != ("redis" in row["absent"])
    assert result["machine"]["fsync"]["p50_us"] > 0


def test_gateway_that_is_not_built_is_a_failure_that_says_how_to_build_it():
    failed = run("W1", "--tiny", "--build", "/nowhere")
    assert failed.returncode == 1 and "is not built" in failed.stderr


def module(name):
    loader = importlib.machinery.SourceFileLoader(f"perf_{name}", str(REPOSITORY / "perf" / name))
    loaded = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(loaded)
    return loaded


def made_up_row(must, others=0.0):
    """A row whose gateway is twice as fast as the peer."""
    def measure(_):
        figures = {name: [{"rate": rate, "others_percent": others}] for name, rate in (("carillon", 100), ("peer", 50))}
        return rows.Result(figures, {"rate": "rate"}, [rows.Target("speed ÷ peer", ">=", rows.ratio("rate", "peer"), must)],
                           {"carillon": "Carillon", "peer": "Peer 1.0"}, {"other": "it is not installed"})
    return "a row that is made up", False, measure


@pytest.fixture(name="scenarios")
def load_scenarios(monkeypatch):
    program = module("scenarios")
    options = program.lab.arguments("", runs=1).parse_args([])
    options.names, options.check, options.all, options.seconds = ["made-up"], True, False, 1

    def measure(must, others=0.0, **changes):
        monkeypatch.setitem(rows.ROWS, "made-up", made_up_row(must, others))
        vars(options).update(changes)
        program.measure_all(options)
    return measure


def test_check_passes_when_every_must_is_met(scenarios, capsys):
    scenarios(must=1.5)
    assert "every must that was measured is met" in capsys.readouterr().out


def test_check_fails_when_a_must_is_missed_and_says_which(scenarios, capsys):
    with pytest.raises(rows.lab.Failure, match="missed: made-up: speed ÷ peer"):
        scenarios(must=3)
    assert "speed ÷ peer: 2 (must ≥ 3): MISSED" in capsys.readouterr().out


def test_run_that_others_disturbed_says_so(scenarios, capsys):
    scenarios(must=1, others=30.0)
    assert "DISTURBED: other programs used up to 30 % of a CPU" in capsys.readouterr().out


def test_page_has_every_kept_row_with_verdicts_titles_and_absent_peers(scenarios, capsys, tmp_path):
    scenarios(must=3, check=False, json=True)
    (tmp_path / "made-up.json").write_text(capsys.readouterr().out, encoding="utf-8")
    program = module("results")
    written = program.page(program.read_kept(str(tmp_path)))
    assert "| made-up | speed ÷ peer | ≥ 3 |  | 2 | **missed** |" in written
    assert "| Peer 1.0 | 50 |" in written and "Absent: other: it is not installed." in written


def test_page_says_why_a_row_misses_and_where_its_time_goes(scenarios, capsys, tmp_path, monkeypatch):
    scenarios(must=3, check=False, json=True)
    (tmp_path / "made-up.json").write_text(capsys.readouterr().out, encoding="utf-8")
    functions = [{"function": "send", "object": "carillon", "self": 0.5, "total": 0.6}]
    (tmp_path / "load.profile").write_text(json.dumps({"groups": {"cores": {"share": 0.75, "functions": functions}}}),
                                              encoding="utf-8")
    program = module("results")
    (tmp_path / "misses.md").write_text("# Why\n\n## made-up\n\nIt is slow.\n", encoding="utf-8")
    monkeypatch.setattr(program, "MISSES", str(tmp_path / "misses.md"))
    monkeypatch.setattr(program, "PROFILES", {"made-up": ["load"]})
    written = program.page(program.read_kept(str(tmp_path)))
    assert "**Missed.** It is slow." in written
    assert "- cores 75 %: `send` 50 %" in written and "(flames/load.svg)" in written


def test_page_gives_no_reason_for_a_row_that_meets_its_targets(scenarios, capsys, tmp_path):
    scenarios(must=1, check=False, json=True)
    (tmp_path / "made-up.json").write_text(capsys.readouterr().out, encoding="utf-8")
    program = module("results")
    assert "**Missed.**" not in program.page(program.read_kept(str(tmp_path)))


def section_of(page, row):
    return page.partition(f"\n## {row}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("says, row", [("one room of 1000", "W1"), ("the same, 16", "W16"), ("100 rooms of 10", "100x10"),
                                       ("100 rooms of 2", "100x2"), ("16 KiB to 100", "16KiBx100"),
                                       ("CPU of a WebSocket upgrade", "upgrades"), ("user-space bytes", "memory")])
def test_figures_of_the_readme_stand_in_the_results(says, row):
    line = next(line for line in (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
                if line.startswith(f"| {says}"))
    measured = section_of((REPOSITORY / "perf" / "RESULTS.md").read_text(encoding="utf-8"), row)
    for cell in line.strip("| ").split("|")[1:]:
        figure = cell.split()[0].replace(",", "") if cell.strip() else ""
        figure = f"{int(figure) / 1000:.3g}k" if figure.isdigit() and int(figure) >= 10_000 else figure
        assert f"| {figure} (" in measured or not figure, f"{cell.strip()} is not what {row} says"


def test_page_without_anything_measured_says_so(tmp_path):
    page = tmp_path / "page.md"
    done = run("--only", "--kept", str(tmp_path), "--output", str(page), program=REPOSITORY / "perf" / "results")
    assert done.returncode == 0 and "Nothing has been measured yet." in page.read_text(encoding="utf-8")


def test_page_is_not_replaced_by_one_without_figures(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("what was measured\n", encoding="utf-8")
    done = run("--only", "--kept", str(tmp_path), "--output", str(page), program=REPOSITORY / "perf" / "results")
    assert done.returncode == 1 and "nothing is kept" in done.stderr
    assert page.read_text(encoding="utf-8") == "what was measured\n"


def test_tiny_run_leaves_the_page_and_what_was_measured_as_they_are(tmp_path):
    page, kept = tmp_path / "page.md", tmp_path / "kept"
    kept.mkdir()
    (kept / "durable-1.json").write_text("{}", encoding="utf-8")
    page.write_text("what was measured\n", encoding="utf-8")
    done = run("--only", "durable-1", "--tiny", "--kept", str(kept), "--output", str(page),
               program=REPOSITORY / "perf" / "results")
    assert done.returncode == 0, done.stderr
    assert page.read_text(encoding="utf-8") == "what was measured\n"
    assert (kept / "durable-1.json").read_text(encoding="utf-8") == "{}"


def descendants(pid):
    """{pid: its command} of all that a process has started, and what they have."""
    found = {}
    for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split():
        with contextlib.suppress(OSError):
            found[child] = pathlib.Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8").split("\0")
            found.update(descendants(child))
    return found


def test_results_that_are_ended_leave_nothing_running_under_another_program(tmp_path):
    under = tmp_path / "under"
    under.write_text("#!/bin/sh\n\"$@\"\nexit $?\n", encoding="utf-8")
    under.chmod(0o755)
    command = [REPOSITORY / "perf" / "results", "--only", "durable-1", "--seconds", "40", "--under", under, "--kept", tmp_path,
               "--output", tmp_path / "page.md"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until, started = time.monotonic() + 30, {}
        while time.monotonic() < until and not any(words[0].endswith("carillon-load") for words in started.values()):
            started = descendants(process.pid)
            time.sleep(0.05)
        process.terminate()
        process.wait(30)
    assert len(started) >= 4, started  # the program of --under, the scenario, its gateway and its generator
    until = time.monotonic() + 20
    while (left := [pid for pid in started if pathlib.Path(f"/proc/{pid}").exists()]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left, [started[pid] for pid in left]
