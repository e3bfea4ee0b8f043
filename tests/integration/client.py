"""A chat client for tests: REST by aiohttp and WebSocket by `websockets`, two implementations that are not ours.

Whatever a test opens belongs to the test and is closed with it (`resources`), so a test reads without nesting:

    tenant = await new_tenant(gateway)
    alice, bob = tenant.user("alice"), tenant.user("bob")
    room_id = await alice.new_room("group", bob)
    socket = await bob.connect()
    await alice.send(room_id, "hello")
    await socket.expect("message", content="hello")
"""

import asyncio
import json
import re
import secrets
import time
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote

import aiohttp
import websockets

import openapi
import recorder
from shapes import DURABLE, assert_error_frame, assert_problem

WAIT_S = 10.0      # for something that must come; generous, because it is only spent by a failing test
SILENCE_S = 0.3    # for something that must not come
PAGES_MAX = 200    # of any walk through a list
SUBPROTOCOL = "carillon.v1.json"

_resources = None


@asynccontextmanager
async def resources():
    """What one test opens is closed when it ends, in reverse order."""
    global _resources
    async with AsyncExitStack() as stack:
        _resources = stack
        _sessions.clear()
        try:
            yield
        finally:
            _sessions.clear()
            _resources = None


def current_resources():
    """Where whatever the running test opens is closed."""
    assert _resources is not None, "no test is running"
    return _resources


_sessions = {}  # of the running test, by the Unix socket they go through (None: TCP)


async def _session(unix_path=None):
    if unix_path not in _sessions:
        connector = aiohttp.UnixConnector(path=unix_path) if unix_path else aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=WAIT_S)
        _sessions[unix_path] = await current_resources().enter_async_context(
            aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=True))
    return _sessions[unix_path]


class Answer:
    """An HTTP answer, read to its end."""

    def __init__(self, request, status, headers, body):
        self.request, self.status, self.headers, self.body = request, status, headers, body

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        assert self.headers["Content-Type"].split(";")[0] in ("application/json", "application/problem+json"), self
        return json.loads(self.body)

    def ok(self, status=200):
        """Asserts success with that status and returns the body."""
        assert self.status == status, self
        return self.json()

    def succeeded(self):
        """Asserts any success, where the protocol leaves open which, and returns the body or None."""
        assert self.status in (200, 201, 202, 204), self
        return self.json() if self.body else None

    def problem(self, *statuses, code=None):
        """Asserts one of those errors in the protocol's form and returns it."""
        assert self.status in statuses, self
        assert self.headers["Content-Type"].split(";")[0] == "application/problem+json", self
        problem = self.json()
        assert_problem(problem, self.status)
        if code is not None:
            assert problem["code"] == code, self
        return problem

    def __repr__(self):
        return f"{self.request} → {self.status} {dict(self.headers)} {self.body[:2000]!r}"


async def call(gateway, method, path, headers=None, body=None, raw=None, params=None, unix_path=None):
    """One HTTP request. `body` is sent as JSON, `raw` (bytes or text) as it is."""
    headers = dict(headers or {})
    data = None
    if body is not None:
        data = json.dumps(body).encode()
    elif raw is not None:
        data = raw.encode() if isinstance(raw, str) else raw
    if data is not None:
        headers.setdefault("Content-Type", "application/json")
    session = await _session(unix_path)
    url = f"http://{gateway.host}:{gateway.port}{path}"
    async with session.request(method, url, headers=headers, data=data, params=params,
                               allow_redirects=False) as response:
        answer = Answer(f"{method} {path} {params or ''}", response.status, response.headers, await response.read())
        recorder.answered(method, path, answer.status, answer.body, answer.headers.get("Content-Type", ""))
        openapi.check(method, path, answer.status, answer.body, answer.headers.get("Content-Type", ""))
        return answer


async def metric(gateway, name, **labels):
    """The sum of a metric's samples with those labels; a histogram's is the number of what it counted."""
    samples = await metric_samples(gateway, name)
    assert samples, f"{name} is not among the metrics"
    return sum(value for found, value in samples if all(found.get(label) == labels[label] for label in labels))


async def metric_samples(gateway, name):
    """[(labels, value)] of a metric, a histogram by its `_count`."""
    recorder.exercised("metric", name)
    text = (await call(gateway, "GET", "/metrics")).text
    kind = re.search(rf"^# TYPE {name} (\w+)$", text, re.MULTILINE)
    assert kind, f"{name} is not among the metrics"
    sample = name + "_count" if kind[1] == "histogram" else name
    return [(dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value))
            for labels, value in re.findall(rf"^{sample}(\{{[^{{}}]*\}})? (\S+)$", text, re.MULTILINE)]


async def metric_reaches(gateway, name, value, **labels):
    """Waits until the metric is at least that, and returns it: cores bring counters up to date once a turn."""
    return await _metric_when(gateway, name, lambda now: now >= value, f"at least {value}", labels)


async def metric_becomes(gateway, name, value, **labels):
    """Waits until the metric is that: an idle core brings gauges up to date once a second."""
    return await _metric_when(gateway, name, lambda now: now == value, value, labels)


async def _metric_when(gateway, name, wanted, what, labels):
    deadline = time.monotonic() + WAIT_S
    while not wanted(now := await metric(gateway, name, **labels)):
        assert time.monotonic() < deadline, f"{name} is {now}, expected {what}"
        await asyncio.sleep(0.02)
    return now


class Operator:
    """Whoever runs the gateway: by master key, or by the admin socket, which needs none."""

    def __init__(self, gateway, by_socket=False):
        self.gateway = gateway
        self._headers = {} if by_socket else {"X-Master-Key": gateway.master_key}
        self._unix_path = str(gateway.admin_socket) if by_socket else None

    async def call(self, method, path, body=None, **rest):
        return await call(self.gateway, method, "/v1/admin" + path, self._headers, body, unix_path=self._unix_path,
                          **rest)

    async def new_tenant(self, name=None):
        created = (await self.call("POST", "/tenants", {"name": name or f"tenant {secrets.token_hex(4)}"})).ok(201)
        return Tenant(self.gateway, created)

    async def tenants(self, limit=100):
        """All tenants, page by page."""
        tenants, params = [], {"limit": str(limit)}
        for _ in range(PAGES_MAX):
            page = (await self.call("GET", "/tenants", params=params)).ok()
            assert len(page["items"]) <= limit
            tenants += page["items"]
            if page["next"] is None:
                return tenants
            params["cursor"] = page["next"]
        raise AssertionError(f"{PAGES_MAX} pages and no end")

    async def new_key(self, tenant, role):
        """Another key of the tenant: {key_id, api_key, role, …}."""
        return (await self.call("POST", f"/tenants/{tenant.tenant_id}/keys", {"role": role})).ok(201)


async def new_tenant(gateway, name=None):
    return await Operator(gateway).new_tenant(name)


class Tenant:
    def __init__(self, gateway, created):
        self.gateway = gateway
        self.created = created
        self.tenant_id, self.api_key = created["tenant_id"], created["api_key"]

    def user(self, user_id, api_key=None, device=None):
        return User(self, user_id, api_key or self.api_key, device)

    def users(self, *user_ids):
        return [self.user(user_id) for user_id in user_ids]


class User:
    """A user on whom the tenant's key acts. Making one sends nothing."""

    def __init__(self, tenant, user_id, api_key, device=None):
        self.tenant, self.gateway = tenant, tenant.gateway
        self.user_id, self.api_key, self.device = user_id, api_key, device

    @property
    def headers(self):
        headers = {"X-API-Key": self.api_key, "X-User-Id": self.user_id}
        if self.device is not None:
            headers["X-Device-Id"] = self.device
        return headers

    def on_device(self, device):
        return User(self.tenant, self.user_id, self.api_key, device)

    # --- REST ---------------------------------------------------------------------------------------------------

    async def call(self, method, path, body=None, raw=None, params=None, headers=None):
        return await call(self.gateway, method, "/v1" + path, {**self.headers, **(headers or {})}, body, raw, params)

    async def get(self, path, **params):
        return await self.call("GET", path, params={name: str(value) for name, value in params.items()})

    async def post(self, path, body=None, **rest):
        return await self.call("POST", path, {} if body is None else body, **rest)

    async def delete(self, path):
        return await self.call("DELETE", path)

    async def create_room(self, room_type, *members, **settings):
        """Creates a room with those users in it and returns the room object."""
        body = {"type": room_type, "members": [member.user_id for member in members], **settings}
        if room_type != "dm":
            body.setdefault("name", f"room {secrets.token_hex(4)}")
        return (await self.post("/rooms", body)).ok(201)

    async def new_room(self, room_type, *members, **settings):
        return (await self.create_room(room_type, *members, **settings))["room_id"]

    async def send(self, room_id, content, **rest):
        """Sends one message and returns {message_id, room_id, seq, created_at}."""
        return (await self.post(f"/rooms/{room_id}/messages", {"content": content, **rest})).ok(201)

    async def send_many(self, room_id, contents):
        return [await self.send(room_id, content) for content in contents]

    async def messages(self, room_id, **params):
        return (await self.get(f"/rooms/{room_id}/messages", **params)).ok()["items"]

    async def events(self, room_id, after_seq=0, limit=1000):
        """The room's whole log behind after_seq, page by page."""
        events = []
        for _ in range(PAGES_MAX):
            page = (await self.get(f"/rooms/{room_id}/events", after_seq=after_seq, limit=limit)).ok()["items"]
            if not page:
                return events
            events += page
            after_seq = page[-1]["seq"]
        raise AssertionError(f"{PAGES_MAX} pages and no end")

    async def add_members(self, room_id, *members):
        return (await self.post(f"/rooms/{room_id}/members", {"members": [m.user_id for m in members]})).ok(200)

    async def remove_member(self, room_id, member):
        return (await self.delete(f"/rooms/{room_id}/members/{quote(member.user_id, safe='')}")).succeeded()

    # --- WebSocket ------------------------------------------------------------------------------------------------

    async def connect(self, **hello):
        """A socket of carillon.v1.json, past its hello. `hello`'s members are given as they are."""
        socket = await self.connect_silent()
        socket.welcome = await socket.hello(**hello)
        return socket

    async def connect_silent(self, **options):
        """A socket of carillon.v1.json that has not said hello yet."""
        return await open_socket(self.gateway, self.headers, [SUBPROTOCOL], **options)

    async def connect_automatic(self, **options):
        """A socket without subprotocol: served at once, by its headers alone."""
        return await open_socket(self.gateway, self.headers, **options)

    async def position(self, room_id):
        """The room's [epoch, head] as a socket that comes now is told; None when the room is not among the user's."""
        socket = await self.connect()
        rooms = [room for room in socket.welcome["rooms"] if room["room_id"] == room_id]
        socket.drop()
        return [rooms[0]["epoch"], rooms[0]["head"]] if rooms else None


class Event(dict):
    """A frame from the server; `text` is what stood on the wire."""

    def __init__(self, text):
        super().__init__(json.loads(text))
        self.text = text

    @property
    def is_durable(self):
        return self.get("type") in DURABLE


async def open_socket(gateway, headers=None, subprotocols=None, path="/v1/ws", **options):
    websocket = await websockets.connect(
        f"ws://{gateway.host}:{gateway.port}{path}", extra_headers=headers or {}, subprotocols=subprotocols,
        # The library would stop reading when its queue is full, and ping by itself: both are the test's to decide.
        max_queue=None, max_size=None, ping_interval=None, open_timeout=WAIT_S, close_timeout=1,
        **{"compression": None, **options})
    recorder.answered("GET", path, 101, b"", "")
    socket = Socket(websocket)
    current_resources().callback(socket.drop)
    return socket


class Socket:
    """A WebSocket whose events are taken by kind: what a test did not ask for yet waits, in order, in `waiting`."""

    def __init__(self, websocket):
        self.websocket = websocket
        self._frames = recorder.Frames()
        self.waiting = []
        self.welcome = None
        self._last_id = 0

    # --- sending --------------------------------------------------------------------------------------------------

    async def send_text(self, text):
        """Sends a text frame; raises websockets.ConnectionClosed when the gateway has closed."""
        self._frames.sent(text)
        await self.websocket.send(text)

    async def send(self, frame_type, **members):
        await self.send_text(json.dumps({"type": frame_type, **members}))

    async def request(self, frame_type, **members):
        """Sends a request with an id of its own and returns its answer, `ok` or `error` or whatever it is."""
        return await self.answer(await self.begin(frame_type, **members))

    async def begin(self, frame_type, **members):
        """Sends a request and returns its id, for `answer`."""
        self._last_id += 1
        await self.send(frame_type, id=self._last_id, **members)
        return self._last_id

    async def answer(self, request_id):
        return await self.take(lambda event: event.get("re") == request_id, f"the answer to {request_id}")

    async def ok(self, frame_type, **members):
        answer = await self.request(frame_type, **members)
        assert answer["type"] == "ok", answer
        return answer

    async def refused(self, frame_type, code=None, **members):
        answer = await self.request(frame_type, **members)
        assert_error_frame(answer)
        if code is not None:
            assert answer["code"] == code, answer
        return answer

    async def hello(self, **members):
        await self.send("hello", **members)
        return await self.expect("welcome")

    async def message(self, room_id, content, **rest):
        """Sends a message and returns its `ok`."""
        return await self.ok("send_message", room_id=room_id, content=content, **rest)

    # --- receiving ------------------------------------------------------------------------------------------------

    async def next(self, timeout_s=WAIT_S):
        """The next frame, whatever it is."""
        if self.waiting:
            return self.waiting.pop(0)
        return await self._read(timeout_s)

    async def take(self, wanted, what, timeout_s=WAIT_S):
        """The first frame for which wanted(frame) holds; the others stay in order."""
        for index, event in enumerate(self.waiting):
            if wanted(event):
                return self.waiting.pop(index)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                event = await self._read(deadline - time.monotonic())
            except (asyncio.TimeoutError, websockets.ConnectionClosed) as failure:
                raise AssertionError(f"{what} did not come ({failure!r}); waiting: {self.waiting}") from None
            if wanted(event):
                return event
            self.waiting.append(event)

    async def expect(self, frame_type, timeout_s=WAIT_S, **members):
        """The first frame of that type with those members."""
        def wanted(event):
            return event.get("type") == frame_type and all(event.get(name) == members[name] for name in members)
        return await self.take(wanted, f"{frame_type} {members or ''}", timeout_s)

    async def collect(self, room_id, last_seq, timeout_s=WAIT_S):
        """The room's durable events in the order they came, up to and with last_seq."""
        deadline = time.monotonic() + timeout_s
        events = []
        while not events or events[-1]["seq"] < last_seq:
            events.append(await self.take(lambda event: event.is_durable and event.get("room_id") == room_id,
                                          f"{room_id} up to {last_seq} (last: {events[-1:]})",
                                          deadline - time.monotonic()))
        return events

    async def expect_silence(self, room_id, seconds=SILENCE_S):
        """Nothing of the room's log has come, and nothing does for that long."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self.waiting.append(await self._read(deadline - time.monotonic()))
        except (asyncio.TimeoutError, websockets.ConnectionClosed):
            pass
        heard = [event for event in self.waiting if event.is_durable and event.get("room_id") == room_id]
        assert not heard, f"heard {heard}"

    async def expect_none(self, frame_type, seconds=SILENCE_S, **members):
        """No frame of that type with those members has come, and none does for that long."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self.waiting.append(await self._read(deadline - time.monotonic()))
        except (asyncio.TimeoutError, websockets.ConnectionClosed):
            pass
        heard = [event for event in self.waiting if event.get("type") == frame_type
                 and all(event.get(name) == members[name] for name in members)]
        assert not heard, f"heard {heard}"

    async def closed(self, timeout_s=WAIT_S):
        """Waits for the end of the connection and returns the close code; frames before it are kept."""
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                self.waiting.append(await self._read(deadline - time.monotonic()))
        except websockets.ConnectionClosed as end:
            code = end.rcvd.code if end.rcvd else 1006
            recorder.closed(code)
            return code
        except asyncio.TimeoutError:
            raise AssertionError(f"still open after {timeout_s} s; waiting: {self.waiting}") from None

    def room(self, room_id):
        """What the welcome said about a room."""
        rooms = [room for room in self.welcome["rooms"] if room["room_id"] == room_id]
        assert len(rooms) == 1, f"{room_id} stands {len(rooms)} times in {self.welcome}"
        return rooms[0]

    async def close(self):
        await self.websocket.close()

    def drop(self):
        """Gone without a word, as a client whose network fails."""
        if self.websocket.transport is not None:
            self.websocket.transport.abort()

    async def _read(self, timeout_s):
        if timeout_s <= 0:
            raise asyncio.TimeoutError("the time is up")
        text = await asyncio.wait_for(self.websocket.recv(), timeout_s)
        assert isinstance(text, str), f"a binary frame: {text!r}"
        event = Event(text)
        self._frames.received(event)
        return event
