"""The example configurations of tools/proxy work: Debian's nginx and HAProxy are started with them, ports and certificate
put in, and clients talk REST and WebSocket through TLS."""

import asyncio
import re
import shutil
import socket as sockets
import ssl
import subprocess
import time
from types import SimpleNamespace

import aiohttp
import pytest
import websockets

import tables
from client import SUBPROTOCOL, Event, current_resources, new_tenant
from gateway import REPOSITORY

PROXIES = REPOSITORY / "tools" / "proxy"
START_S = 15


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost: its file, its key's, and both in one."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "carillon.crt", folder / "carillon.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert], check=True, capture_output=True)
    (folder / "carillon.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    return folder


def free_port():
    with sockets.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def nginx(folder, certificate, port, upstream):
    text = (PROXIES / "nginx.conf").read_text()
    for old, new in (("server 127.0.0.1:8080;", f"server 127.0.0.1:{upstream};"), ("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;"),
                     ("/etc/ssl", str(certificate))):
        assert old in text
        text = text.replace(old, new)
    places = "".join(f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(f"pid {folder}/pid;\ndaemon off;\nerror_log stderr;\nworker_processes 1;\n"
                                       f"events {{}}\nhttp {{\naccess_log off;\n{places}{text}\n}}\n")
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def haproxy(folder, certificate, port, upstream):
    text = (PROXIES / "haproxy.cfg").read_text()
    for old, new in (("127.0.0.1:8080", f"127.0.0.1:{upstream}"), ("bind :443 ", f"bind 127.0.0.1:{port} "),
                     ("/etc/ssl", str(certificate)), ("maxconn 20000", "maxconn 200")):
        assert old in text
        text = text.replace(old, new)
    (folder / "haproxy.cfg").write_text(text)
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


@pytest.fixture(params=[nginx, haproxy], ids=["nginx", "haproxy"])
def make_proxy(request, certificate, tmp_path):
    """A function that starts the proxy in front of a port and says where it listens."""
    started = []

    def make(upstream):
        port = free_port()
        command = request.param(tmp_path, certificate, port, upstream)
        assert shutil.which(command[0]), f"{command[0]} is not installed: run tools/bootstrap"
        log = open(tmp_path / "log", "wb")
        started.append(subprocess.Popen(command, stdout=log, stderr=log))
        context = ssl.create_default_context(cafile=str(certificate / "carillon.crt"))
        deadline = time.monotonic() + START_S
        while True:
            assert started[-1].poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            try:
                sockets.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        return SimpleNamespace(url=f"https://localhost:{port}", socket_url=f"wss://localhost:{port}/ws", tls=context)

    yield make
    for process in started:
        process.terminate()
        process.wait(20)


async def session_of(proxy):
    connector = aiohttp.TCPConnector(ssl=proxy.tls)
    return await current_resources().enter_async_context(aiohttp.ClientSession(proxy.url, connector=connector))


async def socket_of(proxy, user):
    """A socket that is past its hello."""
    socket = await websockets.connect(proxy.socket_url, extra_headers=user.headers, subprotocols=[SUBPROTOCOL], ssl=proxy.tls,
                                      ping_interval=None)
    current_resources().callback(socket.transport.abort)
    assert socket.subprotocol == SUBPROTOCOL
    await socket.send('{"type":"hello"}')
    assert Event(await asyncio.wait_for(socket.recv(), 10))["type"] == "welcome"
    return socket


async def test_rest_and_websocket_pass_through(make_gateway, make_proxy):
    gateway = make_gateway()
    proxy = make_proxy(gateway.port)
    alice, bob = (await new_tenant(gateway)).users("alice", "bob")
    session, socket = await session_of(proxy), await socket_of(proxy, bob)
    async with session.post("/v1/rooms", json={"type": "group", "members": ["bob"]}, headers=alice.headers) as answer:
        assert answer.status == 201
        room_id = (await answer.json())["room_id"]
    for number in range(50):
        async with session.post(f"/v1/rooms/{room_id}/messages", json={"content": f"{number}", "meta": "m" * 20_000},
                                headers=alice.headers) as answer:
            assert (await answer.json())["seq"] == number + 1
    heard = []
    while len(heard) < 50:
        event = Event(await asyncio.wait_for(socket.recv(), 10))
        if event["type"] == "message":
            heard.append(event["seq"])
    assert heard == list(range(1, 51))
    async with session.get(f"/v1/rooms/{room_id}/messages?limit=50", headers=bob.headers) as answer:
        assert len((await answer.json())["items"]) == 50
    async with session.post("/v1/sync", data=b" " * ((1 << 20) - 2) + b"{}", headers=bob.headers) as answer:
        assert answer.status == 200, "the longest body passes"
    async with session.post("/v1/sync", data=b" " * (1 << 20) + b"{}", headers=bob.headers) as answer:
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (413, "http.body_too_large")


async def test_idle_socket_lives_by_its_pings_and_close_codes_pass(make_gateway, make_proxy):
    gateway = make_gateway(net__ping_interval="500ms", net__idle_timeout="2s")
    proxy = make_proxy(gateway.port)
    alice = (await new_tenant(gateway)).user("alice")
    socket = await socket_of(proxy, alice)
    await asyncio.sleep(3)  # longer than the idle timeout: the library answers the pings that come through
    await socket.send('{"type":"ping","id":1}')
    assert Event(await asyncio.wait_for(socket.recv(), 10))["type"] == "pong"
    refused = await websockets.connect(proxy.socket_url, extra_headers=alice.headers, subprotocols=[SUBPROTOCOL], ssl=proxy.tls)
    await refused.send('{"type":"hello","token":"x"}')
    with pytest.raises(websockets.ConnectionClosed) as end:
        while True:
            await asyncio.wait_for(refused.recv(), 10)
    assert end.value.rcvd.code == 4001
    leaving = await socket_of(proxy, alice)
    await leaving.close(4321, "mine")
    assert leaving.close_code == 4321, "sent back by the gateway"
    gateway.process.terminate()
    with pytest.raises(websockets.ConnectionClosed) as end:
        while True:
            await asyncio.wait_for(socket.recv(), 10)
    assert end.value.rcvd.code == 1001
    await asyncio.to_thread(gateway.await_exit, 0)


async def test_operators_routes_are_not_for_the_public(make_gateway, make_proxy):
    gateway = make_gateway()
    proxy = make_proxy(gateway.port)
    session = await session_of(proxy)
    for path in ("/v1/admin/tenants", "/api/v1/admin/stats", "/metrics", "/v1/metrics", "/api/v1/metrics"):
        async with session.get(path, headers={"X-Master-Key": gateway.master_key}) as answer:
            assert answer.status == 404, path
    for path in ("/health", "/ready", "/openapi.yaml", "/docs"):
        async with session.get(path) as answer:
            assert answer.status == 200, path


async def test_requests_share_kept_connections_and_say_who_asks(make_proxy):
    """Seen from behind: a server that only writes down what reaches it."""
    heads, connections = [], []

    async def serve(reader, writer):
        connections.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                if not head.startswith("GET /ready"):  # the proxy's own look at its health
                    heads.append(head)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    current_resources().callback(server.close)
    proxy = make_proxy(server.sockets[0].getsockname()[1])
    session = await session_of(proxy)
    await asyncio.sleep(0.1)
    before = len(connections)
    for _ in range(10):
        async with session.get("/health", headers={"X-Forwarded-For": "6.6.6.6", "X-Master-Key": "k"}) as answer:
            assert answer.status == 200
    assert len(heads) == 10 and len(connections) - before <= 3  # HAProxy's checks have connections of their own
    for head in heads:
        fields = {name.lower(): value for name, value in re.findall(r"^([^:\s]+): (.*?)\r$", head, re.MULTILINE)}
        assert fields["x-forwarded-for"] == "127.0.0.1" and fields["x-forwarded-proto"] == "https"
        assert fields.get("x-master-key", "") == ""
        assert head.startswith("GET /health HTTP/1.1") and fields.get("connection", "keep-alive") == "keep-alive"


def test_times_stand_in_the_order_they_must():
    defaults = {row[0]: row[2] for row in tables.settings()}
    idle, ping = (int(defaults[name].removesuffix("s")) for name in ("net.idle_timeout", "net.ping_interval"))
    nginx_text, haproxy_text = (PROXIES / "nginx.conf").read_text(), (PROXIES / "haproxy.cfg").read_text()
    for text, names in ((nginx_text, ("proxy_read_timeout", "proxy_send_timeout")),
                        (haproxy_text, ("timeout client", "timeout server", "timeout tunnel"))):
        for name in names:
            assert int(re.search(rf"^\s*{name} (\d+)s", text, re.MULTILINE)[1]) > idle > ping, name
    assert int(re.search(r"keepalive_timeout (\d+)s", nginx_text)[1]) < idle
    assert int(re.search(r"timeout http-keep-alive (\d+)s", haproxy_text)[1]) < idle
    # Connections in the pool are looked at once in a purge delay, so one may stay idle for two.
    assert 2 * int(re.search(r"pool-purge-delay (\d+)s", haproxy_text)[1]) < idle
