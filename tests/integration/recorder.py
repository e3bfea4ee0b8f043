"""What the running test exercised, for tests/coverage/report: kept until the test passes, then written down.

The clients (client.py, wire.py) and the gateway's process record as they go; a test itself only does where nothing but
it can know: `limit("NAME")` for a bound, `metric(…)` of client.py for a metric.
"""

import json
import os

import tables

_limits = tables.limits()
_seen = set()   # (kind, name) of the running test
_file = None


def begin():
    _seen.clear()


def end(test, passed):
    """Writes what the test exercised; what a failing test did proves nothing."""
    global _file
    if passed and _seen:
        if _file is None:
            tables.RECORDS.mkdir(parents=True, exist_ok=True)
            _file = open(tables.RECORDS / f"integration-{os.getpid()}.jsonl", "w", encoding="utf-8")
        for kind, name in sorted(_seen):
            _file.write(json.dumps({"kind": kind, "name": name, "test": test}) + "\n")
        _file.flush()
    _seen.clear()


def exercised(kind, name):
    """Says that the running test exercised that row of that table."""
    _seen.add((kind, name))


def limit(name):
    """The value of a bound of src/base/limits.h, which the test that asks for it is about."""
    exercised("limit", name)
    return _limits[name]


def answered(method, path, status, body, content_type):
    """An HTTP answer: a route is exercised by a success, an error by being seen."""
    if status < 400:
        route = tables.route_of("GET" if method == "HEAD" else method, path)
        if route and method != "OPTIONS":
            exercised("route", route)
    elif content_type.startswith("application/problem+json"):
        code = json.loads(body).get("code") if body else None
        if code:
            exercised("error", code)


class Frames:
    """What went over one WebSocket. An operation is exercised when something else than an error answers it."""

    def __init__(self):
        self._asked = {}  # id → operation

    def sent(self, text):
        try:
            frame = json.loads(text)
            if isinstance(frame.get("id"), (int, str)):
                self._asked[frame["id"]] = frame["type"]
        except (ValueError, AttributeError, KeyError, RecursionError):
            pass  # malformed on purpose

    def received(self, event):
        if event.get("type") == "error":
            exercised("error", event.get("code"))
            return
        asked = self._asked.pop(event.get("re"), None) if isinstance(event.get("re"), (int, str)) else None
        if asked is not None:
            exercised("operation", asked)
        exercised("push", event.get("type"))


def closed(code):
    exercised("close code", str(code))
