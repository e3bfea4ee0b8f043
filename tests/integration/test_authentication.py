"""Who is let in: credentials on REST and on the WebSocket upgrade."""

import pytest

from client import SUBPROTOCOL, call, new_tenant
from wire import FrameWire


async def test_missing_key_is_unauthorized(gateway):
    for path in ("/v1/users/me", "/v1/rooms", "/v1/rooms/any"):
        (await call(gateway, "GET", path, {"X-User-Id": "alice"})).problem(401)
    (await call(gateway, "POST", "/v1/rooms", {"X-User-Id": "alice"}, {"type": "group"})).problem(401)


async def test_wrong_keys_are_unauthorized(gateway):
    tenant = await new_tenant(gateway)
    key = tenant.api_key
    (await tenant.user("alice").get("/users/me")).ok()
    last = "a" if key[-1] != "a" else "b"
    for wrong in ("x", "", key[:-1], key + "a", key[:-1] + last, key.swapcase(), "k" * 4000):
        (await tenant.user("alice", api_key=wrong or " ").get("/users/me")).problem(401)


async def test_missing_user_is_a_bad_request(gateway):
    tenant = await new_tenant(gateway)
    headers = {"X-API-Key": tenant.api_key}
    (await call(gateway, "GET", "/v1/users/me", headers)).problem(400)
    (await call(gateway, "GET", "/v1/users/me", {**headers, "X-User-Id": ""})).problem(400)
    (await call(gateway, "POST", "/v1/rooms", headers, {"type": "group", "name": "x"})).problem(400)


async def test_user_id_is_bounded_at_128_bytes(gateway):
    tenant = await new_tenant(gateway)
    assert (await tenant.user("u" * 128).get("/users/me")).ok()["user_id"] == "u" * 128
    (await tenant.user("u" * 129).get("/users/me")).problem(400)


async def test_master_key_does_not_act_as_a_user(gateway):
    headers = {"X-Master-Key": gateway.master_key, "X-User-Id": "alice"}
    (await call(gateway, "GET", "/v1/users/me", headers)).problem(401)


@pytest.mark.parametrize("subprotocol", [None, SUBPROTOCOL])
async def test_upgrade_with_a_wrong_key_is_unauthorized(gateway, subprotocol):
    wire = await FrameWire.open(gateway)
    answer = await wire.upgrade({"X-API-Key": "wrong", "X-User-Id": "alice"}, subprotocol)
    assert answer.status == 401, answer


async def test_upgrade_without_a_user_is_a_bad_request(gateway):
    tenant = await new_tenant(gateway)
    answer = await (await FrameWire.open(gateway)).upgrade({"X-API-Key": tenant.api_key}, SUBPROTOCOL)
    assert answer.status == 400, answer


async def test_socket_without_credentials_is_never_served(gateway):
    """Refused at the upgrade, or at a hello that brings no token."""
    wire = await FrameWire.open(gateway)
    answer = await wire.upgrade({}, SUBPROTOCOL)
    if answer.status == 101:
        await wire.send_frame(1, '{"type":"hello"}')
        assert await wire.close_frame() == 4001
    else:
        assert answer.status == 401, answer


async def test_errors_name_neither_key_nor_user(gateway):
    tenant = await new_tenant(gateway)
    wrong = tenant.api_key[:-3] + "zzz"
    answer = await tenant.user("unmistakable-name", api_key=wrong).get("/users/me")
    answer.problem(401)
    assert wrong not in answer.text and "unmistakable-name" not in answer.text
