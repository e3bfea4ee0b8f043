"""perf/profile: stacks are read and counted right, the picture is a picture, and a real gateway is sampled."""
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "perf"))
import flame  # noqa: E402
import threads  # noqa: E402

BUILD = os.environ.get("CARILLON_BUILD", os.path.join(ROOT, "build", "release"))
PROFILE = os.path.join(ROOT, "perf", "profile")

SCRIPT = """\
core/0 17    2004008
\tffffffff822010c9 tcp_sendmsg ([kernel.kallsyms])
\t            2b95 [unknown] (/usr/lib/x86_64-linux-gnu/liburing.so.2.3)
\t            2b00 [unknown] (/usr/lib/x86_64-linux-gnu/liburing.so.2.3)
\t           6f5a4 net_poll.part.0 (/srv/build/release/carillon)

core/0 17    2004008
\t           6f5a4 net_poll (/srv/build/release/carillon)

rocksdb:low 21    4008016
\t            7f10 rocksdb::BlockBuilder::Add(rocksdb::Slice const&) (/usr/lib/librocksdb.so.7.8.3)

io_uring worker 9    2004008
"""


def stacks():
    return list(flame.read(SCRIPT))


def test_threads_are_grouped_by_their_names():
    named = {"core/0": "core", "core/31": "core", "writer": "writer", "syncer": "syncer", "reader/1": "reader",
             "rocksdb:high": "rocksdb", "iou-wrk-312": "workers", "log": "other", "carillon": "other", "writer2": "other"}
    assert {name: threads.group_of(name) for name in named} == named


def test_stacks_are_read_from_the_outermost_caller_on():
    first, second, third, bare = stacks()
    assert first.frames == [("net_poll", "carillon"), ("[liburing]", "liburing"), ("tcp_sendmsg", "kernel")]
    assert (first.group, first.weight) == ("core", 2004008) and second.frames == [("net_poll", "carillon")]
    assert third.group == "rocksdb" and third.frames[0][1] == "librocksdb"
    assert bare.frames == []


def test_self_and_total_are_shares_of_the_group():
    hottest = flame.hottest(stacks())
    core = {f["function"]: (f["self"], f["total"]) for f in hottest["core"]["functions"]}
    assert core == {"net_poll": (0.5, 1.0), "tcp_sendmsg": (0.5, 0.5), "[liburing]": (0.0, 0.5)}
    assert hottest["core"]["share"] == pytest.approx(2 / 5) and hottest["rocksdb"]["share"] == pytest.approx(2 / 5)


def test_a_recursive_function_counts_once_in_total():
    text = "writer 1    10\n\t1 f (/x)\n\t2 f (/x)\n\t3 g (/x)\n"
    functions = flame.hottest(list(flame.read(text)))["writer"]["functions"]
    assert {f["function"]: f["total"] for f in functions} == {"f": 1.0, "g": 1.0}


def boxes(text):
    """[(title, x, width, y)] of a graph's frames."""
    space = "{http://www.w3.org/2000/svg}"
    found = []
    for group in xml.etree.ElementTree.fromstring(text).iter(space + "g"):
        rect = group.find(space + "rect")
        found.append((group.find(space + "title").text, *(float(rect.get(name)) for name in ("x", "width", "y"))))
    return found


def test_the_graph_is_well_formed_and_callees_lie_within_their_callers():
    drawn = boxes(flame.svg(stacks(), "a <title> & more"))
    by_title = {title.split(":")[0]: (x, width, y) for title, x, width, y in drawn if "rocksdb" not in title}
    caller, callee = by_title["net_poll (carillon)"], by_title["tcp_sendmsg (kernel)"]
    assert caller[0] <= callee[0] and callee[0] + callee[1] <= caller[0] + caller[1] + 0.01 and callee[2] < caller[2]
    assert callee[1] == pytest.approx(caller[1] / 2, abs=0.02)
    assert any("rocksdb::BlockBuilder::Add(rocksdb::Slice const&)" in title for title, *_ in drawn)


def test_texts_stay_inside_their_boxes():
    text = flame.svg(list(flame.read("".join(f"core/0 1    {n}\n\t1 {'long_name' * 9}{n} (/x)\n\n" for n in range(1, 90)))), "t")
    for x, width, shown in re.findall(r'<rect x="([\d.]+)" y="\d+" width="([\d.]+)".*?<text[^>]*>([^<]*)</text>', text):
        assert len(shown) * flame.LETTER <= float(width) + flame.LETTER, (x, width, shown)


def profile(*arguments):
    return subprocess.run([sys.executable, PROFILE, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_a_gateway_under_load_is_sampled_and_every_group_at_work_is_seen(tmp_path):
    svg = tmp_path / "flame.svg"
    done = profile("chat", "--seconds", "1", "--svg", str(svg), "--json", "--build", BUILD)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert {"core", "writer", "syncer"} <= set(told["groups"])
    assert any(title.startswith("core_turn (carillon)") for title, *_ in boxes(svg.read_text()))
    assert sum(group["share"] for group in told["groups"].values()) == pytest.approx(1, abs=0.01)


def test_a_room_is_made_for_a_load_of_sends(tmp_path):
    done = profile("send16", "--seconds", "1", "--svg", str(tmp_path / "flame.svg"), "--json", "--build", BUILD)
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert "writer" in json.loads(done.stdout)["groups"]  # refused requests would not come there


@pytest.mark.parametrize("arguments", [["nonsense"], ["--seconds", "0"], ["--seconds", "61"], ["--"]])
def test_what_makes_no_sense_is_refused(arguments):
    done = profile(*arguments)
    assert done.returncode == 2 and "usage:" in done.stderr
