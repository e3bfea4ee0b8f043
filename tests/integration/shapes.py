"""What the protocol's objects look like. Members may be added to them, so a check asks for those it knows."""

import re

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
CODE = re.compile(r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$")

# Pushes that take a place in the room log; every other push is ephemeral and carries no seq of its own.
DURABLE = ("message", "message.edited", "message.deleted", "reaction", "user_joined", "user_left", "room.updated")

MESSAGE_PUSH = ("room_id", "message_id", "seq", "sender_id", "content", "meta", "message_type", "client_id",
                "created_at")
MESSAGE = MESSAGE_PUSH + ("reply_to", "edited_at", "deleted_at")
ROOM = ("room_id", "tenant_id", "type", "unique_key", "name", "last_seq", "epoch", "created_at")
PROBLEM = ("type", "title", "status", "detail", "code", "status_code", "request_id")


def assert_members(thing, names):
    missing = [name for name in names if name not in thing]
    assert not missing, f"{missing} missing in {thing}"


def assert_time(text):
    assert TIME.match(text), f"{text!r} is not RFC 3339 in UTC with milliseconds"


def assert_code(text):
    assert CODE.match(text), f"{text!r} is not a dotted code"


def assert_problem(thing, status):
    """An error's body (RFC 9457) as the protocol extends it."""
    assert_members(thing, PROBLEM)
    assert thing["status"] == thing["status_code"] == status
    assert_code(thing["code"])
    assert isinstance(thing["title"], str) and thing["title"]
    assert isinstance(thing["detail"], str)
    assert isinstance(thing["request_id"], str) and thing["request_id"]


def assert_error_frame(frame):
    """A WebSocket error."""
    assert_members(frame, ("code", "detail", "temporary"))
    assert frame["type"] == "error"
    assert_code(frame["code"])
    assert isinstance(frame["detail"], str)
    assert isinstance(frame["temporary"], bool)


def assert_gapless(events, first, last):
    """The events' seqs are first, first + 1 … last, each once, in this order."""
    seqs = [event["seq"] for event in events]
    assert seqs == list(range(first, last + 1)), f"expected {first}…{last}, got {seqs}"
