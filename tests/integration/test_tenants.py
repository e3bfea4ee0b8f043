"""Tenants and their API keys, as the operator sees them."""

import time

import pytest

from client import Operator, Tenant, call, new_tenant
from shapes import assert_members, assert_time

REVOKED = 4004
REVOCATION_BOUND_S = 1.0


@pytest.fixture(params=["master key", "admin socket"])
def operator(request, gateway):
    return Operator(gateway, by_socket=request.param == "admin socket")


async def test_new_tenant_comes_with_a_working_server_key(gateway, operator):
    created = (await operator.call("POST", "/tenants", {"name": "Bells & Co"})).ok(201)
    assert_members(created, ("tenant_id", "name", "api_key", "created_at"))
    assert created["name"] == "Bells & Co"
    assert_time(created["created_at"])
    me = (await Tenant(gateway, created).user("alice").get("/users/me")).ok()
    assert me["user_id"] == "alice"


async def test_tenants_are_listed_without_their_keys(gateway, operator):
    tenants = [await operator.new_tenant() for _ in range(3)]
    listed = await operator.tenants(limit=7)
    ids = [item["tenant_id"] for item in listed]
    assert len(ids) == len(set(ids))
    assert {tenant.tenant_id for tenant in tenants} <= set(ids)
    for tenant in tenants:
        assert tenant.api_key not in str(listed)


async def test_one_tenant_can_be_read_and_renamed(operator):
    tenant = await operator.new_tenant("before")
    read = await operator.call("GET", f"/tenants/{tenant.tenant_id}")
    assert (read.ok()["tenant_id"], read.ok()["name"]) == (tenant.tenant_id, "before")
    assert tenant.api_key not in read.text
    assert (await operator.call("PATCH", f"/tenants/{tenant.tenant_id}", {"name": "after"})).ok()["name"] == "after"
    assert (await operator.call("GET", f"/tenants/{tenant.tenant_id}")).ok()["name"] == "after"


async def test_unknown_tenant_is_not_found(operator):
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        (await operator.call(method, "/tenants/no-such-tenant", body)).problem(404)
    (await operator.call("GET", "/tenants/no-such-tenant/keys")).problem(404)
    (await operator.call("POST", "/tenants/no-such-tenant/keys", {"role": "server"})).problem(404)


@pytest.mark.parametrize("body", ["{}", '{"name": 7}', '{"name": ""}', '{"name": "%s"}' % ("n" * 129), "[]", "{", ""],
                         ids=["no name", "a number", "empty", "too long", "no object", "malformed", "no body"])
async def test_tenant_without_a_proper_name_is_refused(operator, body):
    problem = (await operator.call("POST", "/tenants", raw=body)).problem(400)
    if body.startswith('{"name"'):
        assert problem["field"] == "name"


async def test_operator_routes_refuse_everyone_else(gateway):
    tenant = await new_tenant(gateway)
    path = f"/v1/admin/tenants/{tenant.tenant_id}"
    for headers, statuses in (({}, (401,)),
                              ({"X-Master-Key": "wrong"}, (401,)),
                              ({"X-Master-Key": ""}, (401,)),
                              ({"X-Master-Key": gateway.master_key + "0"}, (401,)),
                              ({"X-Master-Key": gateway.master_key[:-1]}, (401,)),
                              (tenant.user("alice").headers, (401, 403))):
        (await call(gateway, "GET", "/v1/admin/tenants", headers)).problem(*statuses)
        (await call(gateway, "POST", "/v1/admin/tenants", headers, {"name": "intruder"})).problem(*statuses)
        (await call(gateway, "DELETE", path, headers)).problem(*statuses)
    listed = await Operator(gateway).tenants()
    assert "intruder" not in [item["name"] for item in listed]
    assert tenant.tenant_id in [item["tenant_id"] for item in listed]


async def test_deleted_tenant_is_gone_with_its_keys_and_sockets(gateway, operator):
    tenant, other = await operator.new_tenant(), await operator.new_tenant()
    alice = tenant.user("alice")
    socket, bystander = await alice.connect(), await other.user("alice").connect()
    (await operator.call("DELETE", f"/tenants/{tenant.tenant_id}")).succeeded()
    assert await socket.closed(timeout_s=REVOCATION_BOUND_S) == REVOKED
    (await operator.call("GET", f"/tenants/{tenant.tenant_id}")).problem(404)
    (await alice.get("/users/me")).problem(401)
    assert (await bystander.request("ping"))["type"] == "pong"


# --- keys ---------------------------------------------------------------------------------------------------------


async def test_keys_are_listed_without_their_secret(operator):
    tenant = await operator.new_tenant()
    made = await operator.new_key(tenant, "read")
    assert_members(made, ("key_id", "api_key", "role"))
    assert made["role"] == "read"
    listed = await operator.call("GET", f"/tenants/{tenant.tenant_id}/keys")
    assert {item["role"] for item in listed.ok()["items"]} == {"server", "read"}
    assert made["key_id"] in [item["key_id"] for item in listed.ok()["items"]]
    assert made["api_key"] not in listed.text and tenant.api_key not in listed.text


@pytest.mark.parametrize("role", ["server", "admin"])
async def test_every_writing_key_acts_for_the_same_tenant(operator, role):
    tenant = await operator.new_tenant()
    by_new_key = tenant.user("alice", api_key=(await operator.new_key(tenant, role))["api_key"])
    room_id = await by_new_key.new_room("group")
    assert (await tenant.user("alice").get(f"/rooms/{room_id}")).ok()["room_id"] == room_id


async def test_read_key_reads_and_writes_nothing(operator):
    tenant = await operator.new_tenant()
    alice = tenant.user("alice")
    room_id = await alice.new_room("group")
    await alice.send(room_id, "readable")
    reader = tenant.user("alice", api_key=(await operator.new_key(tenant, "read"))["api_key"])
    assert [message["content"] for message in await reader.messages(room_id, after_seq=0)] == ["readable"]
    (await reader.post("/rooms", {"type": "group", "name": "no"})).problem(403)
    (await reader.post(f"/rooms/{room_id}/messages", {"content": "no"})).problem(403)
    socket = await reader.connect()
    await socket.refused("send_message", room_id=room_id, content="no")
    assert len(await alice.events(room_id)) == 1


async def test_key_of_unknown_role_is_refused(operator):
    tenant = await operator.new_tenant()
    (await operator.call("POST", f"/tenants/{tenant.tenant_id}/keys", {"role": "emperor"})).problem(400)


async def test_revoked_key_closes_its_sockets_within_a_second(gateway, operator):
    tenant = await operator.new_tenant()
    key = await operator.new_key(tenant, "server")
    users = [tenant.user(f"user-{number}", api_key=key["api_key"]) for number in range(8)]
    sockets = [await user.connect() for user in users[:4]] + [await user.connect_automatic() for user in users[4:]]
    bystander = await tenant.user("bystander").connect()
    started = time.monotonic()
    (await operator.call("DELETE", f"/tenants/{tenant.tenant_id}/keys/{key['key_id']}")).succeeded()
    for socket in sockets:
        assert await socket.closed() == REVOKED
    assert time.monotonic() - started < REVOCATION_BOUND_S
    (await users[0].get("/users/me")).problem(401)
    assert (await bystander.request("ping"))["type"] == "pong"


async def test_key_of_another_tenant_cannot_be_revoked_by_its_name(operator):
    tenant, other = await operator.new_tenant(), await operator.new_tenant()
    key = await operator.new_key(tenant, "server")
    (await operator.call("DELETE", f"/tenants/{other.tenant_id}/keys/{key['key_id']}")).problem(404)
    (await tenant.user("alice", api_key=key["api_key"]).get("/users/me")).ok()


async def test_revocation_survives_a_kill(make_gateway):
    gateway = make_gateway()
    operator = Operator(gateway)
    tenant = await operator.new_tenant("kept")
    key = await operator.new_key(tenant, "server")
    (await operator.call("DELETE", f"/tenants/{tenant.tenant_id}/keys/{key['key_id']}")).succeeded()
    gateway.restart("kill")
    (await tenant.user("alice", api_key=key["api_key"]).get("/users/me")).problem(401)
    (await tenant.user("alice").get("/users/me")).ok()
    assert (await operator.call("GET", f"/tenants/{tenant.tenant_id}")).ok()["name"] == "kept"


async def test_keys_are_listed_in_pages(operator):
    tenant = await operator.new_tenant()
    made = {(await operator.new_key(tenant, "read"))["key_id"] for _ in range(5)}
    seen, params = [], {"limit": "2"}
    while True:
        page = (await operator.call("GET", f"/tenants/{tenant.tenant_id}/keys", params=params)).ok()
        assert len(page["items"]) <= 2
        seen += [item["key_id"] for item in page["items"]]
        if page["next"] is None:
            break
        params["cursor"] = page["next"]
    assert len(seen) == len(set(seen)) == 6
    assert made < set(seen)
