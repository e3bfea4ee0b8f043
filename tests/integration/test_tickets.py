"""Tickets: how a browser, which cannot set headers on a WebSocket, comes in; and pages of other origins."""

import asyncio
import json
from urllib.parse import quote

import pytest
import websockets

from client import SUBPROTOCOL, Operator, call, new_tenant, open_socket
from wire import FrameWire

INVALID = (401, "auth.invalid_ticket")


async def new_ticket(user):
    made = (await user.post("/auth/tickets")).ok(201)
    assert set(made) >= {"ticket", "expires_at"}
    return made["ticket"]


async def open_with(gateway, ticket, **options):
    """A socket past its hello, opened with nothing but the ticket."""
    socket = await open_socket(gateway, None, [SUBPROTOCOL], path=f"/ws?ticket={ticket}", **options)
    socket.welcome = await socket.hello()
    return socket


async def refusal(gateway, ticket, **headers):
    """The status and the code with which the handshake is refused."""
    wire = await FrameWire.open(gateway)
    answer = await wire.upgrade(headers, SUBPROTOCOL, path=f"/ws?ticket={ticket}")
    assert answer.headers["content-type"] == "application/problem+json", answer
    return answer.status, json.loads(answer.body)["code"]


async def test_a_ticket_opens_a_socket_of_its_user_without_headers(gateway):
    tenant = await new_tenant(gateway)
    alice, bob = tenant.users("alice", "bob")
    room = await alice.new_room("group", alice, bob)
    socket = await open_with(gateway, await new_ticket(bob))
    assert socket.welcome["user_id"] == "bob"
    sent = await alice.send(room, "to a browser")
    assert (await socket.expect("message", room_id=room))["seq"] == sent["seq"]
    await socket.message(room, "from a browser")


async def test_a_ticket_opens_one_socket_on_whatever_core_it_is_used(gateway_of_each_size):
    gateway = gateway_of_each_size
    tenant = await new_tenant(gateway)

    async def attempt(ticket):
        try:
            return await open_socket(gateway, None, [SUBPROTOCOL], path=f"/ws?ticket={ticket}")
        except websockets.InvalidStatusCode as refused:
            assert refused.status_code == 401
            return None

    for user in tenant.users("alice", "bob", "carol", "dave"):
        ticket = await new_ticket(user)
        opened = [socket for socket in await asyncio.gather(*(attempt(ticket) for _ in range(12))) if socket]
        assert len(opened) == 1
        assert (await opened[0].hello())["user_id"] == user.user_id


async def test_what_was_tampered_with_is_refused(gateway):
    tenant = await new_tenant(gateway)
    ticket = await new_ticket(tenant.user("alice"))
    for at in (*range(0, len(ticket), 7), len(ticket) - 1):
        wrong = ticket[:at] + ("A" if ticket[at] != "A" else "B") + ticket[at + 1:]
        assert await refusal(gateway, wrong) == INVALID
    assert await refusal(gateway, "") == INVALID
    await open_with(gateway, ticket)


async def test_a_ticket_and_its_socket_end_with_the_key(gateway):
    tenant, operator = await new_tenant(gateway), Operator(gateway)
    key = await operator.new_key(tenant, "read")
    alice = tenant.user("alice", api_key=key["api_key"])
    unused, socket = await new_ticket(alice), await open_with(gateway, await new_ticket(alice))
    (await operator.call("DELETE", f"/tenants/{tenant.tenant_id}/keys/{key['key_id']}")).succeeded()
    assert await socket.closed() == 4004
    assert await refusal(gateway, unused) == (401, "auth.invalid_key")


async def test_a_ticket_of_a_read_key_only_reads(gateway):
    tenant = await new_tenant(gateway)
    alice = tenant.user("alice")
    room = await alice.new_room("group", alice)
    key = await Operator(gateway).new_key(tenant, "read")
    socket = await open_with(gateway, await new_ticket(tenant.user("alice", api_key=key["api_key"])))
    await socket.refused("send_message", "auth.forbidden", room_id=room, content="x")


async def test_a_ticket_of_a_disabled_tenant_is_refused(gateway):
    tenant, operator = await new_tenant(gateway), Operator(gateway)
    ticket = await new_ticket(tenant.user("alice"))
    (await operator.call("PATCH", f"/tenants/{tenant.tenant_id}", {"state": "disabled"})).ok()
    assert await refusal(gateway, ticket) == (403, "tenant.disabled")


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_ends_used_and_unused_tickets(make_gateway, how):
    gateway = make_gateway()
    tenant = await new_tenant(gateway)
    used, unused = await new_ticket(tenant.user("alice")), await new_ticket(tenant.user("alice"))
    await open_with(gateway, used)
    gateway.restart(how)
    assert await refusal(gateway, used) == INVALID
    assert await refusal(gateway, unused) == INVALID
    await open_with(gateway, await new_ticket(tenant.user("alice")))


async def test_a_ticket_needs_a_key_and_a_user(gateway):
    tenant = await new_tenant(gateway)
    (await call(gateway, "POST", "/v1/auth/tickets")).problem(401, code="auth.missing")
    (await call(gateway, "POST", "/v1/auth/tickets", {"X-API-Key": tenant.api_key})).problem(400)


async def test_a_handshake_that_is_refused_leaves_the_ticket_good(gateway):
    ticket = await new_ticket((await new_tenant(gateway)).user("alice"))
    faulty = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "12",
              "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert (await call(gateway, "GET", f"/v1/ws?ticket={ticket}", faulty)).status == 426
    too_long = {**faulty, "Sec-WebSocket-Version": "13"}
    assert (await call(gateway, "GET", f"/v1/ws?ticket={ticket}&device={'x' * 65}", too_long)).status == 400
    # beside a ticket no header of a member is looked at, however faulty
    headers = {"X-Device-Id": "x" * 65, "X-API-Key": "nobody's"}
    socket = await open_socket(gateway, headers, [SUBPROTOCOL], path=f"/ws?ticket={ticket}")
    assert (await socket.hello())["user_id"] == "alice"


async def test_a_ticket_carries_any_user_id_and_stays_out_of_the_log(make_gateway):
    gateway = make_gateway(log__level="debug")
    tenant = await new_tenant(gateway)
    for user_id in ("x", "a b&c=d", "u" * 128):
        ticket = await new_ticket(tenant.user(user_id))
        assert quote(ticket, safe="") == ticket
        assert (await open_with(gateway, ticket)).welcome["user_id"] == user_id
        assert await refusal(gateway, ticket) == INVALID
        assert ticket not in gateway.log_text()


async def test_a_page_of_another_origin_needs_to_be_listed(make_gateway):
    gateway = make_gateway(cors__origins="https://app.example")
    alice = (await new_tenant(gateway)).user("alice")
    ticket = await new_ticket(alice)
    assert await refusal(gateway, ticket, Origin="https://evil.example") == (403, "auth.origin_forbidden")
    await open_with(gateway, ticket, origin=f"http://{gateway.host}:{gateway.port}")
    await open_with(gateway, await new_ticket(alice), origin="https://app.example")

    answer = await alice.call("GET", "/users/me", headers={"Origin": "https://app.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert answer.headers["Vary"] == "Origin"
    answer = await alice.call("GET", "/users/me", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers
    preflight = await call(gateway, "OPTIONS", "/v1/auth/tickets",
                           {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"})
    assert preflight.status == 204 and "POST" in preflight.headers["Access-Control-Allow-Methods"]
