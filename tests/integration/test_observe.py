"""What is written about the gateway's metrics and settings agrees with the gateway: tables, dashboard, alert rules."""

import asyncio
import json
import re
import shutil
import subprocess
import time

import pytest
import yaml

from client import WAIT_S, Operator, call, metric, metric_becomes, metric_reaches, metric_samples, new_tenant
from gateway import REPOSITORY
from wire import HttpWire

OBSERVE = REPOSITORY / "tools" / "observe"
OPERATING = REPOSITORY / "docs" / "OPERATING.md"
BACKPRESSURE = REPOSITORY / "docs" / "BACKPRESSURE.md"
NAME = re.compile(r"\b(?:carillon|process|api_request|websocket_connections|notifications)_[a-z0-9_]+\b")
SERVERS_LABELS = {"instance", "job", "le"}  # what Prometheus itself adds, and what each histogram has


def expressions():
    """Every expression of dashboard and alert rules."""
    dashboard = json.loads((OBSERVE / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (annotation["expr"] for annotation in dashboard["annotations"]["list"])
    yield from (variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable)
    yield from (rule["expr"] for rule in alert_rules())


def alert_rules():
    groups = yaml.safe_load((OBSERVE / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


async def families(gateway):
    """The names in the gateway's own /metrics, and those of a histogram's series."""
    text = (await call(gateway, "GET", "/metrics")).text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    series = {name + end for name, kind in kinds.items() if kind == "histogram" for end in ("_bucket", "_sum", "_count")}
    return set(kinds) | series


async def test_dashboard_and_alarms_name_only_metrics_that_exist(gateway):
    known = await families(gateway)
    named = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(named) > 30
    assert named <= known, sorted(named - known)


async def test_documents_name_only_metrics_that_exist(gateway):
    known = await families(gateway)
    for page in (OPERATING, BACKPRESSURE):
        named = set(NAME.findall(page.read_text()))
        assert named and named <= known, (page.name, sorted(named - known))


def test_dashboard_and_alarms_use_only_labels_that_exist():
    labels = set(SERVERS_LABELS)
    for line in OPERATING.read_text().splitlines():
        if match := re.match(r"\| `[a-z0-9_]+` \| (?:counter|gauge|histogram) \| (.*?) \|", line):
            labels |= set(re.findall(r"`(\w+)`", match[1]))
    used = set()
    for expression in expressions():
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            used |= {label.strip() for label in group.split(",")}
        for matchers in re.findall(r"\{([^}]*)\}", expression):
            used |= set(re.findall(r"(\w+)\s*(?:=|!)", matchers))
    assert {"queue", "code", "reason"} <= used <= labels, sorted(used - labels)


def test_every_alarm_is_explained():
    explained = re.findall(r"^\| `(Carillon\w+)` \|", OPERATING.read_text(), re.MULTILINE)
    assert explained == [rule["alert"] for rule in alert_rules()]
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] in ("page", "ticket") for rule in alert_rules())


def test_queues_that_are_ordinarily_full_raise_no_alarm():
    rows = re.findall(r"^\| (`.*?`) \| .*full is ordinary there", BACKPRESSURE.read_text(), re.MULTILINE)
    ordinary = {queue for row in rows for queue in re.findall(r"`(\w+)`", row)}
    assert {"rooms", "users", "tail_bytes"} <= ordinary
    ratios = [expression for expression in expressions()
              if "carillon_queue_bound" in expression and "by (queue)" not in expression]
    assert len(ratios) == 2
    for expression in ratios:
        assert set(re.search(r'queue!~"([^"]*)"', expression)[1].split("|")) == ordinary, expression


def test_backups_are_watched():
    watched = {name for rule in alert_rules() for name in NAME.findall(rule["expr"])}
    assert {"carillon_backup_failures_total", "carillon_backup_last_success_timestamp_seconds"} <= watched
    shown = {name for expression in expressions() for name in NAME.findall(expression)}
    assert {"carillon_backups_total", "carillon_backup_last_bytes"} <= shown


def test_prometheus_loads_the_rules():
    config = yaml.safe_load((OBSERVE / "prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts.yml"] and config["scrape_configs"][0]["job_name"] == "carillon"


def test_generated_tables_are_fresh():
    checked = subprocess.run(["/usr/bin/python3", str(REPOSITORY / "tools" / "docs-tables"), "--check"],
                             capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


async def test_every_setting_stands_in_the_table(gateway):
    printed = gateway.run_command("config", "--defaults").stdout.decode()
    names, section = [], ""
    for line in printed.splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        elif match := re.match(r"([a-z_]+) =", line):
            names.append(section + match[1])
    table = re.findall(r"^\| `([a-z_.]+)` \| (?:`[^`]*`)? ?\| ", OPERATING.read_text(), re.MULTILINE)
    assert len(names) > 30 and [name for name in table if name in names] == names


def test_every_scope_may_have_a_level_of_its_own():
    header = (REPOSITORY / "src" / "base" / "log.h").read_text()
    scopes = set(re.findall(r'"(\w+)"', re.search(r"#define LOG_SCOPES(.*?)\n\n", header, re.DOTALL)[1]))
    used = set()
    for folder in ("src", "net", "storage"):
        for path in (REPOSITORY / folder).rglob("*.c"):
            used |= set(re.findall(r'\bLOG\([^,"]*,\s*"(\w+)"', path.read_text()))
    assert {"net", "store", "process"} <= used
    assert used == scopes, sorted(used ^ scopes)  # a name that nobody uses would be a level that does nothing
    told = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", OPERATING.read_text().split("| scope | tells of |")[1], re.MULTILINE)
    assert scopes <= {name for row in told for name in re.findall(r"`(\w+)`", row)}


# --- the metrics themselves ---------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian's prometheus)")
async def test_promtool_finds_nothing_wrong(gateway):
    text = (await call(gateway, "GET", "/metrics")).body
    for arguments, given in ((["metrics"], text), (["rules", OBSERVE / "alerts.yml"], b""),
                             (["config", OBSERVE / "prometheus.yml"], b"")):
        checked = subprocess.run(["promtool", "check", *map(str, arguments)], input=given, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_closed_sockets_are_counted_by_code_and_reason(make_gateway):
    gateway = make_gateway()
    operator = Operator(gateway)
    tenant = await operator.new_tenant()
    key = await operator.new_key(tenant, "server")
    polite, revoked, rude = tenant.user("polite"), tenant.user("revoked", key["api_key"]), tenant.user("rude")
    await (await polite.connect()).close()
    socket = await revoked.connect()
    (await operator.call("DELETE", f"/tenants/{tenant.tenant_id}/keys/{key['key_id']}")).succeeded()
    assert await socket.closed() == 4004
    (await rude.connect()).drop()
    deadline = time.monotonic() + WAIT_S
    while (closed := {labels["code"]: number for labels, number in
                      await metric_samples(gateway, "carillon_websockets_closed_total")}) != {"1000": 1, "1006": 1, "4004": 1}:
        assert time.monotonic() < deadline, closed
        await asyncio.sleep(0.1)  # an idle core shows what the network layer has counted once a second
    await metric_becomes(gateway, "carillon_websockets_opened_total", 3)
    await metric_becomes(gateway, "carillon_connections_closed_total", 1, reason="server")


async def test_work_shows_in_turns_queues_and_memory(make_gateway):
    gateway = make_gateway(cores=2)
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    await alice.send_many(room_id, "abc" * 50)

    assert await metric(gateway, "carillon_core_turn_seconds") > 10
    assert 0 <= await metric(gateway, "carillon_core_heartbeat_age_seconds", core="1") < 5
    assert await metric(gateway, "carillon_queue_high_water", queue="commit_entries") >= 1
    assert await metric(gateway, "carillon_queue_bound", queue="commit_entries") == 65536
    await metric_becomes(gateway, "carillon_queue_depth", 1, queue="rooms")
    assert await metric(gateway, "process_open_fds") > 10
    assert abs(await metric(gateway, "process_start_time_seconds") - time.time()) < 60
    assert await metric(gateway, "process_resident_memory_bytes") > 1 << 20
    assert await metric(gateway, "carillon_memory_bytes", part="write_buffers") > 0
    assert await metric(gateway, "carillon_log_lines_total", outcome="written") >= 1


async def test_the_queue_of_connections_is_held_against_the_servers_own_limit(make_gateway):
    gateway = make_gateway(cores=2, limits__connections=20)
    for _ in range(17):
        await HttpWire.open(gateway)
    await metric_reaches(gateway, "carillon_queue_depth", 17, queue="connections")
    assert await metric(gateway, "carillon_queue_depth", queue="connections") <= 20
    assert await metric(gateway, "carillon_queue_bound", queue="connections") == 20
