"""What is no proper HTTP is refused with a code of its own, nothing behind it is served, and nobody else notices."""

import asyncio
import json

import pytest

import recorder
from bystander import Bystander
from client import call, new_tenant
from shapes import assert_problem
from wire import HttpWire, request_bytes

HOST = b"Host: localhost\r\n"
GET = b"GET /health HTTP/1.1\r\n" + HOST
POST = b"POST /v1/sync HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
HEAD_BYTES_MAX, FIELDS_MAX = 16 * 1024, 64

# name: (bytes, status, code). A second request behind each would be the smuggled one.
REFUSED = {
    # the request line (RFC 9112 section 3)
    "TLS instead of HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "http.request_line"),
    "no target": (b"GET HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.request_line"),
    "two spaces": (b"GET  /health HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.request_line"),
    "a tab for a space": (b"GET\t/health HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.request_line"),
    "a space at the end": (b"GET /health HTTP/1.1 \r\n" + HOST + b"\r\n", 400, "http.request_line"),
    "a space in front": (b" GET /health HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.request_line"),
    "method with a delimiter": (b"GE(T /health HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.request_line"),
    "unknown method": (b"BREW /health HTTP/1.1\r\n" + HOST + b"\r\n", 501, "http.method"),
    "method in small letters": (b"get /health HTTP/1.1\r\n" + HOST + b"\r\n", 501, "http.method"),
    "CONNECT": (b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n", 501, "http.method"),
    "TRACE": (b"TRACE /health HTTP/1.1\r\n" + HOST + b"\r\n", 501, "http.method"),
    "lower-case version": (b"GET /health http/1.1\r\n" + HOST + b"\r\n", 400, "http.request_line"),
    "version 0.9": (b"GET /health HTTP/0.9\r\n" + HOST + b"\r\n", 505, "http.version"),
    "version 2.0": (b"GET /health HTTP/2.0\r\n" + HOST + b"\r\n", 505, "http.version"),
    "version 1.10": (b"GET /health HTTP/1.10\r\n" + HOST + b"\r\n", 400, "http.request_line"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 501, "http.method"),
    # the target
    "control byte in the target": (b"GET /hea\x01lth HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.target"),
    "byte above 127 in the target": (b"GET /hea\xc3\xa4lth HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.target"),
    "fragment": (b"GET /health#top HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.target"),
    "broken escape": (b"GET /hea%2 HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.target"),
    "relative target": (b"GET health HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.target"),
    "asterisk for GET": (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n", 400, "http.target"),
    "target too long": (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "http.target_too_long"),
    # line ends and fields (sections 2.2 and 5)
    "bare line feed": (b"GET /health HTTP/1.1\nHost: localhost\n\n", 400, "http.request_line"),
    "bare line feed in a header": (GET + b"X: a\nY: b\r\n\r\n", 400, "http.header"),
    "bare carriage return": (GET + b"X: a\rb\r\n\r\n", 400, "http.header"),
    "folded header": (GET + b"X: a\r\n b\r\n\r\n", 400, "http.header"),
    "folded first header": (b"GET /health HTTP/1.1\r\n Host: localhost\r\n\r\n", 400, "http.header"),
    "space before the colon": (GET + b"X : a\r\n\r\n", 400, "http.header"),
    "header without a colon": (GET + b"X\r\n\r\n", 400, "http.header"),
    "empty header name": (GET + b": a\r\n\r\n", 400, "http.header"),
    "delimiter in a header name": (GET + b"X(: a\r\n\r\n", 400, "http.header"),
    "NUL in a header": (GET + b"X: a\x00b\r\n\r\n", 400, "http.header"),
    "NUL in a header name": (GET + b"X\x00: a\r\n\r\n", 400, "http.header"),
    "DEL in a header": (GET + b"X: a\x7fb\r\n\r\n", 400, "http.header"),
    "too many headers": (GET + b"X: y\r\n" * 200 + b"\r\n", 431, "http.headers_too_large"),
    "one header too many": (GET + b"X: y\r\n" * FIELDS_MAX + b"\r\n", 431, "http.headers_too_large"),
    "headers too large": (GET + b"X: " + b"y" * HEAD_BYTES_MAX + b"\r\n\r\n", 431, "http.headers_too_large"),
    # Host (RFC 9110 section 7.2)
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", 400, "http.host"),
    "two hosts": (GET + HOST + b"\r\n", 400, "http.host"),
    "host with a path": (b"GET /health HTTP/1.1\r\nHost: localhost/x\r\n\r\n", 400, "http.host"),
    "host with a space": (b"GET /health HTTP/1.1\r\nHost: local host\r\n\r\n", 400, "http.host"),
    "host with a user": (b"GET /health HTTP/1.1\r\nHost: user@localhost\r\n\r\n", 400, "http.host"),
    # lengths (RFC 9112 section 6)
    "both lengths": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
                     "http.ambiguous_length"),
    "two lengths": (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "http.content_length"),
    "the same length twice": (POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400, "http.content_length"),
    "length list": (POST + b"Content-Length: 2, 2\r\n\r\n{}", 400, "http.content_length"),
    "empty length": (POST + b"Content-Length: \r\n\r\n{}", 400, "http.content_length"),
    "negative length": (POST + b"Content-Length: -2\r\n\r\n{}", 400, "http.content_length"),
    "signed length": (POST + b"Content-Length: +2\r\n\r\n{}", 400, "http.content_length"),
    "hexadecimal length": (POST + b"Content-Length: 0x2\r\n\r\n{}", 400, "http.content_length"),
    "length with a fraction": (POST + b"Content-Length: 2.0\r\n\r\n{}", 400, "http.content_length"),
    "length of 2^64": (POST + b"Content-Length: 18446744073709551616\r\n\r\n{}", 400, "http.content_length"),
    "length of 2^64 - 1": (POST + b"Content-Length: 18446744073709551615\r\n\r\n{}", 413, "http.body_too_large"),
    "unknown coding": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501, "http.transfer_coding"),
    "coding in disguise": (POST + b"Transfer-Encoding: xchunked\r\n\r\n", 400, "http.transfer_coding"),
    "chunked not last": (POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n", 400, "http.transfer_coding"),
    "chunked twice": (POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n", 400, "http.transfer_coding"),
    "chunked in HTTP/1.0": (b"POST /v1/sync HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400,
                            "http.transfer_coding"),
    # chunks (section 7.1)
    "bad chunk size": (CHUNKED + b"xy\r\n", 400, "http.chunk"),
    "no chunk size": (CHUNKED + b"\r\n", 400, "http.chunk"),
    "negative chunk size": (CHUNKED + b"-1\r\n", 400, "http.chunk"),
    "chunk size with a prefix": (CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n", 400, "http.chunk"),
    "space before the chunk size": (CHUNKED + b" 2\r\n{}\r\n0\r\n\r\n", 400, "http.chunk"),
    "bare line feed behind a chunk size": (CHUNKED + b"2\n{}\r\n0\r\n\r\n", 400, "http.chunk"),
    "endless chunk size": (CHUNKED + b"fffffffffffffffff\r\n", 413, "http.body_too_large"),
    "chunk above the bound": (CHUNKED + b"fffffffff\r\n", 413, "http.body_too_large"),
    "chunk longer than said": (CHUNKED + b"2\r\n{}}\r\n0\r\n\r\n", 400, "http.chunk"),
    "endless extensions": (CHUNKED + b"2;" + b"x" * 20_000, 400, "http.chunk"),
    "bad trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nno colon\r\n\r\n", 400, "http.header"),
    "trailer too large": (CHUNKED + b"2\r\n{}\r\n0\r\nX: " + b"y" * 5000, 431, "http.headers_too_large"),
    # the rest
    "unknown expectation": (POST + b"Content-Length: 2\r\nExpect: 200-ok\r\n\r\n{}", 417, "http.expect"),
    "body above the bound": (POST + b"Content-Length: 2000000\r\n\r\n", 413, "http.body_too_large"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_can_be_misread_is_refused_and_nothing_behind_it_is_served(gateway, name):
    data, status, code = REFUSED[name]
    bystander = await Bystander.arrive(gateway)
    wire = await HttpWire.open(gateway)
    await wire.send(data + request_bytes("GET", "/health"))
    answer = await wire.answer()
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"]) == (status, code), answer
    assert_problem(problem, answer.status)
    assert answer.headers["content-type"].split(";")[0] == "application/problem+json"
    await wire.assert_ended(half_close=True)
    await bystander.unharmed()


async def test_garbage_behind_a_good_request_is_refused_after_its_answer(gateway):
    bystander = await Bystander.arrive(gateway)
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    wire = await HttpWire.open(gateway)
    body = b'{"content":"good"}'
    await wire.send(request_bytes("POST", f"/v1/rooms/{room_id}/messages", alice.headers, body) + b"\x00\x01garbage\r\n\r\n" +
                    request_bytes("POST", f"/v1/rooms/{room_id}/messages", alice.headers, b'{"content":"smuggled"}'))
    assert (await wire.answer()).status == 201
    refusal = await wire.answer()
    assert (refusal.status, json.loads(refusal.body)["code"]) == (400, "http.request_line")
    await wire.assert_ended(half_close=True)
    assert [message["content"] for message in await alice.messages(room_id)] == ["good"]
    await bystander.unharmed()


async def test_absolute_target_is_taken_by_its_path(gateway):
    """RFC 9112 section 3.2.2: a server must accept it; its authority replaces Host."""
    wire = await HttpWire.open(gateway)
    for target in ("http://localhost/health", "http://localhost:80/health?x=1", "HTTP://LOCALHOST/health"):
        await wire.send(f"GET {target} HTTP/1.1\r\nHost: elsewhere\r\n\r\n")
        assert (await wire.answer()).status == 200, target
    await wire.send(b"GET http:///health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert json.loads((await wire.answer()).body)["code"] == "http.target"


async def test_http_1_0_needs_no_host_and_is_closed_unless_it_asks(gateway):
    wire = await HttpWire.open(gateway)
    await wire.send(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await wire.answer()).status == 200
    await wire.send(b"GET /health HTTP/1.0\r\n\r\n")
    assert (await wire.answer()).status == 200
    await wire.assert_ended()


@pytest.mark.parametrize("target", ["*", "http://localhost"])
async def test_options_of_the_server_as_a_whole(gateway, target):
    """RFC 9110 section 9.3.7."""
    wire = await HttpWire.open(gateway)
    await wire.send(f"OPTIONS {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await wire.answer()
    assert answer.status == 204
    assert set(answer.headers["allow"].replace(" ", "").split(",")) >= {"OPTIONS", "GET", "HEAD", "POST", "PATCH", "DELETE"}
    await wire.request("GET", "/health")
    assert (await wire.answer()).status == 200


async def test_flood_of_malformed_requests_leaves_others_alone(make_gateway):
    """Ten thousand refusals, hundreds of connections at a time: none is served, none stays, and a bystander chats on."""
    gateway = make_gateway(cores=2)
    bystander = await Bystander.arrive(gateway)
    kinds = [data for data, _, _ in REFUSED.values() if len(data) < 500]

    async def refused(number):
        reader, writer = await asyncio.open_connection(gateway.host, gateway.port)
        try:
            writer.write(kinds[number % len(kinds)])
            if writer.can_write_eof():
                writer.write_eof()
            first = await asyncio.wait_for(reader.readline(), 30)
            return b"" if not first else first.split()[1]
        except ConnectionError:
            return b""
        finally:
            writer.close()

    statuses = {}
    for start in range(0, 10_000, 250):
        for status in await asyncio.gather(*[refused(number) for number in range(start, start + 250)]):
            statuses[status] = statuses.get(status, 0) + 1
        await bystander.say()
    assert all(status == b"" or 400 <= int(status) < 600 for status in statuses), statuses
    assert sum(count for status, count in statuses.items() if status) > 9_000, statuses
    await bystander.unharmed()


@pytest.mark.parametrize("user_id, code", [
    (b"", "auth.invalid_user_id"), (b"x" * 129, "auth.invalid_user_id"), (b"a\xffb", "auth.invalid_user_id"),
    (b"\xed\xa0\x80", "auth.invalid_user_id"), (b"\xc0\xaf", "auth.invalid_user_id"), (b"a\tb", "auth.invalid_user_id"),
    (None, "auth.user_required")], ids=repr)
async def test_user_id_that_is_none_is_refused(gateway, user_id, code):
    tenant = await new_tenant(gateway)
    wire = await HttpWire.open(gateway)
    field = b"" if user_id is None else b"X-User-Id: " + user_id + b"\r\n"
    await wire.send(b"GET /v1/rooms HTTP/1.1\r\nHost: x\r\nX-API-Key: " + tenant.api_key.encode() + b"\r\n" + field + b"\r\n")
    answer = await wire.answer()
    assert (answer.status, json.loads(answer.body)["code"]) == (400, code)


@pytest.mark.parametrize("key", ["", "x" * 65, "ä" * 32 + "x"], ids=repr)
async def test_idempotency_key_that_is_none_is_refused(gateway, key):
    alice = (await new_tenant(gateway)).user("alice")
    room_id = await alice.new_room("group")
    longest = recorder.limit("CLIENT_ID_BYTES_MAX")
    wire = await HttpWire.open(gateway)
    for path, body in (("/v1/rooms", b'{"type":"group"}'), (f"/v1/rooms/{room_id}/messages", b'{"content":"x"}')):
        for text, status in ((key.encode(), 400), (b"k" * longest, 201)):
            await wire.send(b"POST " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nX-API-Key: " + alice.api_key.encode() +
                            b"\r\nX-User-Id: alice\r\nIdempotency-Key: " + text + b"\r\nContent-Length: %d\r\n\r\n" % len(body) +
                            body)
            answer = await wire.answer()
            assert answer.status == status, answer
            if status == 400:
                assert json.loads(answer.body)["code"] == "idempotency.key_invalid"


async def test_disabled_tenant_is_told_so(gateway):
    tenant = await new_tenant(gateway)
    alice = tenant.user("alice")
    room_id = await alice.new_room("group")
    socket = await alice.connect()
    path, headers = f"/v1/admin/tenants/{tenant.tenant_id}", {"X-Master-Key": gateway.master_key}
    (await call(gateway, "PATCH", path, headers, {"state": "disabled"})).ok()
    assert await socket.closed() == 4004
    (await alice.get(f"/rooms/{room_id}")).problem(403, code="tenant.disabled")
    (await call(gateway, "PATCH", path, headers, {"state": "active"})).ok()
    (await alice.get(f"/rooms/{room_id}")).ok()
