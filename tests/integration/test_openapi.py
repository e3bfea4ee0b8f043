"""docs/openapi.yaml describes what is served, and is served. openapi.py holds every answer of every test against it."""

import re

import jsonschema
import pytest
import yaml

import openapi
import tables
from client import call


def parts(node, name):
    """Every value of a member of that name, at any depth."""
    if isinstance(node, dict):
        for member, value in node.items():
            if member == name:
                yield value
            yield from parts(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from parts(value, name)


def test_every_route_is_an_operation_and_every_operation_a_route():
    served = {f"{method} {pattern}" for method, pattern, _ in tables.routes()}
    described = set(openapi.operations())
    assert served - described == set(), "add these to docs/openapi.yaml"
    assert described - served == set(), "these are not served"


def test_who_may_call_is_what_the_table_says():
    schemes = {"ANYONE": set(), "MEMBER": {"apiKey", "actingUser"}, "OPERATOR": {"masterKey"}}
    for method, pattern, who in tables.routes():
        operation = openapi.operations()[f"{method} {pattern}"]
        named = {name for scheme in operation.get("security", openapi.DOCUMENT["security"]) for name in scheme}
        # It is a member who opens a socket, or who holds a member's ticket.
        expected = schemes["MEMBER"] | {"ticket"} if pattern == "/ws" else schemes[who]
        assert named == expected, f"{method} {pattern}"


def test_every_schema_is_one():
    for schema in openapi.DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(openapi.closed(schema))
    for schema in parts(openapi.DOCUMENT["paths"], "schema"):
        jsonschema.Draft202012Validator.check_schema(openapi.closed(schema))


def test_every_reference_leads_somewhere_and_every_component_is_used():
    references = set(parts(openapi.DOCUMENT, "$ref"))
    for reference in references:
        assert openapi.resolved({"$ref": reference}) is not None
    components = {f"#/components/{kind}/{name}" for kind, named in openapi.DOCUMENT["components"].items()
                  if kind != "securitySchemes" for name in named}
    assert components == references


def test_path_parameters_are_those_of_the_path():
    for path, item in openapi.DOCUMENT["paths"].items():
        named = [openapi.resolved(parameter) for parameter in item.get("parameters", [])]
        assert {parameter["name"] for parameter in named} == set(re.findall(r"{(\w+)}", path)), path
        assert all(parameter["in"] == "path" and parameter["required"] for parameter in named)


def test_operation_ids_are_unique_and_errors_exist():
    operations = openapi.operations()
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(ids) == len(set(ids))
    known = {**tables.api_errors(), **tables.http_errors()}
    for name, operation in operations.items():
        assert openapi.error_codes(operation) <= set(known), name


@pytest.mark.parametrize("path", ["/openapi.yaml", "/v1/openapi.yaml", "/api/v1/openapi.yaml"])
async def test_document_is_served_as_it_stands(gateway, path):
    answer = await call(gateway, "GET", path)
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("application/yaml")
    assert answer.body == (tables.REPOSITORY / "docs" / "openapi.yaml").read_bytes()
    assert yaml.safe_load(answer.text)["info"]["version"] == (await call(gateway, "GET", "/health")).ok()["version"]


async def test_page_shows_the_document_and_fetches_nothing_from_elsewhere(gateway):
    answer = await call(gateway, "GET", "/docs")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/html")
    assert 'fetch("openapi.yaml")' in answer.text
    assert not re.search(r"(src|href)=\"?(https?:)?//|@import|url\(", answer.text)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_page_finds_every_operation():
    """The page reads the document by these patterns (src/api/docs.html); another indentation would hide something."""
    text = (tables.REPOSITORY / "docs" / "openapi.yaml").read_text(encoding="utf-8")
    found, path, part = {}, None, None
    for line in text.splitlines():
        if match := re.match(r"(\S+):", line):
            part = match[1]
        elif part == "paths" and (match := re.match(r"  (/\S*):$", line)):
            path = match[1]
        elif part == "paths" and (match := re.match(r"    (\w+):$", line)) and match[1] in openapi.METHODS:
            found[f"{match[1].upper()} {path}"] = None
        elif match := re.match(r"      summary: (.*)", line):
            found[list(found)[-1]] = match[1]
    assert found == {name: operation["summary"] for name, operation in openapi.operations().items()}
