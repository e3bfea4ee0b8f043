"""What docs/PROTOCOL.md and docs/OPERATING.md say is there is there, and the other way round."""

import json
import re

import openapi
import tables
from client import call, new_tenant

DOCS = tables.REPOSITORY / "docs"
LIMITS_SAID = {  # rows of the table "Limits": the bounds that they name, in the order in which they name them
    "request line and fields; target; fields": ["HTTP_HEAD_BYTES_MAX", "HTTP_TARGET_BYTES_MAX", 64],
    "a REST body": ["HTTP_BODY_BYTES_MAX"],
    "a WebSocket message": ["WS_MESSAGE_BYTES_MAX"],
    "nesting of JSON": [64],
    "requests in flight on one WebSocket": ["REQUESTS_IN_FLIGHT_MAX"],
    "subscriptions of one socket; rooms it watches by `presence.subscribe`": ["SUBSCRIPTIONS_MAX", "SUBSCRIPTIONS_MAX"],
    "rooms of one user": ["limits.rooms_per_user"],
    "user id, device, `client_id`, idempotency key": ["USER_ID_BYTES_MAX", "DEVICE_BYTES_MAX", "CLIENT_ID_BYTES_MAX",
                                                      "CLIENT_ID_BYTES_MAX"],
    "topic, payload of a notification": ["TOPIC_BYTES_MAX", "PAYLOAD_BYTES_MAX"],
    "users named for a notification; of all its targets": ["NOTIFY_USERS_MAX", "NOTIFY_TARGETS_MAX"],
    "notifications that wait for a user; for a tenant's users": ["PENDING_USER_MAX", "PENDING_TENANT_MAX"],
    "topics of one user": ["SUBSCRIPTIONS_USER_MAX"],
    "members named in one request": ["MEMBERS_PER_REQUEST_MAX"],
    "room name, description, avatar URL": ["NAME_CHARS_MAX", "DESCRIPTION_CHARS_MAX", "AVATAR_URL_BYTES_MAX"],
    "time for a request's head, for its body, between requests": ["HEADER_TIMEOUT_MS", "BODY_TIMEOUT_MS"],
    "time for a ticket to be used": ["TICKET_LIFE_MS"],
}
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "s": 1000, "min": 60_000, "h": 3_600_000, "days": 86_400_000}  # times are in ms


def text_of(name):
    return (DOCS / name).read_text(encoding="utf-8")


def section(name, heading):
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text_of(name), re.MULTILINE | re.DOTALL)[1]


def table_rows(text):
    """Cells of every table row that is no heading."""
    rows = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if not set(row[0]) <= {"-", " "}]


def routes_said():
    """Every "METHOD /path" in backquotes or in a heading, in the form of routes.def."""
    text = text_of("PROTOCOL.md")
    system = re.findall(r"^\| `(?:GET) (/\S*)` \|", section("PROTOCOL.md", "System"), re.MULTILINE)
    said = {f"GET {path}" for path in system}
    # The operator's routes stand in tables, under headings that say what they are about.
    headings = re.findall(r"^### (.*)$", text.replace(section("PROTOCOL.md", "The operator"), ""), re.MULTILINE)
    for heading in headings:
        last = None
        for method, path in re.findall(r"(GET|POST|PATCH|PUT|DELETE) (/[^\s,]*)", heading):
            said.add(f"{method} {path}")
            last = method, path
        assert last, heading
    for rows in (section("PROTOCOL.md", "Users"), section("PROTOCOL.md", "The operator")):
        said |= set(re.findall(r"^\| `((?:GET|POST|PATCH|DELETE) /\S*)` \|", rows, re.MULTILINE))
    said.add("GET /debug/ws-echo")  # stands in the row of /debug/echo
    assert "`GET /debug/ws-echo`" in text
    return said


def test_every_route_is_described_and_every_described_route_served():
    served = {f"{method} {pattern}" for method, pattern, _ in tables.routes()}
    # /join and /leave stand in one heading with their whole paths, as /messages and /events do.
    assert routes_said() == served


def errors_said():
    """[(routes, text)]: what a section or a table's row says of the errors of its routes."""
    for heading, body in re.findall(r"^### ([^\n]*)\n(.*?)(?=^##|\Z)", text_of("PROTOCOL.md"), re.MULTILINE | re.DOTALL):
        routes = [f"{method} {path}" for method, path in re.findall(r"(GET|POST|PATCH|PUT|DELETE) (/[^\s,]*)", heading)]
        errors = re.search(r"Errors: (.*?)(?:\n\n|\Z)", body, re.DOTALL)
        if routes:
            yield routes, errors[1] if errors else ""
    for name in ("Users", "The operator"):
        for row in table_rows(section("PROTOCOL.md", name)):
            if route := re.fullmatch(r"`([A-Z]+ /\S+)`", row[0]):
                yield [route[1]], row[-1]


def test_errors_of_a_route_are_those_of_the_openapi_document():
    """`json.*` stands for all that begin so; `server.draining` is said once, of all members."""
    known, operations = set(tables.api_errors()), openapi.operations()
    compared = 0
    for routes, text in errors_said():
        described = set().union(*(operations[route].get("x-error-codes", []) for route in routes)) - {"server.draining"}
        named = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", text)) & known
        families = tuple(re.findall(r"`([a-z_]+\.)\*`", text))
        assert named <= described, (routes, named - described)
        assert all(any(code.startswith(family) for code in described) for family in families), (routes, families)
        missing = {code for code in described - named if not code.startswith(families or ("-",))}
        assert not missing, (routes, missing)
        compared += len(routes)
    assert compared > 45


def test_every_close_code_is_counted_by_name():
    """The gateway's own codes in the table are those that carillon_websockets_closed_total knows."""
    said = {code for row in table_rows(section("PROTOCOL.md", "Close codes")) for code in re.findall(r"4\d{3}", row[0])}
    names = re.search(r"names\[NET_CLOSE_CODES\] = \{(.*?)\};", tables.read("net/connection.c"), re.DOTALL)[1]
    assert said == set(re.findall(r'"(4\d{3})"', names))


def test_every_error_is_described_with_its_status():
    said = {row[0].strip("`"): row for row in table_rows(section("PROTOCOL.md", "Errors")) if row[0].startswith("`")}
    titles = dict(re.findall(r'^ERROR\(\w+, "([^"]+)", \d+, \d, "([^"]+)"\)', tables.read("src/api/errors.def"), re.MULTILINE))
    for code, (_, status, temporary) in tables.api_errors().items():
        assert code in said, f"{code} is missing in docs/PROTOCOL.md"
        if code == "server.overloaded":  # also in the table of requests that cannot be read, which comes later
            continue
        assert said[code][1:] == [str(status), "T" if temporary else "", titles[code]], code
    for code, (_, status) in tables.http_errors().items():
        assert said[code][1].startswith(str(status)), code
    assert set(said) == set(tables.api_errors()) | set(tables.http_errors())


def test_every_operation_is_described():
    said = [name for row in table_rows(section("PROTOCOL.md", "Operations")) for name in re.findall(r"`(\w[\w.]*)`", row[0])]
    assert sorted(said) == sorted(tables.operations())


def test_every_code_that_a_section_names_exists():
    known = set(tables.api_errors()) | set(tables.http_errors())
    prefixes = {code.split(".")[0] for code in known}
    settings = {row[0] for row in tables.settings()}
    for code in re.findall(r"`([a-z]+\.[a-z_]+)`", text_of("PROTOCOL.md")):
        if code.split(".")[0] in prefixes and code not in settings and code not in (
                "room.updated", "server.shutdown", "hello.resume"):
            assert code in known, code


def test_limits_are_those_of_the_program():
    known = tables.limits() | {name: int(default) for name, _, default, _, _ in tables.settings() if default.isdigit()}
    said = {row[0]: row[1] for row in table_rows(section("PROTOCOL.md", "Limits")) if row[0] != "what"}
    assert set(said) == set(LIMITS_SAID), "a row was added: name its bounds here"
    for what, names in LIMITS_SAID.items():
        numbers = [int(number.replace(",", "")) * UNITS.get(unit, 1)
                   for number, unit in re.findall(r"(\d[\d,]*)(?: (KiB|MiB|s)\b)?", said[what])]
        expected = [name if isinstance(name, int) else known[name] for name in names]
        assert numbers[:len(expected)] == expected, what


def test_every_limit_of_backpressure_has_its_value():
    """Where docs/BACKPRESSURE.md names a bound and a number behind it, the number is right, and no bound is made up."""
    text, limits = text_of("BACKPRESSURE.md"), tables.limits()
    for name in re.findall(r"`([A-Z][A-Z0-9_]+_[A-Z0-9_]+)`", text):
        assert name in limits or name in ("ROOM_EPOCHS_MAX",), f"{name} is not in src/base/limits.h"
    for name, number, unit in re.findall(r"`([A-Z][A-Z0-9_]+)` (\d[\d,]*)(?: (KiB|MiB|s|ms|min|h|days)\b)?", text):
        assert int(number.replace(",", "")) * UNITS.get(unit, 1) == limits[name], name


def test_every_setting_is_described_with_its_default():
    text = section("OPERATING.md", "Settings")
    rows = {}
    for row in table_rows(text):
        names, defaults = re.findall(r"`([\w.]+)`", row[0]), re.findall(r"`([^`]*)`", row[1])
        for index, name in enumerate(names):
            rows[name] = defaults[index] if index < len(defaults) else ""
    for name, _, default, _, _ in tables.settings():
        if name in rows:
            assert rows[name] == default, name
        else:
            assert f"`{name}" in text, f"{name} is missing in docs/OPERATING.md"


def test_every_metric_is_described_with_its_labels():
    text = section("OPERATING.md", "Metrics")
    said = {row[0].strip("`"): row for row in table_rows(text)}
    for name, (_, kind, labels) in tables.metrics().items():
        assert name in said, f"{name} is missing in docs/OPERATING.md"
        assert said[name][1] == kind.lower() and re.findall(r"`(\w+)`", said[name][2]) == labels, name


async def test_page_for_people_is_served_at_the_root_alone(gateway):
    answer = await call(gateway, "GET", "/")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    assert "Carillon" in answer.text
    (await call(gateway, "GET", "/v1/")).problem(404, code="route.not_found")
    named = set(re.findall(r'(?:src|href)="/?(page/[^"]+)"', answer.text))
    assert len(named) >= 3, named
    for path in named:
        file = await call(gateway, "GET", f"/{path}")
        assert file.status == 200 and file.body, file
        known = await call(gateway, "GET", f"/{path}", {"If-None-Match": file.headers["ETag"]})
        assert (known.status, known.body) == (304, b"")
        (await call(gateway, "GET", f"/v1/{path}")).problem(404, code="route.not_found")


async def test_examples_of_objects_have_the_members_that_are_served(gateway):
    """The room and the message under "Objects" are what the server answers, member by member."""
    room_said, message_said = [json.loads(block) for block in
                               re.findall(r"^```\n(\{.*?\})\n```$", section("PROTOCOL.md", "Objects"), re.MULTILINE | re.DOTALL)]
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room = await alice.create_room("group", bob)
    assert list(room_said) == list(room)
    await alice.send(room["room_id"], "hello, bob", client_id="c1")
    assert list(message_said) == list((await alice.messages(room["room_id"]))[0])
    for name, said in (("Room", room_said), ("Message", message_said)):
        schema = openapi.resolved({"$ref": f"#/components/schemas/{name}"})
        assert set(said) == set(schema["properties"])
