"""perf/capacity: costs are found again that made the figures, plans follow from them, and a real gateway is measured."""
import json
import math
import os
import random
import subprocess
import sys

import pytest

numpy = pytest.importorskip("numpy")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "perf"))
import capacity_model as models  # noqa: E402

BUILD = os.environ.get("CARILLON_BUILD", os.path.join(ROOT, "build", "release"))
CAPACITY = os.path.join(ROOT, "perf", "capacity")
COSTS = {
    "core": {"messages": 4e-6, "sends": 3e-6, "deliveries": 2e-7, "bytes_sent": 2e-10, "syncs": 8e-6},
    "writer": {"messages": 2e-6, "commit_bytes": 1e-9, "syncs": 1e-5}, "syncer": {"commit_bytes": 1e-9, "syncs": 6e-5},
    "written": {"commit_bytes": 1.0, "syncs": 4096.0}, "commit_bytes": {"messages": 90.0, "content_bytes": 1.0},
    "bytes_sent": {"deliveries": 250.0, "delivered_bytes": 1.0},
}
MODEL = {"costs": {**COSTS, "memory": {"one": 8e6, "connections": 1000.0, "rooms": 2000.0, "subscriptions": 80.0}},
         "residuals": {}, "sync_seconds": 5e-4, "upgrade_cpu": 2e-5, "ping_cpu": 9e-6, "rocksdb_cpu": 3e-9,
         "write_amplification": 2.5, "kernel_bytes": 4000.0, "two_cores": 1.1, "cache_bytes": 256 << 20,
         "buffer_bytes": 256 << 20}
LOAD = {"connections": 10_000, "rooms": 1000, "messages_per_second": 2000, "members": 10, "size": 128, "retention_days": 10}


def synthetic(noise, seed=1):
    """What would have been measured if MODEL were the truth, each cost off by up to `noise`."""
    chance = random.Random(seed)
    points = {}
    for rooms, members, rate, size in [(100, 2, 2000, 128), (100, 2, 20_000, 128), (100, 11, 1000, 128), (100, 11, 8000, 300),
                                       (1, 101, 800, 128), (1, 1001, 30, 128), (1, 1001, 120, 256), (10, 11, 3000, 4096),
                                       (1, 101, 150, 16384), (400, 3, 9000, 1000)]:
        work = models.work_of(MODEL, rooms, members, rate, size)
        off = {name: 1 + noise * (2 * chance.random() - 1) for name in COSTS}
        points[str(len(points))] = {
            **work, "size": size, "members": members, "sync_mean": MODEL["sync_seconds"], "written":
            models.cost(MODEL, "written", work) * off["written"],
            "cpu": {group: cpu * off[group] for group, cpu in models.cpu_of(MODEL, work).items()}}
    memory = [{"connections": c, "rooms": r, "subscriptions": c * r, "slab": 8000 * c,
               "bytes": 8e6 + 1000 * c + 2000 * r + 80 * c * r} for c, r in
              [(2000, 1), (8000, 1), (100, 100), (100, 300), (10, 1000)]]
    bulk = {"messages": 2e5, "sends": 4000.0, "deliveries": 0.0, "syncs": 500.0, "commit_bytes": 4.36e7, "bytes_sent": 3e7,
            "size": 128, "written": 2.5 * 4.36e7, "cpu": {"rocksdb": 3e-9 * 4.36e7}}
    bulk["cpu"]["core"] = models.cost(MODEL, "core", bulk)
    return {"points": points, "memory": memory, "bulk": bulk,
            "upgrades": {"upgrades": 1000.0, "cpu": {"core": 0.018, "workers": 0.002}}, "two_cores": 1.1,
            "pings": {"pings": 1000.0, "cpu": {"core": 0.009}}, "cache_bytes": 256 << 20, "buffer_bytes": 256 << 20}


def test_costs_that_made_the_figures_are_found_again():
    fitted = models.fit(synthetic(noise=0))
    for name, costs in COSTS.items():
        assert fitted["costs"][name] == pytest.approx(costs, rel=1e-4, abs=1e-12), name
        assert fitted["residuals"][name]["max"] < 1e-6
    assert fitted["costs"]["memory"] == pytest.approx(MODEL["costs"]["memory"])
    for name in ("upgrade_cpu", "ping_cpu", "rocksdb_cpu", "write_amplification", "kernel_bytes", "sync_seconds"):
        assert fitted[name] == pytest.approx(MODEL[name]), name


def test_noise_ends_up_in_the_residuals_and_predictions_stay_near():
    fitted = models.fit(synthetic(noise=0.1))
    assert 0.001 < fitted["residuals"]["core"]["max"] < 0.2
    work = models.work_of(MODEL, 50, 20, 3000, 600)
    assert sum(models.cpu_of(fitted, work).values()) == pytest.approx(sum(models.cpu_of(MODEL, work).values()), rel=0.15)


def test_no_cost_is_negative():
    # what falls while the work grows would have a negative cost
    costs, residuals = models.least_squares([[1, 10], [1, 20], [1, 40]], [30, 20, 10])
    assert (costs >= 0).all() and costs[0] > 0 and costs[1] == 0
    assert abs(residuals).max() > 0.1
    with pytest.raises(ValueError):
        models.least_squares([[1]], [0])


def test_syncs_are_as_many_as_messages_when_these_are_few_and_bounded_by_the_disk_when_they_are_many():
    assert models.syncs_of(1, 1e-3) == 1
    assert models.syncs_of(1e6, 1e-3) == pytest.approx(1000)


def test_sends_are_fewer_than_deliveries_where_a_room_is_quicker_than_the_disk():
    slow, quick = (models.work_of(MODEL, 1, 100, rate, 128) for rate in (10, 100_000))
    assert slow["sends"] == pytest.approx(slow["deliveries"], rel=0.01)
    assert quick["sends"] < quick["deliveries"] / 20
    assert quick["sends"] == pytest.approx(quick["syncs"] * 100, rel=0.01)


@pytest.mark.parametrize("what, more", [("messages_per_second", 4000), ("members", 40), ("size", 4096), ("connections", 100_000)])
def test_more_of_anything_needs_no_less(what, more):
    small, large = (models.plan(MODEL, {**LOAD, **change}, 0.6) for change in ({}, {what: more}))
    for name in ("cpu_total", "cores", "memory_total", "network_out", "disk_written", "space", "return_seconds"):
        assert large[name] >= small[name] * (1 if name != "return_seconds" else 0.2), name
    assert large["cpu_total"] > small["cpu_total"]


def test_cores_keep_the_cpus_as_idle_as_was_asked_for():
    for rate in (10, 1000, 20_000):
        planned = models.plan(MODEL, {**LOAD, "messages_per_second": rate}, 0.5)
        assert planned["cpu_total"] <= 0.5 * planned["cores"] + 1e-6
        assert planned["cores"] == 1 or planned["cpu_total"] > 0.5 * (planned["cores"] - 1)
    assert planned["cross_core_factor"] == 1.1


def test_space_is_rows_of_so_many_days():
    planned = models.plan(MODEL, LOAD, 0.6)
    assert planned["space"] == pytest.approx(2000 * (90 + 128) * 86_400 * 10 * models.FILE_OVERHEAD)
    assert planned["space_to_have"] == 2 * planned["space"]
    assert planned["memory_total"] == pytest.approx(8e6 + 1000 * 10_000 + 2000 * 1000 + 80 * 10_000 + (512 << 20))


def run(*arguments):
    return subprocess.run([sys.executable, CAPACITY, *map(str, arguments)], capture_output=True, text=True, timeout=180,
                          check=False)


def test_a_gateway_is_measured_planned_for_and_checked(tmp_path):
    """The figures of half a second on a busy machine say nothing; that they are there, and fit together, does."""
    model = tmp_path / "model.json"
    done = run("measure", "--tiny", "--seconds", 0.3, "--out", model, "--build", BUILD, "--json")
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    for name, point in measured["measured"]["points"].items():
        assert point["deliveries"] == pytest.approx(point["messages"] * point["members"], rel=0.5), name
        assert 0 < point["sends"] and 0 < point["syncs"] and point["cpu"]["core"] > 0 and point["written"] > 0, name
    assert measured["model"]["costs"]["commit_bytes"]["content_bytes"] == pytest.approx(1, abs=0.2)

    picture = tmp_path / "plan.svg"
    load = ("--connections", 5000, "--rooms", 500, "--messages-per-second", 1000, "--members", 10)
    done = run("plan", "--model", model, *load, "--json", "--tiny")
    assert done.returncode == 0, done.stderr
    planned = json.loads(done.stdout)
    assert planned["cores"] >= 1 and planned["work"]["deliveries"] == 10_000 and planned["memory_total"] > 512 << 20
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        pass
    else:
        done = run("plan", "--model", model, *load, "--plot", picture, "--tiny")
        assert done.returncode == 0, done.stderr
        assert "CPUs, at most 60 % busy" in done.stdout and picture.read_text().rstrip().endswith("</svg>")

    done = run("check", "--model", model, "--seconds", 0.3, "--runs", 1, "--build", BUILD, "--json", "--tiny")
    assert done.returncode == 0, done.stderr
    compared = json.loads(done.stdout)["rows"]
    assert {"CPU, all", "CPU, core", "sends", "syncs", "bytes written"} <= set(compared)
    assert all(math.isfinite(row["error"]) and row["measured"] > 0 for row in compared.values())


def model_file(path, tiny):
    machine = {"cpu": "a CPU", "cpus": 2, "memory_mib": 1024, "kernel": "6.1", "descriptors_max": 1024, "directory": "/tmp",
               "filesystem": "ext4", "fsync": {"p50_us": 100, "p99_us": 200}, "commit": "0"}
    measured = synthetic(noise=0)
    path.write_text(json.dumps({"format": 2, "tiny": tiny, "machine": machine, "measured": measured,
                                "model": models.fit(measured)}))
    return path


PLAN = ("--connections", 100, "--rooms", 10, "--messages-per-second", 10, "--members", 10)


def test_a_tiny_model_is_planned_with_only_when_that_is_asked_for(tmp_path):
    tiny, real = model_file(tmp_path / "tiny.json", True), model_file(tmp_path / "real.json", False)
    assert run("plan", "--model", real, *PLAN).returncode == 0
    for command in (("plan", "--model", tiny, *PLAN), ("check", "--model", tiny)):
        done = run(*command)
        assert done.returncode == 1 and "nothing to plan with" in done.stderr
    done = run("plan", "--model", tiny, *PLAN, "--tiny")
    assert done.returncode == 0 and "OF NO USE" in done.stdout


@pytest.mark.parametrize("options, there", [(("--tiny",), False), (("--tiny", "--add"), False), (("--add",), True)])
def test_a_tiny_measurement_and_a_model_to_plan_with_do_not_mix(tmp_path, options, there):
    model = model_file(tmp_path / "model.json", there)
    before = model.read_text()
    done = run("measure", *options, "--out", model, "--build", "/nowhere")
    assert done.returncode == 1 and "nothing to plan with" in done.stderr
    assert model.read_text() == before


@pytest.mark.parametrize("arguments, code", [
    (["plan", "--model", "/nowhere/model.json", "--connections", "1", "--rooms", "1", "--messages-per-second", "1",
      "--members", "1"], 1), (["plan"], 2), (["measure", "--seconds", "0"], 2), ([], 2)])
def test_what_makes_no_sense_is_refused(arguments, code):
    done = run(*arguments)
    assert done.returncode == code and (done.stderr.startswith("capacity: ") if code == 1 else "usage:" in done.stderr)
