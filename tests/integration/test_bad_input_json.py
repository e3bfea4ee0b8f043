"""What is no proper JSON, or no proper value, is refused with a stable code and the field's name, over REST and WebSocket
alike; the connection stays and nothing is kept."""

import json
from urllib.parse import quote

import pytest

from client import Operator, new_tenant
from recorder import limit
from wire import HttpWire, request_bytes

DEEPEST = 64  # levels of nesting, docs/PROTOCOL.md "Limits"


async def signed_in(gateway):
    alice = (await new_tenant(gateway)).user("alice")
    return alice, await alice.new_room("group")


# --- texts that are no JSON objects -------------------------------------------------------------------------------

MESSAGE = '{"content":"x","meta":%s}'
MALFORMED = {
    "empty": "", "only space": "  \r\n\t ", "cut off": '{"content":"x"', "cut off in a string": '{"content":"x',
    "two objects": '{"content":"x"}{"content":"y"}', "text behind": '{"content":"x"} x', "NUL behind": '{"content":"x"}\x00',
    "trailing comma": '{"content":"x",}', "trailing comma in a list": MESSAGE % "[1,]", "leading comma": '{,"content":"x"}',
    "no colon": '{"content" "x"}', "name without quotes": '{content:"x"}', "single quotes": "{'content':'x'}",
    "comment": '{"content":"x"/**/}', "NaN": MESSAGE % "NaN", "Infinity": MESSAGE % "-Infinity", "hexadecimal": MESSAGE % "0x1",
    "octal": MESSAGE % "010", "plus": MESSAGE % "+1", "point in front": MESSAGE % ".5", "point behind": MESSAGE % "5.",
    "exponent of nothing": MESSAGE % "1e", "minus of nothing": MESSAGE % "-", "True": MESSAGE % "True",
    "nul": MESSAGE % "nul", "line feed in a string": '{"content":"a\nb"}', "NUL in a string": '{"content":"a\x00b"}',
    "unknown escape": '{"content":"\\x41"}', "short escape": '{"content":"\\u12"}', "lone high surrogate": '{"content":"\\ud800"}',
    "lone low surrogate": '{"content":"\\udc00"}', "surrogates the wrong way round": '{"content":"\\udc00\\ud800"}',
    "byte order mark": '\ufeff{"content":"x"}', "UTF-16": '{"content":"x"}'.encode("utf-16-le"),
    "bytes that are no UTF-8": b'{"content":"\xff"}', "overlong UTF-8": b'{"content":"\xc0\xaf"}',
    "surrogate in UTF-8": b'{"content":"\xed\xa0\x80"}', "form": "content=x", "XML": "<content>x</content>",
}
NOT_OBJECTS = {"list": '["content"]', "string": '"content"', "number": "1", "true": "true", "null": "null"}


@pytest.mark.parametrize("name", [*MALFORMED, *NOT_OBJECTS])
async def test_body_that_is_no_object_is_refused_and_the_connection_stays(gateway, name):
    alice, room_id = await signed_in(gateway)
    body = MALFORMED.get(name, NOT_OBJECTS.get(name))
    body = body.encode() if isinstance(body, str) else body
    wire = await HttpWire.open(gateway)
    for path in (f"/v1/rooms/{room_id}/messages", "/v1/rooms", "/v1/acks"):
        await wire.send(request_bytes("POST", path, {**alice.headers, "Content-Length": str(len(body))}, body))
        answer = await wire.answer()
        assert answer.status == 400, answer
        assert json.loads(answer.body)["code"] == ("json.malformed" if name in MALFORMED else "json.not_object"), answer
    assert await alice.events(room_id) == []
    assert len((await alice.get("/rooms")).ok()["items"]) == 1


@pytest.mark.parametrize("name", [name for name in MALFORMED if isinstance(MALFORMED[name], str) and name != "NUL behind"]
                         + list(NOT_OBJECTS))
async def test_frame_that_is_no_object_is_refused_and_the_socket_stays(gateway, name):
    alice, room_id = await signed_in(gateway)
    socket = await alice.connect()
    await socket.send_text(MALFORMED.get(name, NOT_OBJECTS.get(name)))
    await socket.expect("error", code="json.malformed" if name in MALFORMED else "json.not_object")
    assert (await socket.request("ping"))["type"] == "pong"


async def test_nesting_is_bounded(gateway):
    alice, room_id = await signed_in(gateway)
    socket = await alice.connect()
    for levels, code in ((DEEPEST - 1, None), (DEEPEST, "json.too_deep"), (100_000, "json.too_deep")):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            meta = opening * levels + "1" + closing * levels
            body = '{"content":"x","meta":%s}' % meta
            answer = await alice.call("POST", f"/rooms/{room_id}/messages", raw=body)
            if code is None:
                seq = answer.ok(201)["seq"]
                assert f'"meta":{meta}' in (await alice.get(f"/rooms/{room_id}/messages/{seq}")).text
            elif len(body) < limit("WS_MESSAGE_BYTES_MAX"):
                answer.problem(400, code=code)
                await socket.send_text('{"type":"send_message","room_id":"%s","content":"x","meta":%s}' % (room_id, meta))
                await socket.expect("error", code=code)
            else:
                answer.problem(400, code=code)


async def test_first_of_duplicate_members_is_the_one_that_counts(gateway):
    """RFC 8259 leaves it open; what matters is that all that reads a request agrees, so nothing slips past a check."""
    alice, room_id = await signed_in(gateway)
    sent = (await alice.call("POST", f"/rooms/{room_id}/messages",
                             raw='{"content":"first","content":"second","meta":1,"meta":2}')).ok(201)
    message = (await alice.get(f"/rooms/{room_id}/messages/{sent['seq']}")).ok()
    assert (message["content"], message["meta"]) == ("first", 1)
    socket = await alice.connect()
    await socket.send_text('{"type":"ping","type":"send_message","id":1,"id":2}')
    await socket.expect("pong", re=1)


@pytest.mark.parametrize("escape, text", [("\\u0041", "A"), ("\\ud83d\\ude00", "😀"), ("\\u0000", "\x00"), ("\\/", "/"),
                                          ("\\b\\f\\n\\r\\t", "\b\f\n\r\t")])
async def test_escapes_mean_their_characters(gateway, escape, text):
    alice, room_id = await signed_in(gateway)
    await alice.call("POST", f"/rooms/{room_id}/messages", raw='{"content":"a%sb"}' % escape)
    assert (await alice.messages(room_id))[0]["content"] == f"a{text}b"


# --- numbers ------------------------------------------------------------------------------------------------------

NO_SEQ = ["-1", "-0.5", "0.5", "1.0", "1e0", "1E2", "18446744073709551616", "1e400", "1e-400", '"1"', "true", "[1]", "{}"]


@pytest.mark.parametrize("text", NO_SEQ)
async def test_number_that_is_no_seq_is_refused(gateway, text):
    alice, room_id = await signed_in(gateway)
    await alice.send(room_id, "x")
    socket = await alice.connect()
    for path in ("/acks", "/reads"):
        problem = (await alice.call("POST", path, raw='{"room_id":"%s","seq":%s}' % (room_id, text))).problem(400)
        assert (problem["code"], problem["field"]) == ("field.invalid", "seq")
    for frame, field in (('{"type":"ack","room_id":"%s","seq":%s}', "seq"), ('{"type":"read","room_id":"%s","seq":%s}', "seq"),
                         ('{"type":"subscribe","room_id":"%s","after_seq":%s}', "after_seq"),
                         ('{"type":"history","room_id":"%s","after_seq":%s}', "after_seq"),
                         ('{"type":"history","room_id":"%s","before_seq":%s}', "before_seq"),
                         ('{"type":"history","room_id":"%s","limit":%s}', "limit")):
        await socket.send_text(frame % (room_id, text))
        await socket.expect("error", code="field.invalid", field=field)


@pytest.mark.parametrize("seq", [2, 1 << 53, (1 << 53) + 1, (1 << 63), (1 << 64) - 1])
async def test_seq_beyond_the_head_is_no_place_to_be(gateway, seq):
    alice, room_id = await signed_in(gateway)
    await alice.send(room_id, "x")
    (await alice.post("/acks", {"room_id": room_id, "seq": seq})).problem(409, code="ack.beyond_head")
    (await alice.get(f"/rooms/{room_id}/messages/{seq}")).problem(404, code="message.not_found")
    (await alice.post(f"/rooms/{room_id}/messages", {"content": "x", "reply_to": seq})).problem(
        400, code="message.reply_not_found")
    assert (await alice.get(f"/rooms/{room_id}/messages", after_seq=seq)).ok()["items"] == []
    assert len((await alice.get(f"/rooms/{room_id}/messages", before_seq=seq)).ok()["items"]) == 1
    room, = (await alice.post("/sync", {"rooms": {room_id: [1, seq]}})).ok()["rooms"]
    assert (room["recovered"], room["head"]) == (False, 1)
    socket = await alice.connect(resume={room_id: [1, seq]})
    assert (await socket.expect("resumed", room_id=room_id))["recovered"] is False


@pytest.mark.parametrize("epoch", [0, 2, 1 << 53, (1 << 64) - 1])
async def test_epoch_of_another_store_is_not_trusted(gateway, epoch):
    alice, room_id = await signed_in(gateway)
    await alice.send(room_id, "x")
    socket = await alice.connect(resume={room_id: [epoch, 1]})
    resumed = await socket.expect("resumed", room_id=room_id)
    assert (resumed["recovered"], resumed["from"]) == (False, 1)


@pytest.mark.parametrize("text", ["", "-1", "0.5", "1e2", "0x1", "18446744073709551616", "1 ", "%2B1", "٣"])
async def test_query_that_is_no_number_is_refused(gateway, text):
    alice, room_id = await signed_in(gateway)
    for name in ("after_seq", "before_seq", "limit"):
        answer = await alice.call("GET", f"/rooms/{room_id}/messages?{name}={text}")
        assert answer.problem(400)["field"] == name
    (await alice.call("GET", f"/rooms?limit={text}")).problem(400, code="field.invalid")


# --- fields -------------------------------------------------------------------------------------------------------

BAD_MESSAGES = {
    '{}': ("field.missing", "content"), '{"content":null}': ("field.missing", "content"),
    '{"content":""}': ("field.invalid", "content"), '{"content":7}': ("field.invalid", "content"),
    '{"content":["x"]}': ("field.invalid", "content"), '{"content":true}': ("field.invalid", "content"),
    '{"content":"x","message_type":7}': ("field.invalid", "message_type"),
    '{"content":"x","client_id":7}': ("field.invalid", "client_id"),
    '{"content":"x","client_id":{}}': ("field.invalid", "client_id"),
    '{"content":"x","reply_to":-1}': ("field.invalid", "reply_to"),
    '{"content":"x","reply_to":1.5}': ("field.invalid", "reply_to"),
    '{"content":"x","reply_to":[]}': ("field.invalid", "reply_to"),
    '{"content":"x","reply_to":"m_x"}': ("message.reply_not_found", "reply_to"),
}


@pytest.mark.parametrize("body", BAD_MESSAGES)
async def test_message_with_a_wrong_field_is_refused_alike_on_both_ways(gateway, body):
    alice, room_id = await signed_in(gateway)
    code, field = BAD_MESSAGES[body]
    problem = (await alice.call("POST", f"/rooms/{room_id}/messages", raw=body)).problem(400)
    assert (problem["code"], problem.get("field")) == (code, field)
    socket = await alice.connect()
    error = await socket.refused("send_message", room_id=room_id, **json.loads(body))
    assert (error["code"], error.get("field")) == (code, field)
    assert await alice.events(room_id) == []


@pytest.mark.parametrize("room_id", ["", "x", "r_", "r_0000000000000", "r_" + "z" * 13, "R_7HQF6WP2Z85NH", "r_7hqf6wp2z85nh7",
                                     "m_7hqf6wp2z85nh_1", "t_9wdvsq7gqt1dc", "r_7hqf6wp2z85n\x00", "../r_7hqf6wp2z85nh",
                                     "r" * 5000], ids=lambda text: repr(text)[:25])
async def test_id_that_names_no_room_is_not_found(gateway, room_id):
    alice, mine = await signed_in(gateway)
    for path in (f"/rooms/{quote(room_id, safe='')}", f"/rooms/{quote(room_id, safe='')}/messages"):
        answer = await alice.call("GET", path)
        if room_id:
            answer.problem(404)
    code = {"": "field.invalid"}.get(room_id, "field.too_long" if len(room_id) > 256 else "room.not_found")
    (await alice.post("/acks", {"room_id": room_id, "seq": 1})).problem(400, 404, code=code)
    socket = await alice.connect()
    await socket.refused("subscribe", code, room_id=room_id)
    await socket.refused("history", code, room_id=room_id)
    assert (await alice.get(f"/rooms/{mine}")).status == 200


@pytest.mark.parametrize("value", [7, True, [], {}, None], ids=repr)
async def test_id_of_another_type_is_refused(gateway, value):
    alice, _ = await signed_in(gateway)
    code = "field.missing" if value is None else "field.invalid"
    (await alice.post("/acks", {"room_id": value, "seq": 1})).problem(400, code=code)
    socket = await alice.connect()
    for frame_type in ("send_message", "ack", "read", "subscribe", "unsubscribe", "history"):
        error = await socket.refused(frame_type, code, room_id=value, seq=1, content="x")
        assert error["field"] == "room_id"


@pytest.mark.parametrize("member", ["", "x" * 129, "a\nb", "a\x00b", "a\x7fb", 7, None, ["bob"]],
                         ids=lambda value: repr(value)[:20])
async def test_member_that_is_no_user_id_is_refused(gateway, member):
    alice, room_id = await signed_in(gateway)
    for path in ("/rooms", f"/rooms/{room_id}/members"):
        problem = (await alice.post(path, {"type": "group", "members": ["good", member]})).problem(400, code="field.invalid")
        assert problem["field"] == "members"
    (await alice.get("/users/good")).problem(404, code="user.not_found")


@pytest.mark.parametrize("frame, code", [
    ("{}", "type.missing"), ('{"type":null}', "type.missing"), ('{"type":7}', "type.missing"), ('{"type":""}', "type.missing"),
    ('{"type":"%s"}' % ("x" * 100), "type.missing"), ('{"type":"nonsense"}', "type.unknown"), ('{"type":"PING"}', "type.unknown"),
    ('{"type":"ping\\u0000"}', "type.unknown"), ('{"type":"ping","id":1.5}', "id.invalid"),
    ('{"type":"ping","id":1e3}', "id.invalid"), ('{"type":"ping","id":true}', "id.invalid"),
    ('{"type":"ping","id":"%s"}' % ("x" * 65), "id.invalid"), ('{"type":"ping","id":123456789012345678901}', "id.invalid"),
], ids=lambda value: str(value)[:30])
async def test_request_without_a_proper_type_or_id_is_refused(gateway, frame, code):
    alice, _ = await signed_in(gateway)
    socket = await alice.connect()
    await socket.send_text(frame)
    await socket.expect("error", code=code)
    assert (await socket.request("ping"))["type"] == "pong"


# --- the operator's -----------------------------------------------------------------------------------------------


async def test_tenant_keeps_its_name_when_the_new_one_is_none(gateway):
    operator = Operator(gateway)
    tenant = await operator.new_tenant("kept")
    path = f"/tenants/{tenant.tenant_id}"
    for body, field in (({"name": ""}, "name"), ({"name": 7}, "name"), ({"state": "gone"}, "state"),
                        ({"durability": "none"}, "durability"), ({"config": []}, "config"), ({"config": "{}"}, "config")):
        problem = (await operator.call("PATCH", path, body)).problem(400, code="field.invalid")
        assert problem["field"] == field
    (await operator.call("PATCH", path, {"config": {"x": "y" * limit("SETTINGS_BYTES_MAX")}})).problem(
        400, code="field.too_long")
    assert (await operator.call("GET", path)).ok()["name"] == "kept"
    for tenant_id in ("x", "t_", "t_0000000000000", "t_" + "9" * 13, "r_7hqf6wp2z85nh"):
        (await operator.call("GET", f"/tenants/{tenant_id}")).problem(404, code="tenant.not_found")
    for key in ("x", "0" * 12, "%00"):
        (await operator.call("DELETE", f"{path}/keys/{key}")).problem(404)


async def test_list_of_too_many_is_refused(gateway):
    alice, room_id = await signed_in(gateway)
    names = [f"u{number}" for number in range(limit("MEMBERS_PER_REQUEST_MAX") + 1)]
    for path in ("/rooms", f"/rooms/{room_id}/members"):
        problem = (await alice.post(path, {"type": "group", "members": names})).problem(400, code="field.too_many")
        assert problem["field"] == "members"


async def test_role_is_changed_and_told(gateway):
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    room_id = await alice.new_room("group", bob)
    socket = await bob.connect()
    path = f"/rooms/{room_id}/members/bob"
    for body, code in (({}, "field.missing"), ({"role": "owner"}, "field.invalid"), ({"role": 7}, "field.invalid")):
        (await alice.call("PATCH", path, body)).problem(400, code=code)
    assert (await alice.call("PATCH", path, {"role": "admin"})).ok() == {"success": True, "changed": 1, "seq": 1}
    await socket.expect("room.updated", room_id=room_id, seq=1, user_id="bob", role="admin", actor_id="alice")
