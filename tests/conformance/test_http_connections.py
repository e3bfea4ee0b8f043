"""RFC 9112 9 and RFC 9110 against a connection's life: pipelines, its end, 100-continue, what never becomes whole; and what
the server says of its own accord: HEAD, OPTIONS, 404, 405."""

import pytest

from peer import Pause, Peer, chopped
from test_http import SMUGGLED, chunked, get, octets, post

ECHO = "GET /debug/echo HTTP/1.1"


def echo(body):
    return octets(post(f"Content-Length: {len(body)}", body=body))


def served(gateway, *sent, answers, end, head_only=()):
    """Sends, reads answers [(status, body)], then the end, or a further request's answer."""
    with Peer(gateway) as peer:
        peer.send(*sent)
        for index, (status, body) in enumerate(answers):
            answer = peer.answer(head_only=index in head_only)
            assert answer.status == status, answer
            if body is not None:
                assert answer.body == octets(body), answer
        if end:
            peer.assert_ended()
        else:
            peer.send(echo("still there?"))
            assert peer.answer().body == b"still there?"


# --- pipelines --------------------------------------------------------------------------------------------------------

PIPELINES = {
    "two requests": ([echo("1") + echo("2")], ["1", "2"]),
    "hundred requests": ([b"".join(echo(f"{n}") for n in range(100))], [f"{n}" for n in range(100)]),
    "requests without bodies": ([octets(get()) * 20], [""] * 20),
    "lengths and chunks in turns": ([(echo("length") + octets(chunked("5\r\nchunk\r\n0\r\n\r\n"))) * 5], ["length", "chunk"] * 5),
    "a trailer before the next": ([octets(chunked("1\r\na\r\n0\r\nX: y\r\n\r\n")) + echo("b")], ["a", "b"]),
    "an empty line between": ([echo("1") + b"\r\n" + echo("2")], ["1", "2"]),
    "a body that is a request": ([echo(SMUGGLED.decode()) + echo("2")], [SMUGGLED, "2"]),
    "cut inside the second head": ([echo("1") + echo("2")[:10], Pause(), echo("2")[10:]], ["1", "2"]),
    "cut inside the second body": ([echo("1") + echo("22")[:-1], Pause(), echo("22")[-1:]], ["1", "22"]),
    "cut inside a chunk size": ([echo("1") + octets(chunked("1")), Pause(), b"1\r\n" + b"s" * 17 + b"\r\n0\r\n\r\n"],
                                ["1", "s" * 17]),
    "byte by byte": (chopped(echo("1") + octets(chunked("1\r\n2\r\n0\r\n\r\n")) + echo("3"), 1), ["1", "2", "3"]),
    "large bodies": ([echo("x" * 100000) + echo("y" * 100000)], ["x" * 100000, "y" * 100000]),
    "large answers behind each other": ([echo("z" * 50000) * 10], ["z" * 50000] * 10),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_pipeline_is_answered_in_order(gateway, name):
    sent, bodies = PIPELINES[name]
    served(gateway, *sent, answers=[(200, body) for body in bodies], end=False)


BROKEN = {
    "malformed line": (b"GET\r\n\r\n", 400), "malformed field": (octets(get(ECHO, "X : y")), 400),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400), "both lengths": (octets(chunked("0\r\n\r\n", "Content-Length: 3")), 400),
    "bad chunk": (octets(chunked("x\r\n")), 400), "unknown method": (octets(get("FOO / HTTP/1.1")), 501),
    "unknown version": (octets(get("GET / HTTP/2.0")), 505), "too large a body": (octets(post("Content-Length: 99999999")), 413),
    "garbage": (b"\x00\xff garbage", 400),
}


@pytest.mark.parametrize("name", BROKEN)
def test_error_inside_a_pipeline_is_answered_in_its_turn_and_ends_it(gateway, name):
    broken, status = BROKEN[name]
    served(gateway, echo("1") + echo("2") + broken + echo("3"), answers=[(200, "1"), (200, "2"), (status, None)], end=True)


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - {"malformed line", "unknown method", "garbage"}))
def test_refused_head_request_gets_no_content(gateway, name):
    broken, _ = BROKEN[name]
    head = broken.replace(b"GET ", b"HEAD ").replace(b"POST ", b"HEAD ")
    served(gateway, head, answers=[(BROKEN[name][1], None)], head_only=(0,), end=True)


# --- the connection's end ---------------------------------------------------------------------------------------------

ENDS = {  # request line's version, Connection fields: is it the last one?
    "1.1": ("HTTP/1.1", [], False), "1.1 close": ("HTTP/1.1", ["close"], True), "1.1 CLOSE": ("HTTP/1.1", ["CLOSE"], True),
    "1.1 close among others": ("HTTP/1.1", ["foo, close ,bar"], True), "1.1 close in a second field": ("HTTP/1.1", ["a", "close"], True),
    "1.1 keep-alive": ("HTTP/1.1", ["keep-alive"], False), "1.1 both": ("HTTP/1.1", ["keep-alive, close"], True),
    "1.1 both in two fields": ("HTTP/1.1", ["close", "keep-alive"], True), "1.1 close in quotes": ("HTTP/1.1", ['"close"'], False),
    "1.9 is 1.1": ("HTTP/1.9", [], False), "1.0": ("HTTP/1.0", [], True), "1.0 close": ("HTTP/1.0", ["close"], True),
    "1.0 keep-alive": ("HTTP/1.0", ["keep-alive"], False), "1.0 Keep-Alive": ("HTTP/1.0", ["Keep-Alive"], False),
    "1.0 both": ("HTTP/1.0", ["keep-alive, close"], True), "1.0 something else": ("HTTP/1.0", ["foo"], True),
}


@pytest.mark.parametrize("name", ENDS)
def test_connection_ends_when_the_request_says_so(gateway, name):
    version, options, ends = ENDS[name]
    request = octets(post(*[f"Connection: {option}" for option in options], "Content-Length: 4", body="last",
                          line=f"POST /debug/echo {version}"))
    with Peer(gateway) as peer:
        peer.send(request + SMUGGLED)
        answer = peer.answer()
        assert (answer.status, answer.body) == (200, b"last")
        if ends:
            assert answer.fields["connection"] == "close"
            peer.assert_ended()
        else:
            assert answer.fields.get("connection") == ("keep-alive" if version == "HTTP/1.0" else None)
            assert peer.answer().body == b"smuggled"


def test_http_1_0_needs_no_host(gateway):
    served(gateway, b"GET /debug/echo HTTP/1.0\r\n\r\n", answers=[(200, "")], end=True)
    served(gateway, b"GET /debug/echo HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", answers=[(400, None)], end=True)


def test_peer_that_only_ends_its_own_direction_gets_every_answer(gateway):
    with Peer(gateway) as peer:
        peer.send(echo("1") + echo("2" * 100000) + echo("3"))
        peer.half_close()
        assert [peer.answer().body for _ in range(3)] == [b"1", b"2" * 100000, b"3"]
        peer.assert_ended()


INCOMPLETE = {
    "nothing": b"", "empty line": b"\r\n", "method": b"GET", "line": b"GET /debug/echo HTTP/1.1\r\n",
    "head": octets(get())[:-2], "head but the last byte": octets(get())[:-1], "body": octets(post("Content-Length: 5", body="1234")),
    "no byte of the body": octets(post("Content-Length: 5")), "chunk size": octets(chunked("5")), "chunk": octets(chunked("5\r\n1234")),
    "chunk's line end": octets(chunked("5\r\n12345\r")), "no last chunk": octets(chunked("5\r\n12345\r\n")),
    "last chunk's line": octets(chunked("5\r\n12345\r\n0\r\n")), "trailer": octets(chunked("0\r\nX: y\r\n")),
    "last byte": octets(chunked("0\r\n\r")),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_request_that_never_becomes_whole_is_not_served(gateway, name):
    """RFC 9112 8: the connection ends; whether an error is answered before is the server's choice, and it does not."""
    with Peer(gateway) as peer:
        peer.send(INCOMPLETE[name])
        peer.half_close()
        peer.assert_ended()
    with Peer(gateway) as peer:
        peer.send(echo("before") + INCOMPLETE[name])
        peer.half_close()
        assert peer.answer().body == b"before"
        peer.assert_ended()


# --- bodies that take their time --------------------------------------------------------------------------------------

@pytest.mark.parametrize("segment", [1, 3, 100])
def test_slow_body_is_waited_for(gateway, segment):
    body = "slowly" * 20
    parts = [part for piece in chopped(octets(body), segment) for part in (piece, Pause(0.002))]
    served(gateway, octets(post(f"Content-Length: {len(body)}")), Pause(), *parts, answers=[(200, body)], end=False)


def test_body_of_the_bound_is_taken_and_one_byte_more_is_not(gateway):
    """16 MiB, which is what /debug/echo takes; the API's own bound is lower."""
    bound = 16 << 20
    body = b"m" * bound
    served(gateway, octets(post(f"Content-Length: {bound}")), body, answers=[(200, body.decode())], end=False)
    served(gateway, octets(post(f"Content-Length: {bound + 1}")), answers=[(413, None)], end=True)
    served(gateway, octets(chunked(f"{bound:x}\r\n")) + body + b"\r\n0\r\n\r\n", answers=[(200, body.decode())], end=False)
    served(gateway, octets(chunked(f"{bound:x}\r\n")) + body + b"\r\n1\r\n", answers=[(413, None)], end=True)


# --- Expect: 100-continue (RFC 9110 10.1.1) ---------------------------------------------------------------------------

@pytest.mark.parametrize("expectation", ["100-continue", "100-Continue", "100-CONTINUE", " 100-continue "])
@pytest.mark.parametrize("framing, body", [("Content-Length: 4", b"body"), ("Transfer-Encoding: chunked", b"4\r\nbody\r\n0\r\n\r\n")])
def test_continue_is_said_once_and_before_the_body(gateway, expectation, framing, body):
    with Peer(gateway) as peer:
        peer.send(octets(post(f"Expect:{expectation}", framing)))
        assert peer.answer().status == 100
        assert peer.is_silent(0.02), "an answer before the body"
        peer.send(body)
        answer = peer.answer()
        assert (answer.status, answer.body) == (200, b"body")
        peer.send(echo("still there?"))
        assert peer.answer().body == b"still there?"


def test_continue_is_not_said_to_whoever_already_sends(gateway):
    served(gateway, octets(post("Expect: 100-continue", "Content-Length: 4", body="body")), answers=[(200, "body")], end=False)


def test_continue_is_not_said_to_http_1_0(gateway):
    with Peer(gateway) as peer:
        peer.send(octets(post("Expect: 100-continue", "Content-Length: 4", line="POST /debug/echo HTTP/1.0")))
        assert peer.is_silent(0.05)
        peer.send(b"body")
        assert peer.answer().body == b"body"
        peer.assert_ended()


@pytest.mark.parametrize("fields, status", [(["Content-Length: 99999999"], 413), (["Content-Length: x"], 400),
                                            (["Transfer-Encoding: gzip, chunked"], 501), (["Content-Length: 4", "Host: b"], 400)])
def test_final_status_comes_instead_of_continue(gateway, fields, status):
    served(gateway, octets(post("Expect: 100-continue", *fields)), answers=[(status, None)], end=True)


def test_continue_keeps_its_place_in_a_pipeline(gateway):
    with Peer(gateway) as peer:
        peer.send(echo("1") + octets(post("Expect: 100-continue", "Content-Length: 1")))
        assert peer.answer().body == b"1"
        assert peer.answer().status == 100
        peer.send(b"2")
        assert peer.answer().body == b"2"


# --- what the server says of its resources ----------------------------------------------------------------------------

def asked(gateway, method, path, *fields):
    with Peer(gateway) as peer:
        peer.send(octets(get(f"{method} {path} HTTP/1.1", *fields)))
        answer = peer.answer(head_only=method == "HEAD")
        peer.send(echo("still there?"))
        assert peer.answer().body == b"still there?", "an answer that keeps the connection"
        return answer


@pytest.mark.parametrize("path", ["/health", "/ready", "/", "/openapi.yaml", "/docs", "/v1/health", "/nothing", "/v1/rooms"])
def test_head_is_get_without_content(gateway, path):
    got, headed = asked(gateway, "GET", path), asked(gateway, "HEAD", path)
    assert headed.status == got.status
    varying = {"date", "content-length"} if path.endswith(("health", "rooms", "nothing")) else {"date"}  # times and ids in them
    assert {name: text for name, text in headed.fields.items() if name not in varying} == {
        name: text for name, text in got.fields.items() if name not in varying}
    assert "content-length" in headed.fields


@pytest.mark.parametrize("method, path, allowed", [
    ("POST", "/health", {"GET", "HEAD", "OPTIONS"}), ("DELETE", "/", {"GET", "HEAD", "OPTIONS"}),
    ("PUT", "/v1/acks", {"POST", "OPTIONS"}), ("GET", "/v1/acks", {"POST", "OPTIONS"}), ("HEAD", "/v1/acks", {"POST", "OPTIONS"}),
    ("PATCH", "/v1/rooms", {"GET", "HEAD", "POST", "OPTIONS"}), ("DELETE", "/debug/ws-echo", {"GET", "HEAD", "OPTIONS"})])
def test_method_that_a_resource_does_not_know_is_405_with_allow(gateway, method, path, allowed):
    answer = asked(gateway, method, path)
    assert answer.status == 405
    assert {name.strip() for name in answer.fields["allow"].split(",")} == allowed


@pytest.mark.parametrize("path", ["/health", "/v1/rooms", "/v1/acks", "*"])
def test_options_names_the_methods(gateway, path):
    answer = asked(gateway, "OPTIONS", path)
    assert (answer.status, answer.body) == (204, b"")
    assert "OPTIONS" in answer.fields["allow"]


def test_options_of_an_absolute_target_without_a_path_is_the_servers(gateway):
    assert asked(gateway, "OPTIONS", "http://localhost").fields["allow"] == asked(gateway, "OPTIONS", "*").fields["allow"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/debug/nothing", "/debug/echo/", "/debug/echo/x", "/debug//echo", "//debug/echo", "/debug/./echo",
                                  "/debug/../debug/echo", "/debug%2fecho", "/debug%2Fecho", "/debug/echo%00", "/debug/ech%6F", "/debug/echo;a",
                                  "/DEBUG/ECHO", "/debug/echo%20", "/%2e%2e/debug/echo", "/v2/debug/echo", "/v1", "/v1/"])
def test_path_is_compared_byte_by_byte_and_anything_else_is_404(gateway, method, path):
    """Nothing is normalised: a path means here what it means to a proxy that compares it."""
    assert asked(gateway, method, path).status == 404


@pytest.mark.parametrize("escape", ["%00", "a%00", "%00a", "a%2f%00"])
def test_escaped_nul_in_a_name_names_nothing(gateway, escape):
    assert asked(gateway, "GET", f"/v1/users/{escape}").status == 404


def test_answers_name_a_date_and_a_length(gateway):
    answer = asked(gateway, "GET", "/debug/echo")
    weekday, rest = answer.fields["date"].split(", ")
    assert weekday in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    assert rest.endswith(" GMT") and len(answer.fields["date"]) == 29, "RFC 9110 5.6.7"
    assert answer.fields["content-length"] == "0"
