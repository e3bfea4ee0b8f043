"""carillon-load against servers that are no gateway: the promises that it checks, and where it connects from."""

import asyncio
import json
import subprocess
import threading

import pytest
import websockets

from gateway import BUILD

LOAD_TIMEOUT_S = 60
TALK = ("--messages", "40", "--warmup", "0", "--seconds", "2", "--timeout", "2", "--json")


class Broadcaster:
    """A server that gives what it gets to everybody in the room, after `spoil` has had its way with it."""

    def __init__(self, spoil=None):
        self.spoil = spoil or (lambda number, message, member: [message])
        self.rooms, self.sources, self.frames = {}, set(), []
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.ready = threading.Event()

    def __enter__(self):
        self.thread.start()
        assert self.ready.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.stop.set)
        self.thread.join(10)

    def _run(self):
        self.loop.run_until_complete(self._serve())

    async def _serve(self):
        self.stop = asyncio.Event()
        async with websockets.serve(self._member, "127.0.0.1", 0) as server:
            self.port = server.sockets[0].getsockname()[1]
            self.ready.set()
            await self.stop.wait()

    async def _member(self, socket):
        room = self.rooms.setdefault(socket.path, [])
        self.sources.add(socket.remote_address[0])
        room.append(socket)
        try:
            async for message in socket:
                self.frames.append(message)
                for index, member in enumerate(room):
                    for spoilt in self.spoil(len(self.frames), message, index):
                        await member.send(spoilt)
        except websockets.ConnectionClosed:
            pass


def load(server, scenario, *options):
    command = [str(BUILD / "carillon-load"), scenario, "--peer", "websocket", "--url",
               f"http://127.0.0.1:{server.port if server else 1}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LOAD_TIMEOUT_S)


def test_messages_for_a_peer_have_the_length_that_was_asked_for_and_all_arrive():
    with Broadcaster() as server:
        run = load(server, "fanout", "--subscribers", "5", "--frame", "400", "--in-flight", "4", *TALK)
        assert run.returncode == 0, run.stderr
        result = json.loads(run.stdout)
        assert result["push_bytes"] == 400 and {len(frame) for frame in server.frames} == {400}
        assert result["sent"] == 40 and result["violations"] == 0
        assert set(server.rooms) == {"/room/0"}


def test_everybody_may_talk_in_the_rooms_of_a_peer():
    with Broadcaster() as server:
        run = load(server, "chat", "--rooms", "3", "--members", "3", *TALK)
        assert run.returncode == 0, run.stderr
        assert set(server.rooms) == {"/room/0", "/room/1", "/room/2"}
        assert json.loads(run.stdout)["messages"] == 40


@pytest.mark.parametrize("name, spoil", [
    ("lost", lambda number, message, member: [] if (number, member) == (20, 2) else [message]),
    ("twice", lambda number, message, member: [message] * 2 if (number, member) == (20, 2) else [message]),
    ("of another room", lambda number, message, member: [message.replace("peer-0", "peer-1") if number == 20 else message]),
    ("malformed", lambda number, message, member: ["{}" if number == 20 else message]),
])
def test_peer_that_breaks_a_promise_fails_the_run(name, spoil):
    with Broadcaster(spoil) as server:
        run = load(server, "fanout", "--subscribers", "3", *TALK)
        assert run.returncode == 1 and "VIOLATION" in run.stderr, (name, run.stdout, run.stderr)


def test_peer_that_shows_two_publishers_in_different_orders_fails_the_run():
    held = {}

    def swap(number, message, member):
        """Member 1 gets message 20 behind message 21, which another publisher sent."""
        if (number, member) == (20, 1):
            held["back"] = message
            return []
        return [message, held.pop("back")] if member == 1 and "back" in held else [message]

    with Broadcaster(swap) as server:
        run = load(server, "chat", "--rooms", "1", "--members", "4", "--in-flight", "1", *TALK)
        assert run.returncode == 1 and "VIOLATION" in run.stderr, (run.stdout, run.stderr)


def test_source_is_where_the_generator_connects_from():
    with Broadcaster() as server:
        run = load(server, "fanout", "--subscribers", "3", "--source", "127.0.0.77", *TALK)
        assert run.returncode == 0, run.stderr
        assert server.sources == {"127.0.0.77"}


@pytest.mark.parametrize("options, complaint", [
    (("fanout", "--peer", "carrier-pigeon"), "websocket or socket.io"),
    (("fanout", "--frame", "300", "--key", "k"), "--frame needs --peer"),
    (("fanout", "--peer", "websocket", "--size", "300", "--frame", "300"), "must hold --size"),
    (("fanout", "--peer", "websocket", "--client-ids"), "need a gateway"),
    (("fanout", "--source", "10.0.0.1", "--key", "k"), "127.0.0.0/8"),
    (("durable", "--peer", "websocket"), "no meaning for durable"),
])
def test_options_that_say_nothing_together_are_refused(options, complaint):
    run = subprocess.run([str(BUILD / "carillon-load"), *options], capture_output=True, text=True, timeout=LOAD_TIMEOUT_S)
    assert run.returncode == 2 and complaint in run.stderr
