"""RFC 9112 and what RFC 9110 asks of a server, against /debug/echo, which answers the body that it was sent.

A row: the bytes, and every answer to them, in order. `accepted` is answered by 200 with that body, and the connection
goes on: a further request is answered as well. `refused` is answered by one error and the end: behind its bytes comes a
request that must never be served, for that is how requests are smuggled. Each row is sent as one segment, and byte by byte.
"""

from dataclasses import dataclass

import pytest

from cases import named
from peer import Peer, chopped

SMUGGLED = b"POST /debug/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nsmuggled"
PROBE = b"POST /debug/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nprobe"
OCTETS_MAX = 700  # a longer case is sent in segments of 97 bytes instead


@dataclass
class Case:
    section: str
    name: str
    sent: bytes
    status: int = 200
    body: bytes = b""
    code: str = ""


def octets(data):
    return data.encode("latin-1") if isinstance(data, str) else data


def accepted(section, name, sent, body=b""):
    return Case(section, name, octets(sent), body=octets(body))


def refused(section, name, sent, status, code):
    return Case(section, name, octets(sent), status, code=code)


def get(line="GET /debug/echo HTTP/1.1", *fields, end="\r\n"):
    return "\r\n".join([line, "Host: a", *fields, "", ""])


def post(*fields, body="", line="POST /debug/echo HTTP/1.1"):
    return "\r\n".join([line, "Host: a", *fields, "", ""]) + body


def chunked(body, *fields):
    return post("Transfer-Encoding: chunked", *fields, body=body)


def run(gateway, case, size=None):
    behind = PROBE if case.status == 200 else SMUGGLED
    sent = case.sent + behind
    with Peer(gateway) as peer:
        peer.send(*(chopped(sent, size if len(sent) <= OCTETS_MAX else 97) if size else [sent]))
        answer = peer.answer(head_only=case.sent.startswith(b"HEAD "))
        assert answer.status == case.status, answer
        if case.status == 200:
            assert answer.body == (b"" if case.sent.startswith(b"HEAD ") else case.body)
            assert int(answer.fields["content-length"]) == len(case.body), answer
            assert peer.answer().body == b"probe"
            return
        assert answer.fields["connection"] == "close", answer
        if not case.sent.startswith(b"HEAD "):
            assert answer.fields["content-type"] == "application/problem+json", answer
            assert f'"code":"{case.code}"'.encode() in answer.body, answer
        peer.assert_ended()


# --- the request line -------------------------------------------------------------------------------------------------

LINE, TARGET, VERSION, METHOD = "http.request_line", "http.target", "http.version", "http.method"
ECHO = "GET /debug/echo HTTP/1.1"

REQUEST_LINE = [
    *[accepted("9110 9", method, post("Content-Length: 4", body="body", line=f"{method} /debug/echo HTTP/1.1"), "body")
      for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")],
    *[accepted("9110 9", f"{method} without a body", get(f"{method} /debug/echo HTTP/1.1"))
      for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")],
    *[refused("9110 9.1", f"method {method}", get(f"{method} /debug/echo HTTP/1.1"), 501, METHOD)
      for method in ("TRACE", "CONNECT", "PROPFIND", "get", "Get", "GETX", "GE", "G", "FOO", "M-SEARCH", "!#$%&'*", "^_`|~.",
                     "123", "POSTPOSTPOST")],
    refused("9110 9.3.6", "CONNECT with an authority", get("CONNECT localhost:443 HTTP/1.1"), 501, METHOD),
    refused("9112 3", "method of 300 letters", get("A" * 300 + " /debug/echo HTTP/1.1"), 501, METHOD),
    refused("9112 3", "method of 30,000 letters", get("A" * 30000 + " /debug/echo HTTP/1.1"), 501, METHOD),
    refused("9112 3.1", "no method", get(" /debug/echo HTTP/1.1"), 400, LINE),
    *[refused("9112 3.1", f"method with {name}", get(f"G{char}T /debug/echo HTTP/1.1"), 400, LINE)
      for name, char in (("NUL", "\0"), ("a tab", "\t"), ("a colon", ":"), ("a slash", "/"), ("a quote", '"'),
                         ("a comma", ","), ("a semicolon", ";"), ("an equals sign", "="), ("brackets", "[]"), ("braces", "{}"),
                         ("parentheses", "()"), ("an at sign", "@"), ("a question mark", "?"), ("DEL", "\x7f"),
                         ("a byte above ASCII", "\xe4"), ("a bare CR", "\r"), ("a bare LF", "\n"))],
    refused("9112 3", "two spaces before the target", get("GET  /debug/echo HTTP/1.1"), 400, LINE),
    refused("9112 3", "two spaces before the version", get("GET /debug/echo  HTTP/1.1"), 400, LINE),
    refused("9112 3", "space behind the version", get("GET /debug/echo HTTP/1.1 "), 400, LINE),
    refused("9112 3", "tab behind the version", get("GET /debug/echo HTTP/1.1\t"), 400, LINE),
    refused("9112 3", "tab before the target", get("GET\t/debug/echo HTTP/1.1"), 400, LINE),
    refused("9112 3", "tab before the version", get("GET /debug/echo\tHTTP/1.1"), 400, TARGET),
    refused("9112 3", "vertical tab before the target", get("GET\v/debug/echo HTTP/1.1"), 400, LINE),
    refused("9112 3", "form feed before the version", get("GET /debug/echo\fHTTP/1.1"), 400, TARGET),
    refused("9112 3", "space before the method", get(" GET /debug/echo HTTP/1.1"), 400, LINE),
    refused("9112 3", "no target", get("GET HTTP/1.1"), 400, LINE),
    *[refused("9112 3", f"target that begins with {byte!r}", get(f"GET {byte}debug/echo HTTP/1.1"), 400, LINE)
      for byte in ("#", "\\", "\x7f", '"', "<", "\xe4")],
    refused("9112 3", "no target, two spaces", get("GET  HTTP/1.1"), 400, LINE),
    refused("9112 3", "no version (HTTP/0.9)", "GET /debug/echo\r\n\r\n", 400, LINE),
    refused("9112 3", "space instead of a version", get("GET /debug/echo "), 400, LINE),
    refused("9112 3", "method alone", "GET\r\n\r\n", 400, LINE),
    refused("9112 3", "space inside the target", get("GET /debug/ec ho HTTP/1.1"), 400, LINE),
    refused("9112 2.2", "bare LF behind the request line", "GET /debug/echo HTTP/1.1\nHost: a\r\n\r\n", 400, LINE),
    refused("9112 2.2", "bare CR behind the request line", "GET /debug/echo HTTP/1.1\rHost: a\r\n\r\n", 400, LINE),
    refused("9112 2.2", "CR CR LF behind the request line", "GET /debug/echo HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, LINE),
    refused("9112 2.2", "all lines end by bare LF", get().replace("\r\n", "\n"), 400, LINE),
    accepted("9112 2.2", "an empty line before the request", "\r\n" + get()),
    accepted("9112 2.2", "an empty line before a request with a body",
             "\r\n" + post("Content-Length: 2", body="ab"), "ab"),
    refused("9112 2.2", "two empty lines before the request", "\r\n\r\n" + get(), 400, LINE),
    refused("9112 2.2", "empty line of a bare LF before the request", "\n" + get(), 400, LINE),
    refused("9112 2.2", "bare CR before the request", "\r" + get(), 400, LINE),
    refused("9112 2.2", "line of a space before the request", " \r\n" + get(), 400, LINE),
    refused("9112 2.2", "byte order mark before the request", "\xef\xbb\xbf" + get(), 400, LINE),
    refused("9112 2.2", "TLS instead of HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, LINE),
    refused("9113 3.4", "HTTP/2 with prior knowledge", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 501, METHOD),
    *[accepted("9112 2.3", f"version {version}", get(f"GET /debug/echo {version}")) for version in
      ("HTTP/1.1", "HTTP/1.2", "HTTP/1.9")],
    *[refused("9112 2.3", f"version {version}", get(f"GET /debug/echo {version}"), 505, VERSION)
      for version in ("HTTP/0.9", "HTTP/0.0", "HTTP/2.0", "HTTP/2.1", "HTTP/3.0", "HTTP/9.9")],
    *[refused("9112 2.3", f"version {version!r}", get(f"GET /debug/echo {version}"), 400, LINE)
      for version in ("http/1.1", "Http/1.1", "HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/1.10", "HTTP/01.1", "HTTP/1.01", "HTTP/11",
                      "HTTP/a.b", "HTTP/1,1", "HTTP 1.1", "HTTP1.1", "HTTP/1.1.1", "HTTP/-1.1", "HTTP/+1.1", "HTTPS/1.1",
                      "ICY/1.1", "HTTP//1.1", "HTTP/ 1.1", "HTTP/1 .1", "HTTP/1.1HTTP/1.1", "X", "HTTP/1.\xb2")],
]

TARGETS = [
    accepted("9112 3.2.1", "query", get("GET /debug/echo?a=b&c=d HTTP/1.1")),
    accepted("9112 3.2.1", "empty query", get("GET /debug/echo? HTTP/1.1")),
    accepted("9112 3.2.1", "query of questions", get("GET /debug/echo???? HTTP/1.1")),
    accepted("9112 3.2.1", "query with slashes", get("GET /debug/echo?/a/../b HTTP/1.1")),
    accepted("9112 3.2.1", "every byte that a query may have", get("GET /debug/echo?AZaz09-._~!$&'()*+,;=:@/?%7F HTTP/1.1")),
    *[accepted("3986 3.4", f"{byte!r} in a query, as browsers send it", get(f"GET /debug/echo?a{byte}=b HTTP/1.1"))
      for byte in "[]^`{|}"],
    accepted("3986 2.1", "escapes in a query", get("GET /debug/echo?%41%2f%2F%00%ff%E2%82%ac HTTP/1.1")),
    accepted("9112 3.2.1", "the version's path", get("GET /v1/debug/echo HTTP/1.1")),
    accepted("9112 3.2.1", "query of 8000 bytes", get(f"GET /debug/echo?{'q' * 8000} HTTP/1.1")),
    accepted("9112 3.2.1", "target of the longest length", get(f"GET /debug/echo?{'q' * (8192 - 12)} HTTP/1.1")),
    refused("9110 15.5.15", "target one byte longer", get(f"GET /debug/echo?{'q' * (8193 - 12)} HTTP/1.1"), 414,
            "http.target_too_long"),
    refused("9110 15.5.15", "target of 60,000 bytes", get(f"GET /{'p' * 60000} HTTP/1.1"), 414, "http.target_too_long"),
    refused("9110 15.5.15", "target without an end", f"GET /{'p' * 9000}", 414, "http.target_too_long"),
    accepted("9112 3.2.2", "absolute form", get("GET http://localhost/debug/echo HTTP/1.1")),
    accepted("9112 3.2.2", "absolute form, another host than Host's", get("GET http://other.example/debug/echo HTTP/1.1")),
    accepted("9112 3.2.2", "absolute form with a port", get("GET http://localhost:8080/debug/echo HTTP/1.1")),
    accepted("9112 3.2.2", "absolute form with an empty port", get("GET http://localhost:/debug/echo HTTP/1.1")),
    accepted("9112 3.2.2", "absolute form of an IPv6 address", get("GET http://[::1]:80/debug/echo HTTP/1.1")),
    accepted("9112 3.2.2", "absolute form, scheme in capitals", get("GET HTTP://localhost/debug/echo HTTP/1.1")),
    accepted("9112 3.2.2", "absolute form of https", get("GET https://localhost/debug/echo HTTP/1.1")),
    accepted("9112 3.2.2", "absolute form with a query", get("GET http://localhost/debug/echo?a=http://b/ HTTP/1.1")),
    refused("9112 3.2.2", "absolute form without Host", "GET http://localhost/debug/echo HTTP/1.1\r\n\r\n", 400, "http.host"),
    *[refused("9112 3.2", f"target {target!r}", get(f"GET {target} HTTP/1.1"), 400, TARGET)
      for target in ("debug/echo", "*", "?a", "localhost:80", "localhost", "ftp://localhost/debug/echo", "http:",
                     "http:/debug/echo", "http:///debug/echo", "http://", "http://?a", "http://user@localhost/debug/echo",
                     "http://user:password@localhost/", "http://localhost:x/", "http://localhost:80:80/",
                     "http://localhost:65536/", "http://[::1/", "http://[::1]x/", "http://[gg::1]/", "http://a]/", "http://a[/",
                     "ws://localhost/debug/echo", "file:///etc/passwd", ".")],
    *[refused("9112 3.2", f"fragment in {target!r}", get(f"GET {target} HTTP/1.1"), 400, TARGET)
      for target in ("/debug/echo#", "/debug/echo#f", "/debug/echo?a#f", "/#/debug/echo")],
    *[refused("3986 3.3", f"byte {byte:02x} in a path", get(f"GET /debug/{chr(byte)}echo HTTP/1.1"), 400, TARGET)
      for byte in (0, 1, 8, 9, 0x0B, 0x0C, 0x1B, 0x1F, 0x22, 0x3C, 0x3E, 0x5C, 0x7F, 0x80, 0x85, 0xA0, 0xC3, 0xFF)],
    *[refused("3986 3.4", f"byte {byte:02x} in a query", get(f"GET /debug/echo?{chr(byte)} HTTP/1.1"), 400, TARGET)
      for byte in (0, 7, 9, 0x22, 0x3C, 0x3E, 0x5C, 0x7F, 0x80, 0xFF)],
    *[refused("9112 3.2", f"bare {name} in a target", get(f"GET /debug/echo{byte} HTTP/1.1"), 400, LINE)
      for name, byte in (("CR", "\r"), ("LF", "\n"))],
    *[refused("3986 2.1", f"escape {escape!r} in a {part}", get(f"GET /debug/echo{mark}{escape} HTTP/1.1"), 400, TARGET)
      for escape in ("%", "%4", "%zz", "%4g", "%g4", "%%41", "%u0041", "%-1", "%+1") for part, mark in
      (("path", "/"), ("query", "?"))],
]


# --- fields -----------------------------------------------------------------------------------------------------------

HEADER, HOST, LARGE = "http.header", "http.host", "http.headers_too_large"


def with_field(line):
    return get(ECHO, line)


def with_host(*lines):
    return "\r\n".join([ECHO, *lines, "", ""])


FIELDS = [
    *[accepted("9112 5", f"field {line!r}", with_field(line))
      for line in ("X: y", "X:y", "X:  y  ", "X:\ty\t", "X:", "X: ", "X:\t", "x-lower: y", "X-UPPER: y", "X: y: z", "X: :", "X: ,",
                   "X: \"quoted \\\" text\"", "X: (comment)", "X: a\tb", "X: \xe4\xf6\xfc", "X: \x80\xff", "X: ~!@#$%^&*",
                   "!#$%&'*+-.^_`|~09azAZ: every byte of a name", "X-" + "n" * 1000 + ": y", "X: " + "v" * 8000,
                   "Content-Lengths: 5", "Content-Lengt: 5", "Hosts: b")],
    accepted("9112 5", "no field but Host", get()),
    accepted("9110 5.3", "a field twice", get(ECHO, "X: 1", "X: 2")),
    accepted("9112 5", "as many fields as may be", get(ECHO, *[f"X-{n}: {n}" for n in range(63)])),
    refused("6585 5", "one field more", get(ECHO, *[f"X-{n}: {n}" for n in range(64)]), 431, LARGE),
    refused("6585 5", "thousand fields", get(ECHO, *[f"X-{n}: {n}" for n in range(1000)]), 431, LARGE),
    refused("6585 5", "field of 17,000 bytes", with_field("X: " + "v" * 17000), 431, LARGE),
    refused("6585 5", "name of 17,000 bytes", with_field("X" * 17000 + ": v"), 431, LARGE),
    refused("6585 5", "field without an end", get().rstrip() + "\r\nX: " + "v" * 20000, 431, LARGE),
    refused("6585 5", "fields of 100,000 bytes", get(ECHO, *[f"X: {'v' * 5000}"] * 20), 431, LARGE),
    *[refused("9112 5.1", f"space before the colon: {line!r}", with_field(line), 400, HEADER)
      for line in ("X : y", "X  : y", "X\t: y", "Host : b", "Content-Length : 5", "Transfer-Encoding : chunked",
                   "Transfer-Encoding\t: chunked", "Transfer-Encoding\v: chunked", "Transfer-Encoding\0: chunked")],
    *[refused("9112 5", f"no name: {line!r}", with_field(line), 400, HEADER) for line in (": y", ":", " : y")],
    *[refused("9112 5", f"no colon: {line!r}", with_field(line), 400, HEADER) for line in ("X", "X y", "Content-Length 5")],
    *[refused("9110 5.1", f"name with byte {ord(char):02x}", with_field(f"X{char}Y: z"), 400, HEADER)
      for char in '\0\x01\x08\t\v\f\x1b\x1f "(),/;<=>?@[\\]{}\x7f\x80\xa0\xe4\xff'],
    *[refused("9110 5.5", f"value with byte {ord(char):02x}", with_field(f"X: y{char}z"), 400, HEADER)
      for char in "\0\x01\x07\x08\v\f\x0e\x1b\x1f\x7f\r\n"],
    *[refused("9110 5.5", f"value that begins with byte {ord(char):02x}", with_field(f"X:{char}z"), 400, HEADER)
      for char in "\0\v\f\x7f"],
    *[refused("9112 5.2", f"obs-fold: {name}", text, 400, HEADER)
      for name, text in (("a space", with_field("X: y\r\n z")), ("a tab", with_field("X: y\r\n\tz")),
                         ("an empty line of spaces", with_field("X: y\r\n  ")), ("Host's", with_host("Host:\r\n a")),
                         ("the first field", with_host(" Host: a")), ("the first field by a tab", with_host("\tHost: a")),
                         ("behind Content-Length", with_field("Content-Length: 5\r\n 5")),
                         ("behind chunked", with_field("Transfer-Encoding: chunked\r\n , gzip")))],
    # The field is at fault before its continuation is seen.
    refused("9112 5.2", "obs-fold: Content-Length's", with_field("Content-Length:\r\n 5"), 400, "http.content_length"),
    refused("9112 5.2", "obs-fold: Transfer-Encoding's", with_field("Transfer-Encoding:\r\n chunked"), 400,
            "http.transfer_coding"),
    refused("9112 5.2", "obs-fold: chunked's", with_field("Transfer-Encoding: gzip,\r\n chunked"), 400, "http.transfer_coding"),
    refused("9112 2.2", "bare LF behind a field", get().replace("Host: a\r\n", "Host: a\n"), 400, HEADER),
    refused("9112 2.2", "bare CR behind a field", get().replace("Host: a\r\n", "Host: a\rX: y\r\n"), 400, HEADER),
    refused("9112 2.2", "CR CR LF behind a field", get().replace("Host: a\r\n", "Host: a\r\r\n"), 400, HEADER),
    refused("9112 2.2", "bare LF as the empty line", get()[:-2] + "\n", 400, HEADER),
    refused("9112 2.2", "bare CR as the empty line", get()[:-2] + "\rX", 400, HEADER),
    refused("9112 2.2", "CR CR LF as the empty line", get()[:-2] + "\r\r\n", 400, HEADER),
    refused("9112 2.2", "LF CR as a line's end", get().replace("Host: a\r\n", "Host: a\n\r"), 400, HEADER),
    *[accepted("9112 3.2", f"Host {host!r}", with_host(f"Host: {host}"))
      for host in ("a", "", "a.example", "a.example:80", "a:", "a:0", "a:65535", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:80",
                   "[2001:db8::1]", "A.EXAMPLE", "xn--4ca", "a_b", "a-b", "-", "%41", "a,b", "a.", "1")],
    *[refused("9112 3.2", f"Host {host!r}", with_host(f"Host: {host}"), 400, HOST)
      for host in ("a b", "a/b", "a:b", "a:-1", "a:65536", "a:80:80", "a:999999", "user@a", "http://a", "[::1", "::1]", "[::1]x",
                   "[]", "[:::1]", "a\\b", "a?b", "a#b", "%", "%4", "a%zz", "<a>", '"a"', "a\tb", "\xe4", "a, b", ":80", ":")],
    refused("9112 3.2", "no Host", with_host("X: y"), 400, HOST),
    refused("9112 3.2", "no field at all", ECHO + "\r\n\r\n", 400, HOST),
    refused("9112 3.2", "Host twice", with_host("Host: a", "Host: b"), 400, HOST),
    refused("9112 3.2", "Host twice, the same", with_host("Host: a", "Host: a"), 400, HOST),
    refused("9112 3.2", "Host twice, with others between", with_host("Host: a", "X: y", "HOST: a"), 400, HOST),
    refused("9112 3.2", "Host twice, one empty", with_host("Host:", "Host: a"), 400, HOST),
]


# --- lengths ----------------------------------------------------------------------------------------------------------

LENGTH, AMBIGUOUS, CODING, CHUNK = ("http.content_length", "http.ambiguous_length", "http.transfer_coding", "http.chunk")

LENGTHS = [
    *[accepted("9112 6.3", f"body of {length} bytes", post(f"Content-Length: {length}", body="b" * length), "b" * length)
      for length in (0, 1, 2, 100, 1000, 16383, 16384, 16385, 70000)],
    accepted("9112 6.3", "no Content-Length", post()),
    accepted("9110 8.6", "leading zeros", post("Content-Length: 0005", body="12345"), "12345"),
    accepted("9110 8.6", "zero by many zeros", post("Content-Length: 0000000000")),
    accepted("9110 8.6", "spaces around the length", post("Content-Length: \t 5 \t", body="12345"), "12345"),
    accepted("9112 6.3", "request inside a body", post(f"Content-Length: {len(SMUGGLED)}", body=SMUGGLED.decode()), SMUGGLED),
    accepted("9112 6.3", "every byte in a body", post("Content-Length: 256", body="".join(map(chr, range(256)))),
             bytes(range(256))),
    accepted("9112 6.3", "line ends in a body", post("Content-Length: 8", body="\r\n\r\n\n\n\r\r"), "\r\n\r\n\n\n\r\r"),
    accepted("9110 9.3.1", "GET with a body", post("Content-Length: 3", body="abc", line=ECHO), "abc"),
    accepted("9110 9.3.2", "HEAD with a body", post("Content-Length: 3", body="abc", line="HEAD /debug/echo HTTP/1.1"), "abc"),
    accepted("9110 9.3.5", "DELETE with chunks", post("Transfer-Encoding: chunked", body="3\r\nabc\r\n0\r\n\r\n",
                                                    line="DELETE /debug/echo HTTP/1.1"), "abc"),
    *[refused("9110 8.6", f"Content-Length {length!r}", post(f"Content-Length: {length}", body="12345"), 400, LENGTH)
      for length in ("", "+5", "-5", "-0", "-1", "5.0", "5,", ",5", "5, 5", "5,5", "5, 6", "5 5", "0x5", "5h", "five", "5;", "\"5\"",
                     "1e1", "5_0", "5\t5", "\xb2", "\xd9\xa5", "18446744073709551616", "18446744073709551621",
                     "99999999999999999999999999", "-18446744073709551611", "4294967296, 5")],
    *[refused("9110 15.5.14", f"Content-Length {length}", post(f"Content-Length: {length}", body="12345"), 413,
              "http.body_too_large") for length in ("16777217", "4294967296", "4294967301", "9223372036854775807",
                                                    "9223372036854775808", "18446744073709551615")],
    refused("9112 6.3", "Content-Length twice", post("Content-Length: 5", "Content-Length: 6", body="12345"), 400, LENGTH),
    refused("9112 6.3", "Content-Length twice, the same", post("Content-Length: 5", "Content-Length: 5", body="12345"), 400,
            LENGTH),
    refused("9112 6.3", "Content-Length twice, one is zero", post("Content-Length: 0", "Content-Length: 44", body="12345"), 400,
            LENGTH),
    refused("9112 6.3", "Content-Length twice, in two cases", post("Content-Length: 5", "content-length: 6", body="12345"), 400,
            LENGTH),
]

CODINGS = [
    *[accepted("9112 7.1", f"coding {coding!r}", post(f"Transfer-Encoding:{coding}", body="3\r\nabc\r\n0\r\n\r\n"), "abc")
      for coding in (" chunked", "chunked", " Chunked", " CHUNKED", " chUNKed ", "\tchunked\t")],
    *[refused("9112 6.1", f"coding {coding!r}", post(f"Transfer-Encoding: {coding}", body="3\r\nabc\r\n0\r\n\r\n"), status, CODING)
      for coding, status in (("gzip, chunked", 501), ("deflate,chunked", 501), ("identity, chunked", 501), ("br, gzip, chunked", 501),
                             ("gzip;q=1, chunked", 501), (", chunked", 501), ("chunked,", 501), (",", 400), ("gzip", 400), ("identity", 400),
                             ("", 400), ("chunked, gzip", 400), ("chunked, identity", 400), ("chunked, chunked", 400),
                             ("chunked chunked", 400), ("xchunked", 400), ("chunkedx", 400), ("chunk", 400), ("chunke", 400),
                             ("\"chunked\"", 400), ("'chunked'", 400), ("chunked;q=1", 400), ("chunked; foo", 400), ("chunked=1", 400),
                             (";chunked", 400), ("chun ked", 400), ("(chunked)", 400), ("cow", 400), ("\xe4chunked", 400),
                             ("chunked\xa0", 400), ("\x85chunked", 400), ("cow, chunked", 501), ("gzip chunked", 400))],
    *[refused("9112 6.1", f"two codings {first!r}, {second!r}",
              post(f"Transfer-Encoding: {first}", f"Transfer-Encoding: {second}", body="3\r\nabc\r\n0\r\n\r\n"), status, CODING)
      for first, second, status in (("chunked", "chunked", 400), ("chunked", "identity", 400), ("chunked", "cow", 400),
                                    ("identity", "chunked", 400), ("cow", "chunked", 400), ("chunked", "", 400))],
    *[refused("9112 6.1", f"both lengths: {name}", post(*lines, body="3\r\nabc\r\n0\r\n\r\n"), 400, AMBIGUOUS)
      for name, lines in (("length first", ("Content-Length: 5", "Transfer-Encoding: chunked")),
                          ("coding first", ("Transfer-Encoding: chunked", "Content-Length: 5")),
                          ("length of zero", ("Content-Length: 0", "Transfer-Encoding: chunked")),
                          ("coding first, length of zero", ("Transfer-Encoding: chunked", "Content-Length: 0")),
                          ("unknown coding behind a length", ("Content-Length: 5", "Transfer-Encoding: cow")),
                          ("identity behind a length", ("Content-Length: 5", "Transfer-Encoding: identity")),
                          ("malformed length behind a coding", ("Transfer-Encoding: chunked", "Content-Length: x")),
                          ("with others between", ("Content-Length: 5", "X: y", "transfer-encoding: chunked")),
                          ("in other cases", ("content-LENGTH: 5", "TRANSFER-encoding: chunked")))],
    refused("9112 6.1", "chunked in HTTP/1.0", post("Transfer-Encoding: chunked", body="0\r\n\r\n",
                                                   line="POST /debug/echo HTTP/1.0"), 400, CODING),
    accepted("9112 5.1", "another field's name", post("Transfer_Encoding: chunked", "Content-Length: 3", body="abc"), "abc"),
    accepted("9112 5.1", "longer name", post("XTransfer-Encoding: chunked", "Content-Length: 3", body="abc"), "abc"),
    accepted("9112 5.1", "longer name of the length", post("X-Content-Length: 99", "Content-Length: 3", body="abc"), "abc"),
    accepted("9110 10.1.4", "TE is no transfer coding", post("TE: trailers, gzip", "Content-Length: 3", body="abc"), "abc"),
]


# --- chunks -----------------------------------------------------------------------------------------------------------

LAST = "0\r\n\r\n"
BIG = "x" * 70000

CHUNKS = [
    *[accepted("9112 7.1", name, chunked(body), content) for name, body, content in (
        ("no chunk but the last", LAST, ""), ("one chunk", "3\r\nabc\r\n" + LAST, "abc"),
        ("three chunks", "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n" + LAST, "abc"),
        ("digits in capitals", "A\r\n0123456789\r\n" + LAST, "0123456789"),
        ("digits in small letters", "a\r\n0123456789\r\n" + LAST, "0123456789"),
        ("leading zeros", "0003\r\nabc\r\n" + LAST, "abc"), ("sixteen digits", "0000000000000003\r\nabc\r\n" + LAST, "abc"),
        ("last chunk by many zeros", "3\r\nabc\r\n00000000\r\n\r\n", "abc"),
        ("line ends in the data", "4\r\n\r\n\r\n\r\n" + LAST, "\r\n\r\n"), ("last chunk in the data", "5\r\n0\r\n\r\n\r\n" + LAST, LAST),
        ("request in the data", f"{len(SMUGGLED):x}\r\n{SMUGGLED.decode()}\r\n" + LAST, SMUGGLED),
        ("70,000 bytes in one chunk", f"{len(BIG):x}\r\n{BIG}\r\n" + LAST, BIG),
        ("hundred chunks", "".join(f"{n % 7 + 1:x}\r\n{'abcdefg'[:n % 7 + 1]}\r\n" for n in range(100)) + LAST,
         "".join("abcdefg"[:n % 7 + 1] for n in range(100))),
        ("extension", "3;a=b\r\nabc\r\n" + LAST, "abc"), ("extension without a value", "3;a\r\nabc\r\n" + LAST, "abc"),
        ("extension in quotes", '3;a="b;c d"\r\nabc\r\n' + LAST, "abc"), ("two extensions", "3;a=b;c=d\r\nabc\r\n" + LAST, "abc"),
        ("spaces before an extension", "3 \t;a=b\r\nabc\r\n" + LAST, "abc"), ("spaces in an extension", "3; a = b\r\nabc\r\n" + LAST, "abc"),
        ("extension of the last chunk", "3\r\nabc\r\n0;a=b\r\n\r\n", "abc"),
        ("extension of 8000 bytes", f"3;a={'e' * 8000}\r\nabc\r\n" + LAST, "abc"),
        ("trailer field", "3\r\nabc\r\n0\r\nX: y\r\n\r\n", "abc"), ("empty trailer field", "3\r\nabc\r\n0\r\nX:\r\n\r\n", "abc"),
        ("twenty trailer fields", "3\r\nabc\r\n0\r\n" + "X: y\r\n" * 20 + "\r\n", "abc"),
    )],
    # They are read and dropped: a trailer never becomes a header field (RFC 9110 6.5.1).
    *[accepted("9110 6.5.1", f"trailer {line!r} has no say", chunked(f"3\r\nabc\r\n0\r\n{line}\r\n\r\n"), "abc")
      for line in ("Content-Length: 99", "Transfer-Encoding: chunked", "Host: b", "Connection: close", "Expect: nothing",
                   "Upgrade: websocket")],
    *[refused("9112 7.1", f"chunk size {size!r}", chunked(f"{size}\r\nabc\r\n{LAST}"), 400, CHUNK)
      for size in ("", "x", "g", "-3", "+3", "0x3", "3x", "3 ", "3\t", " 3", "\t3", "3 3", "3,", "3h", "3\0", "\0", "3\v", "\xb3",
                   "3.0", "_3", "3_0", "00000000000000003", "3\r", "3\n", "\n3",
                   "3;a\0", "3;a\x7f", "3;a\nb", "3;a\rb")],
    *[refused("9110 15.5.14", f"chunk of {size} bytes", chunked(f"{size}\r\nabc\r\n{LAST}"), 413, "http.body_too_large")
      for size in ("1000001", "7fffffff", "80000000", "ffffffff", "100000003", "7fffffffffffffff", "8000000000000000",
                   "ffffffffffffffff", "fffffffffffffffe", "10000000000000003",
                   "fffffffffffffffff", "100000000000000000000000000000003")],
    refused("9112 7.1", "data longer than its size", chunked("3\r\nabcd\r\n" + LAST), 400, CHUNK),
    refused("9112 7.1", "data shorter than its size", chunked("4\r\nabc\r\n" + LAST), 400, CHUNK),
    refused("9112 7.1", "no line end behind the data", chunked("3\r\nabc" + LAST), 400, CHUNK),
    refused("9112 7.1", "bare LF behind the data", chunked("3\r\nabc\n" + LAST), 400, CHUNK),
    refused("9112 7.1", "bare CR behind the data", chunked("3\r\nabc\r" + LAST), 400, CHUNK),
    refused("9112 7.1", "bare LF behind a size", chunked("3\nabc\r\n" + LAST), 400, CHUNK),
    refused("9112 7.1", "bare CR behind a size", chunked("3\rabc\r\n" + LAST), 400, CHUNK),
    refused("9112 7.1", "bare LF behind the last size", chunked("3\r\nabc\r\n0\n\r\n"), 400, CHUNK),
    refused("9112 7.1", "bare LF at the very end", chunked("3\r\nabc\r\n0\r\n\n"), 400, HEADER),
    refused("9112 7.1", "bare CR at the very end", chunked("3\r\nabc\r\n0\r\n\rX"), 400, CHUNK),
    refused("9112 7.1", "space behind a last size", chunked("0 \r\n\r\n"), 400, CHUNK),
    refused("9112 7.1.1", "extensions of 20,000 bytes", chunked(f"3;a={'e' * 20000}\r\nabc\r\n" + LAST), 400, CHUNK),
    refused("9112 7.1.1", "extensions of 20,000 bytes in many chunks", chunked(f"1;{'e' * 99}\r\na\r\n" * 200 + LAST), 400, CHUNK),
    refused("9112 7.1.2", "trailer section of 5000 bytes", chunked(f"0\r\nX: {'t' * 5000}\r\n\r\n"), 431, LARGE),
    refused("9112 7.1.2", "thousand trailer fields", chunked("0\r\n" + "X: y\r\n" * 1000 + "\r\n"), 431, LARGE),
    *[refused("9112 7.1.2", f"trailer {line!r}", chunked(f"3\r\nabc\r\n0\r\n{line}\r\n\r\n"), 400, HEADER)
      for line in ("X y", "X : y", ": y", " X: y", "X: y\r\n z", "X: \0", "X: \x7f", "X\xe4: y", "X: y\nZ: z", "X: y\rZ: z",
                   "GET /debug/echo HTTP/1.1")],
]


# --- what else a request may ask --------------------------------------------------------------------------------------

OTHER = [
    *[refused("9110 10.1.1", f"expectation {text!r}", post(f"Expect: {text}", "Content-Length: 3", body="abc"), 417, "http.expect")
      for text in ("", "100", "100-continued", "101-continue", "200-ok", "100-continue, foo", "100-continue;a=b", "100 continue")],
    accepted("9110 10.1.1", "expectation of a request without a body", get(ECHO, "Expect: 100-continue")),
    accepted("9110 10.1.1", "expectation of an empty body", post("Expect: 100-continue", "Content-Length: 0")),
    accepted("9110 7.6.1", "Connection: keep-alive", get(ECHO, "Connection: keep-alive")),
    accepted("9110 7.6.1", "Connection without a meaning", get(ECHO, "Connection: foo, bar")),
    accepted("9110 7.6.1", "empty Connection", get(ECHO, "Connection:")),
    accepted("9110 7.6.1", "Connection names fields", get(ECHO, "Connection: Host, Content-Length, X", "X: y")),
    accepted("9110 7.6.1", "option that begins alike", get(ECHO, "Connection: closed, close-not")),
    accepted("9110 7.8", "Upgrade that nobody knows", get(ECHO, "Connection: upgrade", "Upgrade: h2c, foo/2")),
    accepted("9110 7.8", "Upgrade to HTTP/2", get(ECHO, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
                                                 "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")),
    accepted("9110 7.8", "Upgrade to a WebSocket where there is none", get(ECHO, "Connection: upgrade", "Upgrade: websocket")),
    accepted("9110 12.5", "what is negotiated elsewhere", get(ECHO, "Accept: text/html;q=0.1", "Accept-Encoding: gzip, br",
                                                            "Accept-Language: de", "Range: bytes=0-1", "If-None-Match: *")),
    accepted("9110 8.3", "Content-Type and Content-Encoding are passed over",
             post("Content-Type: nonsense", "Content-Encoding: gzip", "Content-Length: 3", body="abc"), "abc"),
    accepted("9110 7.6.2", "Max-Forwards", get("OPTIONS /debug/echo HTTP/1.1", "Max-Forwards: 0")),
]


def both_ways(table):
    parameters = named(table)
    ways = [(case, size) for case in parameters["argvalues"] for size in (None, 1)]
    ids = [name + suffix for name in parameters["ids"] for suffix in ("", ", byte by byte")]
    return {"argvalues": ways, "ids": ids}


@pytest.mark.parametrize("case, size", **both_ways(REQUEST_LINE))
def test_request_line_is_taken_by_the_letter(gateway, case, size):
    run(gateway, case, size)


@pytest.mark.parametrize("case, size", **both_ways(TARGETS))
def test_target_is_a_uri_of_this_server(gateway, case, size):
    run(gateway, case, size)


@pytest.mark.parametrize("case, size", **both_ways(FIELDS))
def test_fields_are_taken_by_the_letter(gateway, case, size):
    run(gateway, case, size)


@pytest.mark.parametrize("case, size", **both_ways(LENGTHS))
def test_length_of_a_body_is_one_number(gateway, case, size):
    run(gateway, case, size)


@pytest.mark.parametrize("case, size", **both_ways(CODINGS))
def test_transfer_coding_is_chunked_or_refused(gateway, case, size):
    run(gateway, case, size)


@pytest.mark.parametrize("case, size", **both_ways(CHUNKS))
def test_chunks_are_taken_by_the_letter(gateway, case, size):
    run(gateway, case, size)


@pytest.mark.parametrize("case, size", **both_ways(OTHER))
def test_other_fields_have_the_say_they_should(gateway, case, size):
    run(gateway, case, size)
