"""The model behind perf/capacity: what work costs, fitted to what was measured, and what a load is as work.

Cost is linear in work: CPU seconds of a thread group, bytes written and bytes of memory are sums of counts times a cost each
that is never negative, fitted by least squares. What is not linear is the work itself: syncs and sends for each message become fewer as messages become more, because
whatever comes while one sync runs goes with the next, and to each socket in one piece. `work_of` says how many. numpy."""
import itertools
import math

import numpy

DAY_S = 86_400
PING_INTERVAL_S = 30      # net.ping_interval, by default
FILE_OVERHEAD = 1.1       # bytes of sorted files ÷ bytes of rows, content taken as one that does not compress
MERGE_SPACE = 2           # a merge writes the new file before it removes those it was made of
BYTES_RECEIVED = 60       # of a message beside its content: JSON, WebSocket, the answer's acknowledgement

# cost: the work it depends on
TERMS = {
    "core": ("messages", "sends", "deliveries", "bytes_sent", "syncs"),
    "writer": ("messages", "commit_bytes", "syncs"),
    "syncer": ("commit_bytes", "syncs"),
    "written": ("commit_bytes", "syncs"),
    "commit_bytes": ("messages", "content_bytes"),
    "bytes_sent": ("deliveries", "delivered_bytes"),
}
CPU_GROUPS = ("core", "writer", "syncer")
MEMORY_TERMS = ("one", "connections", "rooms", "subscriptions")


# --- fitting ----------------------------------------------------------------------------------------------------------


def least_squares(rows, values):
    """(costs ≥ 0, relative residual of each row) that make the sum of residual² ÷ value least: between relative residuals, in
    which the smallest load would count as much as the largest, and absolute ones, in which it would not count. Exact: of all
    sets of terms whose costs come out positive, the best; there are few terms."""
    values = numpy.asarray(values, float)
    if not (values > 0).all():
        raise ValueError("a cost of nothing cannot be fitted")
    rows, weights = numpy.asarray(rows, float), 1 / numpy.sqrt(values * values.mean())
    scaled, goal = rows * weights[:, None], values * weights
    best, best_error = numpy.zeros(rows.shape[1]), float((goal**2).sum())
    columns = [column for column in range(rows.shape[1]) if rows[:, column].any()]
    for size in range(1, min(len(columns), len(values)) + 1):
        for chosen in map(list, itertools.combinations(columns, size)):
            units = scaled[:, chosen].max(axis=0)  # so that a byte and a sync are of one order for lstsq's rank
            costs, _, rank, _ = numpy.linalg.lstsq(scaled[:, chosen] / units, goal, rcond=None)
            error = float(((scaled[:, chosen] / units @ costs - goal) ** 2).sum())
            if rank == size and (costs >= 0).all() and error < best_error - 1e-12:
                best, best_error = numpy.zeros(rows.shape[1]), error
                best[chosen] = costs / units
    return best, rows @ best / values - 1


def fit(measured):
    """The model of what `perf/capacity measure` has measured."""
    points = [with_content(point) for point in measured["points"].values()]
    model = {"costs": {}, "residuals": {}, "sync_seconds": float(numpy.median([point["sync_mean"] for point in points]))}
    bulk = with_content(measured["bulk"])
    for name, terms in TERMS.items():
        # where nobody listens a core's messages are told from their sends; writer and disk work otherwise there, batch by batch
        of = [*points, bulk] if name == "core" else points
        values = [point["cpu"][name] if name in CPU_GROUPS else point[name] for point in of]
        _fit_one(model, name, terms, [[point[term] for term in terms] for point in of], values)
    memory = [{**point, "one": 1} for point in measured["memory"]]
    _fit_one(model, "memory", MEMORY_TERMS, [[point[term] for term in MEMORY_TERMS] for point in memory],
             [point["bytes"] for point in memory])
    model.update(
        upgrade_cpu=sum(measured["upgrades"]["cpu"].values()) / measured["upgrades"]["upgrades"],
        ping_cpu=sum(measured["pings"]["cpu"].values()) / measured["pings"]["pings"],
        rocksdb_cpu=bulk["cpu"]["rocksdb"] / bulk["commit_bytes"], write_amplification=bulk["written"] / bulk["commit_bytes"],
        kernel_bytes=_kernel_bytes(measured["memory"]), two_cores=measured["two_cores"], cache_bytes=measured["cache_bytes"],
        buffer_bytes=measured["buffer_bytes"])
    return model


def with_content(point):
    return {**point, "content_bytes": point["messages"] * point["size"], "delivered_bytes": point["deliveries"] * point["size"]}


def _fit_one(model, name, terms, rows, values):
    costs, residuals = least_squares(rows, values)
    model["costs"][name] = dict(zip(terms, map(float, costs)))
    model["residuals"][name] = {"median": float(numpy.median(abs(residuals))), "max": float(abs(residuals).max())}


def _kernel_bytes(memory):
    """The kernel's memory for one idle connection: both ends of it are on this machine."""
    most = max(memory, key=lambda point: point["connections"])
    return most["slab"] / most["connections"] / 2


def cost(model, name, work):
    return sum(unit * work[term] for term, unit in model["costs"][name].items())


# --- what a load is as work -------------------------------------------------------------------------------------------


def syncs_of(rate, sync_seconds):
    """Syncs a second: each message its own while that is possible, else one behind the other. Messages that come in bursts
    need fewer, which costs less."""
    return min(rate, 1 / sync_seconds)


def work_of(model, rooms, members, rate, size):
    """Rates of all that a load makes a gateway do: `rooms` that are equally busy, `members` who listen in each, `rate` messages
    a second in all, of `size` bytes."""
    syncs = syncs_of(rate, model["sync_seconds"])
    # what goes with one sync is a run for each room that is in it, and a run is one send for each who listens
    runs = syncs * rooms * (1 - (1 - 1 / rooms) ** (rate / syncs))
    work = {"messages": rate, "syncs": syncs, "runs": runs, "sends": runs * members, "deliveries": rate * members,
            "content_bytes": rate * size, "delivered_bytes": rate * members * size}
    work["commit_bytes"] = cost(model, "commit_bytes", work)
    work["bytes_sent"] = cost(model, "bytes_sent", work)
    return work


def cpu_of(model, work):
    """CPUs that a thread group is busy with, on one core."""
    return {group: cost(model, group, work) for group in CPU_GROUPS}


# --- planning ---------------------------------------------------------------------------------------------------------


def plan(model, load, utilisation):
    """What a load needs. `load`: connections, rooms, messages_per_second, members, size, retention_days; `utilisation`: how
    busy the CPUs may be, 0 to 1."""
    work = work_of(model, load["rooms"], load["members"], load["messages_per_second"], load["size"])
    cpu = {**cpu_of(model, work), "rocksdb": model["rocksdb_cpu"] * work["commit_bytes"],
           "pings": model["ping_cpu"] * load["connections"] / PING_INTERVAL_S}
    one = sum(cpu.values()) / utilisation
    factor = 1.0 if one <= 1 else max(1.0, model["two_cores"] or 1.0)
    cores = max(1, math.ceil(one * factor - 1e-9))
    memory = memory_of(model, load)
    space = work["commit_bytes"] * FILE_OVERHEAD * DAY_S
    return {
        "load": load, "work": work, "cpu": cpu, "cpu_total": sum(cpu.values()) * factor, "cross_core_factor": factor,
        "cores": cores, "utilisation": utilisation, "writer_busy": cpu["writer"], "memory": memory,
        "memory_total": sum(memory.values()), "kernel_memory": model["kernel_bytes"] * load["connections"],
        "descriptors_per_core": math.ceil(load["connections"] / cores),
        "return_seconds": load["connections"] * model["upgrade_cpu"] / cores,
        "network_out": work["bytes_sent"], "network_in": work["content_bytes"] + BYTES_RECEIVED * work["messages"],
        "disk_written": written_of(model, work), "syncs": work["syncs"],
        "space_per_day": space, "space": space * load["retention_days"],
        "space_to_have": space * load["retention_days"] * MERGE_SPACE,
    }


def memory_of(model, load):
    """Bytes of user space by what they are for."""
    costs = model["costs"]["memory"]
    subscriptions = max(load["connections"], load["rooms"] * load["members"])
    return {"gateway": costs["one"], "connections": costs["connections"] * load["connections"],
            "rooms": costs["rooms"] * load["rooms"], "subscriptions": costs["subscriptions"] * subscriptions,
            "store": model["cache_bytes"] + model["buffer_bytes"]}


def written_of(model, work):
    """Bytes a second to the disk: the log with its syncs, and each byte again as often as files are written and merged."""
    return cost(model, "written", work) + max(0.0, model["write_amplification"] - 1) * work["commit_bytes"]
