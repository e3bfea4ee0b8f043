"""The gateway's threads, by what they are for, and the CPU time of each group. Standard library only."""
import os
import re

GROUPS = ("core", "writer", "syncer", "reader", "rocksdb", "workers", "other")  # in the order in which they are shown
_PATTERNS = [(re.compile(pattern), group) for pattern, group in (
    (r"core/\d+$", "core"), (r"writer$", "writer"), (r"syncer$", "syncer"), (r"reader/\d+$", "reader"),
    (r"rocksdb:", "rocksdb"), (r"iou-", "workers"))]
_KERNEL_NAME_MAX = 15  # bytes of a thread's name (TASK_COMM_LEN, prctl(2))


def group_of(name):
    """The group of a thread by its name, as comm of /proc/PID/task/TID tells it; the main and log threads are `other`, `workers` the kernel's
    own for operations of a ring that may block (io_uring)."""
    for pattern, group in _PATTERNS:
        if pattern.match(name[:_KERNEL_NAME_MAX]):
            return group
    return "other"


def cpu_seconds(pid):
    """{group: seconds of CPU so far}, in nanoseconds from schedstat, where threads that have ended are not counted."""
    spent = dict.fromkeys(GROUPS, 0.0)
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/comm", encoding="utf-8") as comm:
                name = comm.read().strip()
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="utf-8") as stat:
                spent[group_of(name)] += int(stat.read().split()[0]) / 1e9
        except (FileNotFoundError, ProcessLookupError):  # it has ended since it was listed
            continue
    return spent
