"""HTTP/1.1 (RFC 9110, RFC 9112): framing, methods, errors, and what is refused as ambiguous."""

import json

import pytest

from client import call, new_tenant
from shapes import assert_problem
from wire import HttpWire, request_bytes

BODY_BYTES_MAX = 1 << 20


async def signed_in(gateway):
    """A user, a room of theirs, and the headers that act for them."""
    alice = (await new_tenant(gateway)).user("alice")
    return alice, await alice.new_room("group"), {**alice.headers, "Content-Type": "application/json"}


def message_body(content):
    return json.dumps({"content": content}).encode()


# --- connections --------------------------------------------------------------------------------------------------


async def test_connection_is_kept_for_many_requests(gateway):
    alice, room_id, headers = await signed_in(gateway)
    wire = await HttpWire.open(gateway)
    for number in range(20):
        await wire.request("POST", f"/v1/rooms/{room_id}/messages", headers, message_body(f"{number}"))
        assert json.loads((await wire.answer()).body)["seq"] == number + 1
        await wire.request("GET", "/health")
        assert (await wire.answer()).status == 200


async def test_connection_close_is_honoured(gateway):
    wire = await HttpWire.open(gateway)
    await wire.request("GET", "/health", {"Connection": "close"})
    assert (await wire.answer()).status == 200
    await wire.assert_ended()


async def test_http_1_0_is_answered_and_closed(gateway):
    wire = await HttpWire.open(gateway)
    await wire.send(b"GET /health HTTP/1.0\r\n\r\n")
    assert (await wire.answer()).status == 200
    await wire.assert_ended()


async def test_pipelined_requests_are_answered_in_order(gateway):
    alice, room_id, headers = await signed_in(gateway)
    wire = await HttpWire.open(gateway)
    path = f"/v1/rooms/{room_id}/messages"
    requests = [request_bytes("POST", path, headers, message_body(f"{number}")) for number in range(10)]
    # Between them what is answered sooner: it must wait its turn all the same.
    await wire.send(b"".join(request + request_bytes("GET", "/health") + request_bytes("GET", "/v1/nowhere", headers)
                             for request in requests))
    for number in range(10):
        sent, health, nowhere = await wire.answer(), await wire.answer(), await wire.answer()
        assert (sent.status, health.status, nowhere.status) == (201, 200, 404)
        assert json.loads(sent.body)["seq"] == number + 1
    assert [message["content"] for message in await alice.messages(room_id, after_seq=0)] == \
        [f"{number}" for number in range(10)]


async def test_request_may_arrive_byte_by_byte(gateway):
    alice, room_id, headers = await signed_in(gateway)
    wire = await HttpWire.open(gateway)
    for byte in request_bytes("POST", f"/v1/rooms/{room_id}/messages", headers, message_body("slow")):
        await wire.send(bytes([byte]))
    assert (await wire.answer()).status == 201


async def test_empty_lines_before_a_request_are_skipped(gateway):
    """RFC 9112 2.2: at least one is to be ignored."""
    wire = await HttpWire.open(gateway)
    await wire.send(b"\r\n" + request_bytes("GET", "/health"))
    assert (await wire.answer()).status == 200


async def test_aborted_request_changes_nothing(gateway):
    alice, room_id, headers = await signed_in(gateway)
    wire = await HttpWire.open(gateway)
    await wire.send(request_bytes("POST", f"/v1/rooms/{room_id}/messages", headers, message_body("cut"))[:-1])
    wire.drop()
    await alice.send(room_id, "fence")
    assert [event["content"] for event in await alice.events(room_id)] == ["fence"]


# --- bodies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 7, 10_000], ids=lambda size: f"chunks of {size}")
async def test_chunked_body_is_taken(gateway, pieces):
    alice, room_id, headers = await signed_in(gateway)
    body = message_body("chunked " + "é" * 100)
    wire = await HttpWire.open(gateway)
    await wire.request("POST", f"/v1/rooms/{room_id}/messages", {**headers, "Transfer-Encoding": "chunked"})
    for at in range(0, len(body), pieces):
        chunk = body[at:at + pieces]
        await wire.send(b"%X;extension=\"x\"\r\n%s\r\n" % (len(chunk), chunk))
    await wire.send(b"0\r\nTrailer: ignored\r\n\r\n" + request_bytes("GET", "/health"))
    assert (await wire.answer()).status == 201
    assert (await wire.answer()).status == 200, "the next request begins where the chunks end"
    assert (await alice.messages(room_id, after_seq=0))[0]["content"] == "chunked " + "é" * 100


async def test_expectation_is_answered_before_the_body(gateway):
    alice, room_id, headers = await signed_in(gateway)
    body = message_body("expected")
    wire = await HttpWire.open(gateway)
    await wire.request("POST", f"/v1/rooms/{room_id}/messages",
                       {**headers, "Expect": "100-continue", "Content-Length": str(len(body))})
    assert (await wire.answer()).status == 100
    await wire.send(body)
    assert (await wire.answer()).status == 201


async def test_unknown_expectation_fails(gateway):
    wire = await HttpWire.open(gateway)
    await wire.request("GET", "/health", {"Expect": "miracles"})
    assert (await wire.answer()).status == 417


async def test_body_at_the_bound_is_taken_and_above_is_too_large(gateway):
    alice, room_id, headers = await signed_in(gateway)
    frame = '{"content":"x","ignored":"%s"}'
    padding = "p" * (BODY_BYTES_MAX - len(frame) + 2)
    (await alice.call("POST", f"/rooms/{room_id}/messages", raw=frame % padding)).ok(201)
    wire = await HttpWire.open(gateway)
    await wire.request("POST", f"/v1/rooms/{room_id}/messages", {**headers, "Content-Length": str(BODY_BYTES_MAX + 1)})
    answer = await wire.answer()
    assert answer.status == 413
    assert_problem(json.loads(answer.body), 413)
    assert len(await alice.events(room_id)) == 1


async def test_chunked_body_above_the_bound_is_too_large(gateway):
    alice, room_id, headers = await signed_in(gateway)
    wire = await HttpWire.open(gateway)
    await wire.request("POST", f"/v1/rooms/{room_id}/messages", {**headers, "Transfer-Encoding": "chunked"})
    try:
        for _ in range(BODY_BYTES_MAX // 65536 + 1):
            await wire.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
    except ConnectionError:
        pass  # refused while it was still being sent; the answer is there to read
    assert (await wire.answer()).status == 413


# --- methods ------------------------------------------------------------------------------------------------------


async def test_head_is_a_get_without_its_body(gateway):
    alice, room_id, headers = await signed_in(gateway)
    wire = await HttpWire.open(gateway)
    for path, status in (("/ready", 200), (f"/v1/rooms/{room_id}", 200), ("/v1/nowhere", 404)):
        await wire.request("GET", path, headers)
        got = await wire.answer()
        await wire.request("HEAD", path, headers)
        head = await wire.answer(head_only=True)
        assert (head.status, got.status) == (status, status)
        assert head.headers["content-type"] == got.headers["content-type"]
        assert int(head.headers.get("content-length", len(got.body))) == len(got.body)
    await wire.request("GET", "/health")
    assert (await wire.answer()).status == 200, "no body was left on the connection"


async def test_options_names_the_methods(gateway):
    answer = await call(gateway, "OPTIONS", "/v1/rooms")
    assert answer.status in (200, 204), answer
    allowed = {method.strip() for method in answer.headers["Allow"].split(",")}
    assert {"GET", "POST", "OPTIONS"} <= allowed and "DELETE" not in allowed


@pytest.mark.parametrize("method, path", [("DELETE", "/v1/rooms"), ("POST", "/health"), ("PUT", "/v1/users/me"),
                                          ("PATCH", "/v1/acks"), ("GET", "/v1/sync")])
async def test_method_that_a_path_does_not_have(gateway, method, path):
    alice, _, headers = await signed_in(gateway)
    answer = await call(gateway, method, path, headers)
    answer.problem(405)
    assert method not in answer.headers["Allow"].replace(" ", "").split(",") and answer.headers["Allow"]


async def test_path_that_does_not_exist(gateway):
    alice, room_id, headers = await signed_in(gateway)
    for path in ("/nowhere", "/v1", "/v1/", "/v1/nowhere", "/v2/rooms", f"/v1/rooms/{room_id}/nowhere", "/V1/rooms",
                 "/v1/rooms/", "/v1//rooms", "/v1/rooms;x=1", "/healthy", "/health/x"):
        (await call(gateway, "GET", path, headers)).problem(404)


async def test_api_prefix_is_the_same_interface(gateway):
    alice, room_id, headers = await signed_in(gateway)
    sent = (await call(gateway, "POST", f"/api/v1/rooms/{room_id}/messages", headers, {"content": "x"})).ok(201)
    assert sent["seq"] == 1
    for path in (f"/rooms/{room_id}", "/rooms", "/users/me", f"/rooms/{room_id}/messages?after_seq=0"):
        assert (await call(gateway, "GET", "/api/v1" + path, headers)).ok() == \
            (await call(gateway, "GET", "/v1" + path, headers)).ok()
    (await call(gateway, "GET", "/api/v1/admin/tenants", {"X-Master-Key": gateway.master_key})).ok()


async def test_request_ids_differ(gateway):
    ids = {(await call(gateway, "GET", "/v1/nowhere")).problem(404)["request_id"] for _ in range(10)}
    assert len(ids) == 10


async def test_json_answers_say_so(gateway):
    alice, room_id, _ = await signed_in(gateway)
    answers = [await alice.get("/rooms"), await alice.get(f"/rooms/{room_id}"), await call(gateway, "GET", "/health")]
    for answer in answers:
        assert answer.headers["Content-Type"].split(";")[0] == "application/json"


# --- bounds (what is malformed: test_bad_input_http.py) -----------------------------------------------------------


async def test_connection_ends_after_a_refusal(gateway):
    wire = await HttpWire.open(gateway)
    await wire.send(b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n")
    assert (await wire.answer()).status == 400
    await wire.assert_ended()


async def test_headers_that_are_large_but_allowed_are_taken(gateway):
    wire = await HttpWire.open(gateway)
    await wire.request("GET", "/health", {f"X-{number}": "y" * 250 for number in range(50)})
    assert (await wire.answer()).status == 200


async def test_header_names_ignore_case(gateway):
    alice, room_id, headers = await signed_in(gateway)
    wire = await HttpWire.open(gateway)
    await wire.request("GET", f"/v1/rooms/{room_id}", {name.swapcase(): text for name, text in headers.items()})
    assert (await wire.answer()).status == 200
