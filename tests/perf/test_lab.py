"""perf/lab.py: numbers, ratios and tables are what they say, and no process outlives the laboratory."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "perf"))
import lab  # noqa: E402

BUILD = os.environ.get("CARILLON_BUILD", os.path.join(ROOT, "build", "release"))


def python(text):
    return [sys.executable, "-c", text]


def test_a_spread_has_the_median_and_the_ends():
    assert lab.spread([5, 1, 9, 2]) == {"median": 3.5, "min": 1, "max": 9, "runs": 4}


def test_a_percentile_is_a_value_that_was_measured():
    values = list(range(1, 101))
    assert [lab.percentile(values, p) for p in (50, 99, 100)] == [50, 99, 100]
    assert lab.percentile([7], 99) == 7


def test_contestants_take_turns_and_every_other_round_goes_backwards():
    order = []

    def contestant(name):
        return lambda: order.append(name) or {"rate": len(order)}
    rounds = lab.alternate({name: contestant(name) for name in "ab"}, 3)
    assert "".join(order) == "abbaab"
    assert [result["rate"] for result in rounds["a"]] == [1, 4, 5]


def test_a_ratio_is_taken_within_each_round():
    # b is half of a in every round, though the machine became ten times as fast; a ratio of medians would say so, too,
    # but not that it held each time
    rounds = {"a": [{"rate": 10}, {"rate": 100}, {"rate": 30}], "b": [{"rate": 20}, {"rate": 200}, {"rate": 60}]}
    assert lab.ratio(rounds, "a", "b", "rate") == {"median": 0.5, "min": 0.5, "max": 0.5, "runs": 3}
    uneven = {"a": [{"rate": 1}], "b": []}
    with pytest.raises(ValueError):
        lab.ratio(uneven, "a", "b", "rate")


@pytest.mark.parametrize("value, text", [
    (0, "0"), (0.0421, "0.042"), (4.951, "4.95"), (346, "346"), (346.4, "346"), (9999, "9999"), (10_000, "10k"),
    (163_400, "163k"), (999_499, "999k"), (999_500, "1M"), (2_370_000, "2.37M"), (1.18e9, "1.18G")])
def test_numbers_have_three_digits(value, text):
    assert lab.number(value) == text


def test_with_a_unit_there_is_no_letter_before_it():
    assert [lab.number(value, " µs") for value in (12_345, 1234.5, 42)] == ["12,345 µs", "1,234 µs", "42 µs"]
    assert lab.span(lab.spread([100, 2000, 30]), " ns") == "100 ns (30–2,000)"
    assert lab.span(lab.spread([163_400]), "") == "163k"


def test_a_table_is_aligned():
    assert lab.table(("row", "rate"), [("a", 1), ("longer", 1234)]) == "row     rate\na          1\nlonger  1234"


def test_the_machine_is_described(tmp_path):
    described = lab.machine(str(tmp_path))
    assert described["cpus"] >= 1 and described["kernel"] == os.uname().release
    assert 0 < described["fsync"]["p50_us"] <= described["fsync"]["p99_us"]
    assert described["filesystem"] != "unknown"
    assert not os.listdir(tmp_path)
    assert all(str(tmp_path) in line or "Linux" in line for line in lab.machine_lines(described))


def test_a_program_runs_where_it_is_told_and_its_json_comes_back():
    cpu = lab.cpus()[1]
    text = "import json, os; print(json.dumps({'on': list(os.sched_getaffinity(0))}))"
    assert lab.run(python(text), cpu) == {"on": [cpu]}


@pytest.mark.parametrize("text, says", [
    ("import sys; print('no disk', file=sys.stderr); sys.exit(3)", "code 3.*no disk"),
    ("print('hello')", "no JSON"), ("print('[]')", "no object")])
def test_a_program_that_fails_or_prints_no_object_has_no_number(text, says):
    with pytest.raises(lab.Failure, match=f"(?s){says}"):
        lab.run(python(text))


def test_a_program_that_takes_too_long_is_killed():
    with pytest.raises(lab.Failure, match="more than 0.3 s"):
        lab.run(python("import time; time.sleep(60)"), timeout_s=0.3)
    assert not lab._running


def test_a_program_that_cannot_run_here_is_no_failure():
    with pytest.raises(lab.Skip, match="no io_uring"):
        lab.run(python("import sys; print('no io_uring', file=sys.stderr); sys.exit(77)"))


def test_a_program_that_is_not_built_says_how_to_build_it(tmp_path):
    with pytest.raises(lab.Failure, match="cmake --build --preset release"):
        lab.program(str(tmp_path), "carillon")


# --- processes --------------------------------------------------------------------------------------------------------


SLEEPER = f"""
import sys, time
sys.path.insert(0, {os.path.join(ROOT, "perf")!r})
import lab
def work(options):
    process = lab.start(["sh", "-c", "echo $$; exec sleep 60"])  # it says its number once it is what it will be
    lab.end(process, 60)
lab.main(work, None)
"""


@pytest.mark.parametrize("how, code", [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_what_was_started_ends_with_the_laboratory(how, code):
    laboratory = subprocess.Popen(python(SLEEPER), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    child = int(laboratory.stdout.readline())
    laboratory.send_signal(how)
    assert laboratory.wait(20) == code
    until = time.monotonic() + 20
    while os.path.exists(f"/proc/{child}") and _state(child) != "Z":
        assert time.monotonic() < until, "the sleeper outlived the laboratory"
        time.sleep(0.01)


def _state(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return "Z"


def test_a_gateway_serves_a_load_and_leaves_nothing(tmp_path):
    with lab.Gateway(BUILD, directory=str(tmp_path)) as gateway:
        assert os.sched_getaffinity(gateway.pid) == {lab.cpus()[0]}
        result = gateway.load("rest", "--path", "/health", "--connections", 2, seconds=0.2)
        assert gateway.cpu_seconds() >= 0
    assert json.dumps(result) and result
    assert not os.path.exists(f"/proc/{gateway.process.pid}") and not os.listdir(tmp_path)


def test_a_gateway_that_does_not_start_says_why(tmp_path):
    with pytest.raises(lab.Failure, match="no.such.setting"):
        with lab.Gateway(BUILD, {"no.such.setting": "1"}, directory=str(tmp_path)):
            pass
    assert not os.listdir(tmp_path) and not lab._running


def test_the_commit_floor_is_what_a_durable_answer_waits_at_least(tmp_path):
    floor = lab.commit_floor(BUILD, str(tmp_path), rate=500, seconds=0.1)
    assert 0 < floor["p50_us"] <= floor["p99_us"] and floor["messages_per_sync"] >= 1
