"""docs/openapi.yaml as the tests use it: every REST answer that a test client gets is held against it."""

import json
import re

import jsonschema
import yaml

import tables

DOCUMENT = yaml.load((tables.REPOSITORY / "docs" / "openapi.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
METHODS = ("get", "put", "post", "patch", "delete")
# What the server answers before or instead of looking at an operation.
WITHOUT_OPERATION = {"route.not_found", "route.method_not_allowed"}

_validators = {}  # (path, method, status) → {media type: validator, or None for what is not JSON}


def operations():
    """{"GET /rooms/{room}": the operation}"""
    return {f"{method.upper()} {path}": item[method]
            for path, item in DOCUMENT["paths"].items() for method in METHODS if method in item}


def resolved(node):
    while isinstance(node, dict) and "$ref" in node:
        found = DOCUMENT
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def closed(node):
    """A schema without references in which an object has no other members than those described, unless it says so."""
    node = resolved(node)
    if isinstance(node, list):
        return [closed(part) for part in node]
    if not isinstance(node, dict):
        return node
    made = {name: closed(part) for name, part in node.items()}
    if isinstance(made.get("properties"), dict) and "type" in made and "additionalProperties" not in made:
        made["additionalProperties"] = False
    return made


def response_of(operation, status):
    """The response that describes a status: itself, else its class."""
    responses = operation["responses"]
    return resolved(responses.get(str(status)) or responses.get(f"{status // 100}XX"))


def error_codes(operation):
    """Every code that an operation may answer."""
    common = DOCUMENT["x-common-error-codes"]
    codes = set(operation.get("x-error-codes", [])) | set(common["any"])
    for scheme in operation.get("security", DOCUMENT["security"]):
        for name in scheme:
            codes |= set(common.get(name, []))
    return codes


def check(method, path, status, body, content_type):
    """Asserts that an answer is one that the document describes."""
    route = tables.route_of("GET" if method == "HEAD" else method, path)
    if route is None or method == "OPTIONS":
        return
    code = json.loads(body).get("code") if status >= 400 and content_type.startswith("application/problem") and body else None
    if code in WITHOUT_OPERATION:
        return
    operation = operations_cached()[route]
    response = response_of(operation, status)
    assert response is not None, f"{route} answers {status}, which docs/openapi.yaml does not have"
    assert code is None or code in error_codes(operation), f"{route} answers {code}, which docs/openapi.yaml does not have"
    if method == "HEAD" or not body and "content" not in response:
        return
    validator = validators(route, response, status).get(content_type.split(";")[0], "absent")
    assert validator != "absent", f"{route} answers {status} as {content_type}, which docs/openapi.yaml does not have"
    if validator is not None:
        error = next(validator.iter_errors(json.loads(body)), None)
        assert error is None, f"{route} {status} is not as docs/openapi.yaml has it: {error.json_path}: {error.message[:500]}"


def validators(route, response, status):
    key = route, status
    if key not in _validators:
        _validators[key] = {
            media: jsonschema.Draft202012Validator(closed(content["schema"])) if re.search("json$", media) else None
            for media, content in response.get("content", {}).items()}
    return _validators[key]


_operations = {}


def operations_cached():
    if not _operations:
        _operations.update(operations())
    return _operations
