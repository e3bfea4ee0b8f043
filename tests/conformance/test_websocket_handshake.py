"""RFC 6455 4: what opens a WebSocket, and what is refused with which status. A refusal leaves the connection to HTTP."""

from dataclasses import dataclass, field

import pytest

from cases import named
from peer import BINARY, CLOSE, KEY, PONG, TEXT, Pause, Peer, binary, chopped, close, ping, text, upgrade


@dataclass
class Case:
    section: str
    name: str
    sent: bytes
    status: int = 101
    code: str = ""  # of the problem
    key: str = KEY
    sent_after: list = field(default_factory=list)


def opened(section, name, *replaced, **options):
    key = next((line.partition(":")[2].strip() for line in replaced if line.lower().startswith("sec-websocket-key")), KEY)
    return Case(section, name, upgrade(*replaced, **options), key=key)


def refused(section, name, *replaced, status=400, code="upgrade.invalid", **options):
    return Case(section, name, upgrade(*replaced, **options), status, code)


HANDSHAKES = [
    opened("4.1", "the plain one"),
    opened("4.1", "with the path's version", path="/v1/debug/ws-echo"),
    opened("4.1", "with a query", path="/debug/ws-echo?a=b&c"),
    opened("4.1", "absolute target", path="http://localhost/debug/ws-echo"),
    opened("4.1", "Host with a port", "Host: localhost:8080"),
    opened("4.1", "Host of an IPv6 address", "Host: [::1]:80"),
    opened("4.1", "Origin", "Origin: http://example.org"),
    opened("4.1", "Origin null", "Origin: null"),
    opened("4.1", "fields nobody knows", "X-One: 1", "X-Two: 2", "Cookie: a=b", "User-Agent: x"),
    opened("4.1", "later minor version of HTTP", version="HTTP/1.9"),
    opened("4.2.1", "field names in lower case", f"sec-websocket-key: {KEY}", "sec-websocket-version: 13",
           "upgrade: websocket", "connection: upgrade", "host: localhost"),
    opened("4.2.1", "field names in upper case", f"SEC-WEBSOCKET-KEY: {KEY}", "SEC-WEBSOCKET-VERSION: 13",
           "UPGRADE: websocket", "CONNECTION: upgrade", "HOST: localhost"),
    opened("4.2.1", "Upgrade in another case", "Upgrade: WebSocket"),
    opened("4.2.1", "Upgrade in upper case", "Upgrade: WEBSOCKET"),
    opened("4.2.1", "Upgrade among others", "Upgrade: h2c, websocket"),
    opened("4.2.1", "Upgrade among others, without space", "Upgrade: websocket,h2c"),
    opened("4.2.1", "Connection in upper case", "Connection: UPGRADE"),
    opened("4.2.1", "Connection as browsers send it", "Connection: keep-alive, Upgrade"),
    opened("4.2.1", "Connection list without space", "Connection: keep-alive,Upgrade"),
    opened("4.2.1", "Connection list with tabs", "Connection:\tUpgrade\t,\tkeep-alive\t"),
    opened("4.2.1", "Connection in two fields", "Connection: keep-alive", "Connection: Upgrade"),
    opened("4.2.1", "Upgrade in two fields", "Upgrade: h2c", "Upgrade: websocket"),
    opened("4.2.1", "spaces around the key", f"Sec-WebSocket-Key:   {KEY}  "),
    opened("4.2.1", "no space before the key", f"Sec-WebSocket-Key:{KEY}"),
    opened("4.2.2", "the RFC's own key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    opened("4.2.2", "key of zeros", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    opened("4.2.2", "key of ones", "Sec-WebSocket-Key: /////////////////////w=="),
    opened("4.2.2", "key with plus and slash", "Sec-WebSocket-Key: +/+/+/+/+/+/+/+/+/+/+w=="),
    opened("4.1", "subprotocol that nobody speaks", "Sec-WebSocket-Protocol: chat"),
    opened("4.1", "subprotocols that nobody speaks", "Sec-WebSocket-Protocol: chat, superchat"),
    opened("4.1", "subprotocols in two fields", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: superchat"),
    opened("9.1", "compression offered, not taken", "Sec-WebSocket-Extensions: permessage-deflate"),
    opened("9.1", "compression with parameters", "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"),
    opened("9.1", "extension's parameter with a value", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10"),
    opened("9.1", "extension's parameter in quotes", 'Sec-WebSocket-Extensions: foo; bar="baz"'),
    opened("9.1", "extension's parameter in quotes, escaped", 'Sec-WebSocket-Extensions: foo; bar="b\\az"'),
    opened("9.1", "several extensions", "Sec-WebSocket-Extensions: foo, bar; x=1; y, baz ; z = 2"),
    opened("9.1", "extensions in two fields", "Sec-WebSocket-Extensions: foo", "Sec-WebSocket-Extensions: bar; baz=2"),
    opened("9.1", "empty elements of the list", "Sec-WebSocket-Extensions: , foo,, bar,"),
    opened("4.2.1", "empty body declared", "Content-Length: 0"),

    refused("4.2.1", "HTTP/1.0", version="HTTP/1.0"),
    refused("4.2.1", "POST", method="POST", status=405, code="route.method_not_allowed"),
    refused("4.2.1", "PUT", method="PUT", status=405, code="route.method_not_allowed"),
    refused("4.2.1", "DELETE", method="DELETE", status=405, code="route.method_not_allowed"),
    refused("4.2.1", "no Upgrade", without=["Upgrade"]),
    refused("4.2.1", "empty Upgrade", "Upgrade:"),
    refused("4.2.1", "Upgrade to another protocol", "Upgrade: h2c"),
    refused("4.2.1", "Upgrade that begins alike", "Upgrade: websockets"),
    refused("4.2.1", "Upgrade with a version", "Upgrade: websocket/13"),
    refused("4.2.1", "no Connection", without=["Connection"]),
    refused("4.2.1", "empty Connection", "Connection:"),
    refused("4.2.1", "Connection without upgrade", "Connection: keep-alive"),
    refused("4.2.1", "Connection that begins alike", "Connection: upgraded"),
    refused("4.2.1", "Connection with a space inside", "Connection: Up grade"),
    refused("4.2.1", "Connection with a semicolon", "Connection: keep-alive; Upgrade"),
    refused("4.2.1", "no key", without=["Sec-WebSocket-Key"]),
    refused("4.2.1", "empty key", "Sec-WebSocket-Key:"),
    refused("4.2.1", "key of 15 bytes", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA"),
    refused("4.2.1", "key of 17 bytes", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA="),
    refused("4.2.1", "key of 18 bytes", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAA"),
    refused("4.2.1", "key of 32 bytes", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    refused("4.2.1", "key without its padding", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA"),
    refused("4.2.1", "key with half its padding", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA="),
    refused("4.2.1", "key with padding inside", "Sec-WebSocket-Key: AAAA==AAAAAAAAAAAAAAAA=="),
    refused("4.2.1", "key that is not base64", "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!=="),
    refused("4.2.1", "key in base64url", "Sec-WebSocket-Key: -_-_-_-_-_-_-_-_-_-_-w=="),
    refused("4.2.1", "key with a space inside", "Sec-WebSocket-Key: AAAAAAAAAAA AAAAAAAAAA=="),
    refused("4.2.1", "key twice", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
    refused("11.3.1", "key twice, the same", f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}"),
    refused("4.4", "no version", without=["Sec-WebSocket-Version"], status=426, code="upgrade.version"),
    refused("4.4", "empty version", "Sec-WebSocket-Version:", status=426, code="upgrade.version"),
    *[refused("4.4", f"version {version}", f"Sec-WebSocket-Version: {version}", status=426, code="upgrade.version")
      for version in ("0", "7", "8", "12", "14", "25", "255", "256", "1300", "013", "+13", "-13", "13.0", "0x0d", "13a",
                      "thirteen", "13, 8", "13 13")],
    refused("11.3.5", "version twice", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
    refused("11.3.5", "version twice, the same", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"),
    *[refused("4.1", f"subprotocol {protocol!r}", f"Sec-WebSocket-Protocol: {protocol}")
      for protocol in ("", "chat room", "chat;v=1", "chat/1", "(chat)", '"chat"', "chat, su per", "ch@t", "{chat}")],
    *[refused("9.1", f"extension {extension!r}", f"Sec-WebSocket-Extensions: {extension}")
      for extension in ("", "foo bar", "foo;", "foo; ;bar", ";foo", "foo; =1", "foo; a=", 'foo; a="', 'foo; a=""', "foo=bar",
                        'foo; a="b c"', "foo; a=b c", "f@o", "foo; a=b=c", "foo, bar;", '"foo"', 'foo; a="b"c', 'foo; a="b\\"')],
]

REFUSED_AS_HTTP = [
    Case("4.2.1", "no Host", upgrade(without=["Host"]), 400, "http.host"),
    Case("4.2.1", "Host twice", upgrade("Host: a", "Host: a"), 400, "http.host"),
    Case("4.2.1", "malformed Host", upgrade("Host: a b"), 400, "http.host"),
    Case("4.2.1", "HTTP/0.9", upgrade(version="HTTP/0.9"), 505, "http.version"),
    Case("4.2.1", "HTTP/2.0", upgrade(version="HTTP/2.0"), 505, "http.version"),
    Case("4.2.1", "obs-fold in a field", upgrade("Connection: keep-alive,\r\n Upgrade"), 400, "http.header"),
    Case("4.2.1", "space before the colon", upgrade("Upgrade : websocket"), 400, "http.header"),
    Case("4.2.1", "bare LF", upgrade().replace(b"\r\n", b"\n"), 400, "http.request_line"),
]


def alive_as_http(peer):
    peer.send(b"POST /debug/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nafter")
    answer = peer.answer()
    assert (answer.status, answer.body) == (200, b"after")


def alive_as_websocket(peer):
    peer.send(text("still there?") + close(1000))
    assert peer.frame() == (TEXT, b"still there?")
    assert peer.frame() == (CLOSE, b"\x03\xe8")
    peer.assert_ended()


@pytest.mark.parametrize("case", **named(HANDSHAKES))
def test_handshake_opens_or_is_refused_and_the_connection_is_of_use(gateway, case):
    with Peer(gateway) as peer:
        peer.send(case.sent)
        if case.status == 101:
            peer.assert_upgraded(case.key)
            alive_as_websocket(peer)
            return
        answer = peer.answer()
        assert (answer.status, answer.fields["content-type"]) == (case.status, "application/problem+json"), answer
        assert f'"code":"{case.code}"'.encode() in answer.body, answer
        if case.status == 426:  # RFC 6455 4.4, RFC 9110 15.5.22
            assert answer.fields["sec-websocket-version"] == "13", answer
            assert answer.fields["upgrade"] == "websocket" and "upgrade" in answer.fields["connection"].lower(), answer
        if case.status == 405:
            assert "GET" in answer.fields["allow"], answer
        if " HTTP/1.0\r\n" in case.sent.decode("latin-1"):
            peer.assert_ended()
        else:
            alive_as_http(peer)


@pytest.mark.parametrize("case", **named(REFUSED_AS_HTTP))
def test_handshake_that_is_no_http_ends_the_connection(gateway, case):
    with Peer(gateway) as peer:
        peer.send(case.sent)
        answer = peer.answer()
        assert answer.status == case.status and f'"code":"{case.code}"'.encode() in answer.body, answer
        assert answer.fields["connection"] == "close"
        peer.assert_ended()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_handshake_may_come_in_small_segments(gateway, size):
    with Peer(gateway) as peer:
        peer.send(*chopped(upgrade(), size))
        peer.assert_upgraded()
        alive_as_websocket(peer)


@pytest.mark.parametrize("size", [None, 1, 5, 64])
def test_frames_right_behind_the_handshake_are_answered(gateway, size):
    together = upgrade() + text("first") + ping("p") + binary(b"\x00" * 70000) + text("last")
    with Peer(gateway) as peer:
        peer.send(*(chopped(together[:400], size) + [together[400:]] if size else [together]))
        peer.assert_upgraded()
        assert peer.frame() == (TEXT, b"first")
        assert peer.frame() == (PONG, b"p")
        assert peer.frame() == (BINARY, b"\x00" * 70000)
        assert peer.frame() == (TEXT, b"last")
        alive_as_websocket(peer)


def test_close_right_behind_the_handshake_is_answered(gateway):
    with Peer(gateway) as peer:
        peer.send(upgrade() + close(1001))
        peer.assert_upgraded()
        assert peer.frame() == (CLOSE, b"\x03\xe9")
        peer.assert_ended()


def test_malformed_frame_right_behind_the_handshake_is_refused(gateway):
    with Peer(gateway) as peer:
        peer.send(upgrade() + text("x", masked=False))
        peer.assert_upgraded()
        assert peer.frame() == (CLOSE, b"\x03\xea")
        peer.assert_ended()


def test_handshake_comes_behind_other_requests_of_the_connection(gateway):
    with Peer(gateway) as peer:
        alive_as_http(peer)
        peer.send(b"POST /debug/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" + upgrade() + text("y"))
        assert peer.answer().body == b"x"
        peer.assert_upgraded()
        assert peer.frame() == (TEXT, b"y")
        alive_as_websocket(peer)


def test_second_handshake_works_where_the_first_was_refused(gateway):
    with Peer(gateway) as peer:
        peer.send(upgrade("Sec-WebSocket-Version: 8") + upgrade())
        assert peer.answer().status == 426
        peer.assert_upgraded()
        alive_as_websocket(peer)


@pytest.mark.parametrize("framing", ["Content-Length: 4\r\n\r\nbody", "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"])
def test_handshake_with_a_body_is_refused_and_the_body_is_no_frame(gateway, framing):
    with Peer(gateway) as peer:
        peer.send(upgrade()[:-2] + framing.encode())
        answer = peer.answer()
        assert answer.status == 400 and b"upgrade.invalid" in answer.body
        alive_as_http(peer)


def test_http_behind_the_handshake_is_no_frame(gateway):
    with Peer(gateway) as peer:
        peer.send(upgrade() + b"GET /debug/echo HTTP/1.1\r\nHost: a\r\n\r\n")
        peer.assert_upgraded()
        assert peer.frame() == (CLOSE, b"\x03\xea")
        peer.assert_ended()


def test_pause_between_handshake_and_first_frame_is_allowed(gateway):
    with Peer(gateway) as peer:
        peer.send(upgrade(), Pause(0.3), text("late"))
        peer.assert_upgraded()
        assert peer.frame() == (TEXT, b"late")
        alive_as_websocket(peer)
