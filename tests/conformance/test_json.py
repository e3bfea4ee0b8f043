"""RFC 8259: `carillon check-json FILE` for each text, and the API for the same texts as bodies.

VALID and INVALID are what the grammar says. DECIDED are texts on which RFC 8259 leaves the answer to the implementation
(section 9), with ours: docs/PROTOCOL.md. Every text of a few tokens, in all combinations, is judged by Python's parser as
well.
"""

import itertools
import json
import subprocess
from dataclasses import dataclass

import pytest

from cases import named
from gateway import BINARY
from peer import Peer


@dataclass
class Case:
    section: str
    name: str
    text: bytes
    valid: bool
    code: str = ""  # the API's, where it is not what `valid` leads one to expect


def rows(section, valid, texts):
    """One row a text; a pair names a text that is not fit to be a name."""
    made = []
    for entry in texts:
        name, text = entry if isinstance(entry, tuple) else (ascii(entry), entry)
        made.append(Case(section, name, text if isinstance(text, bytes) else text.encode(), valid))
    return made


def valid(section, *texts):
    return rows(section, True, texts)


def invalid(section, *texts):
    return rows(section, False, texts)


LONG = 1 << 20

CASES = [
    # 2: structure and white space
    *valid("2", "[]", "{}", "[ ]", "{ }", "[1]", "[1,2]", "[[]]", "[{}]", '{"a":[]}', '{"a":{}}', "[[],[[]],{}]", "[1,[2,[3]]]",
           '{"a":{"b":{"c":[{}]}}}', "null", "true", "false", "0", '""', '"a"', "-1", " [] ", "\t[]\t", "\n[]\n", "\r[]\r", "\r\n[]\r\n",
           "[ 1 , 2 ]", "[1\n,\n2]", '{ "a" : 1 }', '{\t"a"\r:\n1 }', " null", "null ", " 1 ", "\n\n\n1", '[1,2,3,null,true,"x"]',
           '[null,true,false,0,"",[],{}]', ("much white space", " \t\r\n" * 10000 + "[" + " \n" * 10000 + "]" + "\t" * 10000)),
    *invalid("2", "", " ", "\n", "\t \r\n", ",", ":", "[", "]", "{", "}", "[}", "{]", "[[", "]]", "[[]", "[]]", "{}}", "{{}", "[1", "1]", "[1,",
             "[,", "[,]", "[1,]", "[,1]", "[1,,2]", "[,,]", "[1 2]", "[1 true]", "[1:2]", "[a]", "[1;2]", "(1)", "<1>", "[1}", '{"a":1]',
             "[] []", "[]{}", "[][]", "{}{}", "1 2", "1,2", "[],", "{},", "null,", "1 null", "true false", '""""', '"a""b"', '"a" "b"',
             "[]x", "{}x", "[]#", "[]//", "[]/**/", "/**/[]", "[/**/]", "//\n[]", "#\n[]", "[1/*c*/]", "-- []", "[]\0", "\0[]", "[\0]", "[1\0]",
             "{\0}", "1\0", "null\0", '""\0', "\0", "[1,\0]", "[\f]", "[\v]", "[\u00a0]", "\f[]", "[]\v", "\u2028[]", "[]\u2029", "\u3000[]",
             "[\u2060]", "\u0085[]", "\x1f[]", "[]\x1a", "[\x08]", "*", "'", "\\", "[\\]", "@", "$", "=", "[1]=", "<html>", "undefined", "[undefined]"),
    # 3: the three names
    *valid("3", "[null]", "[true]", "[false]", '{"a":null}', "[null,null]", "[true,false,null]"),
    *invalid("3", "nul", "nulll", "tru", "truee", "fals", "falsee", "Null", "NULL", "True", "TRUE", "False", "FALSE", "nUll", "[nul]", "[tru]",
             "[fals]", "[nulll]", "[truefalse]", "[true1]", "[nullnull]", "[null1]", "[1null]", "n", "t", "f", "[n]", "[t]", "[f]", "None", "nil", "NaN",
             "[NaN]", "-NaN", "nan", "[Infinity]", "Infinity", "-Infinity", "[-Infinity]", "+Infinity", "inf", "1.#INF", "yes", "[no]", "true\0",
             "[nul\0]", "nul l", '[true"]', "[\u0130]", "ｎｕｌｌ", "tr\\u0075e"),
    # 4: objects
    *valid("4", '{"a":1}', '{"a":1,"b":2}', '{"":0}', '{"":""}', '{"a":1,"a":2}', '{"a":1,"a":1}', '{"\\u0061":1,"a":2}', '{"\\u0000":0}',
           '{"a\\nb":1}', '{"ä":"ö"}', '{"\\ud83d\\ude00":1}', '{" a ":1}', '{"a":{"a":{"a":1}}}', '{"__proto__":{}}', '{"1":1}',
           ("thousand members", "{" + ",".join(f'"k{n}":{n}' for n in range(1000)) + "}"),
           ("member name of 1 MiB", '{"' + "k" * LONG + '":1}')),
    *invalid("4", '{"a"}', '{"a":}', '{:1}', '{"a" 1}', '{"a",1}', '{"a":1,}', '{,"a":1}', '{"a":1,,"b":2}', '{"a":1 "b":2}', '{"a":1;"b":2}',
             "{a:1}", "{1:1}", "{null:1}", "{true:1}", "{[]:1}", "{{}:1}", "{'a':1}", '{"a"::1}', '{"a":1:2}', '{"a":1:}', '{"a":', '{"a"', '{"a', '{"',
             '{"a":1', '{"a":1,', '{"a":1,"b', '{"a":1,"b"', '{"a":1,"b":', '{"a":1,"b":2', '{"a":1}}', '{"a":1}"b"', '{"a":1}x', '{"a":1}/**/', "{,}",
             "{:}", '{"a"=1}', '{"a"=>1}', '{"a":b}', '{"a":\'b\'}', '{"a":undefined}', '{"a":1,...}', '{"a":\0}', '{"a\0":1', '{"a":1,b:2}',
             '{1.5:"a"}', '{"a":"b",1}', '{"a":1,"b"}', '{ä:1}', '{"a":[}', '{"a":{]}'),
    # 5: arrays
    *valid("5", '["a"]', "[0]", "[[[[]]]]", "[null,1]", "[1,null]", '["",""]', "[{},{}]", "[[1],[2]]", "[-0,0]",
           ("100,000 elements", "[" + ",".join(["0"] * 100000) + "]"), ("elements and spaces", "[" + " 1 ,\n" * 5000 + "1]")),
    *invalid("5", "[1,2", "[1,2,", "[1,2,]", "[1,2}", '["a"', '["a', '["a",', '["a" "b"]', '["a":1]', "[:]", "[1:]", "[\"a\",4,]", "[3[4]]", "[1]]", "[[1]",
             "[,[]]", "[[],]", "[-]", "[.]", "[+]", "[e]", "[1,2,,]", "[1,\n1\n,1", "[1[", "[{}", "[{]", '["x"]]', "[x", "[ , ]", "[\u00e5]", "[*]", "[?]"),
    # 6: numbers
    *valid("6", "-0", "1", "9", "10", "123", "-123", "0.0", "-0.0", "0.1", "1.5", "-1.5", "0.000001", "1e0", "1E0", "1e1", "1e+1", "1e-1", "1E+1",
           "1E-1", "0e0", "0e1", "0E+1", "-0e-0", "1.5e5", "1.5E+5", "1.5e-5", "-1.5e-5", "0.5e0", "1e00", "1e01", "1e+00", "1.0000", "100e100",
           "123456789012345678", "9223372036854775807", "-9223372036854775808", "18446744073709551615", "1.7976931348623157e308",
           "5e-324", "2.2250738585072014e-308", "0.30000000000000004", "[0,-0,0.0,0e0]", "[1e1,1E1]", "3.14159265358979323846264338327950288"),
    *invalid("6", "+1", "-", "+", "--1", "-+1", "+-1", "01", "-01", "00", "-00", "007", "1.", "-1.", ".1", "-.1", ".", "-.", "1..2", "1.2.3", "1.e1", ".e1",
             "1e", "1E", "1e+", "1e-", "1e1.5", "1e.5", "1ee1", "1e1e1", "1e++1", "1e+-1", "1e 1", "1 e1", "1. 5", "1 .5", "- 1", "0x1", "0X1F", "-0x1",
             "0b1", "0o7", "1h", "1L", "1f", "1.5f", "1_000", "1,000", "1'000", "$1", "1%", "１", "٣", "²", "½", "−1", "∞", "1\u00a02", "0.", "0.e1", "0e",
             "0e+", "-e1", "e1", "E1", "-e", "1e\u0661", "01.5", "00.5", "-00.5", "01e1", "1+1", "1-1", "1*1", "1/2", "0.1.2", "1\\u0030", "[1.]", "[.1]",
             "[01]", "[-01]", "[+1]", "[1e]", "[1.e1]", "[0x1]", "[-]", "[--1]", "[1 .0]", "[1+2]", "[2.e+3]", "[0.3e+]", "[9.e+]", "[1eE2]", "[-1.0.]", "[0E]",
             "[0E+]", "[1.0e-]", "[-2.]", "[1a]", "[1.2a-3]", "[1.8011670033376514H-308]", "[123\0]", "[0e]", "1 000.0", "-foo", "-1x", "[1e1\u00e5]"),
    # 7: strings
    *valid("7", '" "', '"\\""', '"\\\\"', '"\\/"', '"/"', '"\\b\\f\\n\\r\\t"', '"\\u0000"', '"\\u0041"', '"\\u00e4"', '"\\u00E4"', '"\\uFFFF"', '"\\uabcd"',
           '"\\uABCD"', '"\\u0022"', '"\\u005C"', '"\\u2028"', '"\\ud83d\\ude00"', '"\\uD83D\\uDE00"', '"\\uD834\\udd1e"', '"\\udbff\\udfff"',
           '"\\ud800\\udc00"', '"a\\\\u0041"', '"\\\\\\""', '"\\\\a"', '"\\\\\\\\"', '"\\uD7FF"', '"\\uE000"', '"\\uFDD0"', '"ä"', '"€"', '"😀"',
           ("DEL, raw", '"\x7f"'), ("U+0080, raw", '"\u0080"'), ("U+2028, raw", '"\u2028"'), ("U+FEFF, raw", '"\ufeff"'), ("U+FFFF, raw", '"\uffff"'),
           ("U+10FFFF, raw", '"\U0010ffff"'), ("U+0800, raw", '"\u0800"'), ("U+D7FF, raw", '"\ud7ff"'), ("U+E000, raw", '"\ue000"'),
           '"[1,2]"', '"{\\"a\\":1}"', '"//"', '"/* */"', "\"'\"", '"#"', '"null"', '"\\u000A"', '"\\u001f"', ("1 MiB", '"' + "s" * LONG + '"'),
           ("1 MiB of escapes", '"' + "\\u00e4" * (LONG // 6) + '"'), ("100,000 backslashes", '"' + "\\\\" * 100000 + '"'),
           *[(f"{n} bytes before an escape", '"' + "x" * n + '\\n"') for n in (30, 31, 32, 33, 61, 62, 63, 64, 65, 127, 128)]),
    *invalid("7", '"', '"a', '"\\', '"\\"', '"\\\\\\"', '"a\\', "'a'", "a", '"a\'', "`a`", '"\\a"', '"\\v"', '"\\0"', '"\\x41"', '"\\\'"', '"\\U0041"', '"\\ "',
             '"\\\n"', '"\\u"', '"\\u0"', '"\\u00"', '"\\u004"', '"\\u004g"', '"\\uzzzz"', '"\\u 041"', '"\\u-041"', '"\\u+041"', '"\\u{41}"', '"\\u００41"',
             '"\\ud83d\\ude0"', '"\\ud83d\\u"', '"\\ud83d\\', '"\\ud800\\u1"', '"\\ud800\\u1x"', '"\\uD800\\"', '"\\ä"', '"\\😀"', '"\\e"', '"\\1"', '"\\07"', '"\\N"',
             '"a"b"', '"a" b', 'a"b"', '["a]', '["\\"]', '["\\u00A"]', '["\\u"]', '"x', '"\\u0041', "“a”", '"\\u"0041', "\\u0041", '\\"a"', '"a\\"',
             *[(f"control byte {byte:02x}, raw", b'"a' + bytes([byte]) + b'b"') for byte in range(32)],
             *[(f"control byte {byte:02x}, escaped by a backslash", b'"\\' + bytes([byte]) + b'"') for byte in (0, 9, 10, 13, 31)],
             *[(f"control byte behind {n} bytes", b'"' + b"x" * n + b'\x01"') for n in (30, 31, 32, 33, 62, 63, 64, 65, 127)]),
    # 8.1: UTF-8 (RFC 3629)
    *[Case("8.1", f"{place}: {name}", before + bad + after, False)
      for name, bad in (("80", b"\x80"), ("BF", b"\xbf"), ("C0 AF", b"\xc0\xaf"), ("C1 BF", b"\xc1\xbf"), ("E0 80 AF", b"\xe0\x80\xaf"),
                        ("E0 9F BF", b"\xe0\x9f\xbf"), ("F0 80 80 AF", b"\xf0\x80\x80\xaf"), ("F0 8F BF BF", b"\xf0\x8f\xbf\xbf"),
                        ("ED A0 80", b"\xed\xa0\x80"), ("ED BF BF", b"\xed\xbf\xbf"), ("ED A0 BD ED B8 80", b"\xed\xa0\xbd\xed\xb8\x80"),
                        ("F4 90 80 80", b"\xf4\x90\x80\x80"), ("F5 80 80 80", b"\xf5\x80\x80\x80"), ("F8 88 80 80 80", b"\xf8\x88\x80\x80\x80"),
                        ("FC 84 80 80 80 80", b"\xfc\x84\x80\x80\x80\x80"), ("FE", b"\xfe"), ("FF", b"\xff"), ("C3 cut off", b"\xc3"),
                        ("E2 82 cut off", b"\xe2\x82"), ("F0 9F 98 cut off", b"\xf0\x9f\x98"), ("C3 28", b"\xc3\x28"), ("Latin-1 ä", b"\xe4"),
                        ("one byte too many", b"\xc3\xa4\xa4"))
      for place, before, after in (("in a string", b'["a', b'b"]'), ("in a name", b'{"a', b'":1}'), ("outside", b"[", b"]"),
                                   ("at the end of a long string", b'"' + b"x" * 61, b'"'))],
    *invalid("8.1", ("UTF-16 little endian", '["a"]'.encode("utf-16-le")), ("UTF-16 big endian", '["a"]'.encode("utf-16-be")),
             ("UTF-16 with its mark", '["a"]'.encode("utf-16")), ("UTF-32", '["a"]'.encode("utf-32")), ("UTF-7", '["+AOQ-"'),
             ("byte order mark alone", b"\xef\xbb\xbf"), ("byte order mark behind", b"[]\xef\xbb\xbf"), ("half a byte order mark", b"\xef\xbb{}"),
             ("escape cut by the end of the file", b'"\\u00'), ("character cut by the end of the file", b'"\xc3')),
]

DECIDED = [
    # A mark is no white space of the grammar; RFC 8259 8.1 allows to pass over it, and we do not.
    Case("8.1", "byte order mark before a text", b"\xef\xbb\xbf[]", False),
    Case("8.1", "byte order mark before an object", b"\xef\xbb\xbf{}", False),
    # Numbers have no bound; what does not fit 64 bits is a number that is no integer.
    *[Case("6", f"number {name}", text.encode(), True) for name, text in (
        ("2^64", "18446744073709551616"), ("-2^63-1", "-9223372036854775809"), ("of 20 nines", "9" * 20), ("of 1000 digits", "1" * 1000),
        ("of 1000 digits, negative", "-" + "1" * 1000), ("1e309", "1e309"), ("-1e309", "-1e309"), ("1e400", "1e400"), ("1e-400", "1e-400"),
        ("1e9999999999", "1e9999999999"), ("1e-9999999999", "1e-9999999999"), ("0e9999999999", "0e9999999999"), ("0.4e00669999999999999999999",
        "0.4e00669999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999999969999999006"),
        ("of 400 places", "0." + "3" * 400), ("0.0…01", "0." + "0" * 400 + "1"), ("1.5e+9999", "1.5e+9999"),
        ("123123e100000", "123123e100000"), ("-123123123123123123123123123123", "-123123123123123123123123123123"),
        ("in an array", "[1e400,1,18446744073709551616]"), ("beside its look-alike in a string", '["1e400",1e400]'))],
    # Half a surrogate pair is grammatical and names no character: check-json says valid, the API takes texts only.
    *[Case("8.2", f"surrogate {text}", text.encode(), True, "json.malformed") for text in (
        '"\\ud800"', '"\\udbff"', '"\\udc00"', '"\\udfff"', '"\\uD83D"', '"\\ude00\\ud83d"', '"\\ud800\\ud800"', '"\\udc00\\udc00"', '"\\ud800a"',
        '"\\ud800\\n"', '"\\ud800\\u0041"', '"\\ud800\\ue000"', '"a\\udc00b"', '{"\\udfaa":0}', '["\\uDd1e\\uD834"]', '"\\ud83d\\ud83d\\ude00"')],
    # The grammar has no bound of depth, the API has 64.
    *[Case("9", f"arrays nested {depth} deep", b"[" * depth + b"]" * depth, True, "json.too_deep") for depth in (66, 500, 100000)],
    Case("9", "objects nested 500 deep", b'{"a":' * 500 + b"1" + b"}" * 500, True, "json.too_deep"),
    Case("9", "arrays nested 64 deep", b"[" * 64 + b"]" * 64, True),
    Case("9", "objects and arrays nested 62 deep", b'[{"a":' * 31 + b"1" + b"}]" * 31, True),
    Case("9", "arrays opened 100,000 times", b"[" * 100000, False, "json.malformed or json.too_deep"),
    Case("9", "objects opened 50,000 times", b'[{"":' * 50000, False, "json.malformed or json.too_deep"),
]

ALL = CASES + DECIDED


@pytest.mark.parametrize("case", **named(ALL))
def test_check_json_says_whether_a_file_is_rfc_8259(tmp_path, case):
    path = tmp_path / "text"
    path.write_bytes(case.text)
    done = subprocess.run([str(BINARY), "check-json", str(path)], capture_output=True, timeout=30, check=False)
    assert done.returncode == (0 if case.valid else 1), done.stderr
    assert bool(done.stderr) == (not case.valid), "what is not valid is said, what is valid needs no word"


# --- the same parser behind the API -----------------------------------------------------------------------------------

class Backend:
    """A tenant's key, and a connection on which texts are sent as bodies of POST /v1/acks, which reads an object."""

    def __init__(self, gateway):
        self.gateway = gateway
        with Peer(gateway) as peer:
            peer.send(self._post("/v1/admin/tenants", {"X-Master-Key": gateway.master_key}, b'{"name":"json"}'))
            self.key = json.loads(peer.answer().body)["api_key"]

    def codes(self, texts):
        """The code of each text's answer, in order; they are sent as one pipeline."""
        identity = {"X-API-Key": self.key, "X-User-Id": "reader"}
        with Peer(self.gateway) as peer:
            for at in range(0, len(texts), 200):  # as much as both sides' buffers hold, so that neither waits for ever
                group = texts[at:at + 200]
                peer.send(b"".join(self._post("/v1/acks", identity, text) for text in group))
                for _ in group:
                    answer = peer.answer()
                    assert answer.status == 400, answer
                    yield json.loads(answer.body)["code"]

    @staticmethod
    def _post(path, fields, body):
        lines = [f"POST {path} HTTP/1.1", "Host: a", *(f"{name}: {text}" for name, text in fields.items()),
                 f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode() + body


@pytest.fixture(scope="module")
def backend(running):
    return Backend(running)


def expected_codes(case):
    if case.code:
        return case.code.split(" or ")
    if not case.valid:
        return ["json.malformed"]
    return ["field.missing"] if case.text.strip().startswith(b"{") else ["json.not_object"]


@pytest.mark.parametrize("case", **named([case for case in ALL if len(case.text) < 1 << 20]))
def test_body_is_judged_alike(gateway, backend, case):
    [code] = backend.codes([case.text])
    assert code in expected_codes(case)


def reference(text):
    """Python's verdict, which knows NaN beside the grammar."""
    def refuse(name):
        raise ValueError(name)
    try:
        json.loads(text, parse_constant=refuse)
        return True
    except ValueError:
        return False


def all_texts(tokens, longest):
    return ["".join(parts) for count in range(1, longest + 1) for parts in itertools.product(tokens, repeat=count)]


@pytest.mark.parametrize("name, texts, at_least", [
    ("structure", all_texts(["[", "]", "{", "}", ",", ":", '"a"', "0", "true", " "], 4), 20),
    ("numbers", all_texts(["0", "1", "-", "+", ".", "e"], 5), 20),
    ("strings", ['"' + text + '"' for text in all_texts(["\\", '"', "u", "0", "00", "n", "/", "d8", "dc"], 4)], 20),
])
def test_every_text_of_a_few_tokens_is_judged_as_by_another_parser(gateway, backend, name, texts, at_least):
    """Each as the value of a member, so that a valid text is an object whatever it is by itself."""
    bodies = ['{"x":' + text + "}" for text in texts]
    half_pairs = [text for text in bodies if "\\ud8" in text or "\\udc" in text]  # decided otherwise: see DECIDED
    bodies = sorted(set(bodies) - set(half_pairs))
    verdicts = [code != "json.malformed" for code in backend.codes([body.encode() for body in bodies])]
    wanted = [reference(body) for body in bodies]
    assert [body for body, verdict, want in zip(bodies, verdicts, wanted) if verdict != want] == []
    assert sum(wanted) >= at_least, "a table without valid texts shows nothing"
