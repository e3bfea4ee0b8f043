"""Users who come into being by being named."""

from urllib.parse import quote

from client import new_tenant


async def test_user_named_by_header_exists_from_then_on(gateway):
    tenant = await new_tenant(gateway)
    alice, bob = tenant.users("alice", "bob")
    (await alice.get("/users/bob")).problem(404)
    assert (await bob.get("/users/me")).ok()["user_id"] == "bob"
    assert (await alice.get("/users/bob")).ok()["user_id"] == "bob"


async def test_user_named_as_member_exists(gateway):
    tenant = await new_tenant(gateway)
    alice, bob = tenant.users("alice", "bob")
    await alice.new_room("group", bob)
    assert (await alice.get("/users/bob")).ok()["user_id"] == "bob"


async def test_user_ids_are_the_callers_own_text(gateway):
    tenant = await new_tenant(gateway)
    for user_id in ("42", "alice@example.org", "a/b", "a b", "100%", "A.B-C_D~E", "user:1?x=y#z"):
        assert (await tenant.user(user_id).get("/users/me")).ok()["user_id"] == user_id
        path = f"/users/{quote(user_id, safe='')}"
        from_other = await tenant.user("reader").call("GET", path)
        assert from_other.ok()["user_id"] == user_id, path


async def test_user_ids_differ_by_case(gateway):
    tenant = await new_tenant(gateway)
    (await tenant.user("Alice").get("/users/me")).ok()
    (await tenant.user("reader").get("/users/alice")).problem(404)


async def test_same_user_id_in_two_tenants_is_two_users(gateway):
    one, other = await new_tenant(gateway), await new_tenant(gateway)
    room_id = await one.user("alice").new_room("group")
    assert (await other.user("alice").get("/rooms")).ok()["items"] == []
    assert [room["room_id"] for room in (await one.user("alice").get("/rooms")).ok()["items"]] == [room_id]


async def test_user_survives_a_kill(make_gateway):
    gateway = make_gateway()
    tenant = await new_tenant(gateway)
    (await tenant.user("alice").get("/users/me")).ok()
    gateway.restart("kill")
    assert (await tenant.user("bob").get("/users/alice")).ok()["user_id"] == "alice"
