"""The product's tables, read as text: what exists and therefore has to be tested. No product code is linked or run."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDS = REPOSITORY / "build" / "check" / "coverage"  # what the integration tests exercised, one file a run
ROUTE_PARAMETER = re.compile(r"\{[^}]*\}")
PREFIXES = ("/api/v1", "/v1")


def read(path):
    """A source file without its comments, so that nothing is found in one."""
    text = (REPOSITORY / path).read_text(encoding="utf-8")
    return re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)


def routes():
    """[(method, pattern, who)] of routes.def."""
    return re.findall(r'^ROUTE\(\w+, (\w+), "([^"]+)", (\w+), \w+\)', read("src/api/routes.def"), re.MULTILINE)


def route_of(method, path):
    """The row that serves a request, as "GET /rooms/{room}", or None."""
    path = path.split("?")[0]
    for prefix in PREFIXES:
        if path == prefix or path.startswith(prefix + "/"):
            path = path[len(prefix):]
            break
    for row_method, pattern, _ in routes_cached():
        if row_method == method and pattern_expression(pattern).fullmatch(path):
            return f"{row_method} {pattern}"
    return None


def operations():
    """Names of the WebSocket operations."""
    table = re.search(r"operations\[\] = \{(.*?)\n\};", read("src/api/websocket_api.c"), re.DOTALL)
    return re.findall(r'\{"([a-z_.]+)",', table[1])


def api_errors():
    """{code: (identifier, status, temporary)} of errors.def, without the row that stands for success."""
    rows = re.findall(r'^ERROR\((\w+), "([^"]+)", (\d+), (\d),', read("src/api/errors.def"), re.MULTILINE)
    return {code: (f"ERR_{name}", int(status), temporary == "1") for name, code, status, temporary in rows
            if code != "none"}


def http_errors():
    """{code: (identifier, status)} of the requests that cannot be read as HTTP."""
    rows = re.findall(r'\[(HTTP_\w+)\] = \{(\d+), "(http\.\w+)",', read("net/http.c"))
    return {code: (name, int(status)) for name, status, code in rows}


def settings():
    """[(name, type, default, minimum, maximum)]; the numbers as they stand in the file."""
    return re.findall(r'^SETTING\(\w+, "([^"]+)", (\w+), "([^"]*)", ([^,]+), ([^,]+),', read("src/config.def"),
                      re.MULTILINE)


def metrics():
    """{name: (identifier, kind, [label])} of metrics.def."""
    rows = re.findall(r'^METRIC\((\w+), "([^"]+)", (\w+), "([^"]*)",', read("src/base/metrics.def"), re.MULTILINE)
    return {name: (f"METRIC_{identifier}", kind, [label for label in labels.split(",") if label])
            for identifier, name, kind, labels in rows}


def limits():
    """{identifier: value} of limits.h; the expressions there are numbers, shifts and products."""
    values = {}
    for name, expression in re.findall(r"^#define (\w+) +(.+?) *$", read("src/base/limits.h"), re.MULTILINE):
        expression = re.sub(r"\b(\d+|0x[0-9a-fA-F]+)(?:u|l)+\b", r"\1", expression, flags=re.IGNORECASE)
        assert re.fullmatch(r"[\w+*/<>() -]+", expression), f"{name}: {expression!r} is no plain number"
        values[name] = eval(expression, {"__builtins__": {}}, dict(values))  # of our own header, and checked above
    return values


def pattern_expression(pattern):
    """A route's pattern as a regular expression; a parameter takes one segment."""
    return re.compile("[^/]+".join(re.escape(part) for part in ROUTE_PARAMETER.split(pattern)))


_routes = []


def routes_cached():
    if not _routes:
        # Literal segments first: /users/me is not /users/{user}.
        _routes.extend(sorted(routes(), key=lambda row: row[1].count("{")))
    return _routes
