"""RFC 6455 in quantity against /debug/ws-echo: messages up to the bound, many of them, slow readers, whatever the order of
sending and reading."""

import threading
import time

import pytest

from peer import (BINARY, CLOSE, PONG, TEXT, Pause, Peer, binary, chopped, close, fragments, frame, ping, text)

MIB = 1 << 20
BOUND = 16 * MIB
NOISE = bytes(range(256)) * (BOUND // 256)
STARS = b"*" * (BOUND + 1)


class Sending:
    """Sends from a thread of its own, so that neither side waits for the other to read."""

    def __init__(self, peer, *parts):
        self._thread = threading.Thread(target=peer.send, args=parts)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._thread.join()


def closes(peer, code=1000):
    peer.send(close(code))
    assert peer.frame() == (CLOSE, code.to_bytes(2, "big"))
    peer.assert_ended()


@pytest.mark.parametrize("length", [MIB, MIB + 1, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 8 * MIB, BOUND - 1, BOUND])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_message_up_to_the_bound_is_echoed(gateway, opcode, length):
    payload = STARS[:length] if opcode == TEXT else NOISE[:length]
    with Peer(gateway).handshake() as peer:
        with Sending(peer, frame(opcode, payload)):
            assert peer.frame() == (opcode, payload)
        closes(peer)


@pytest.mark.parametrize("size", [1024, 16384, 65536, MIB])
def test_message_of_the_bound_in_fragments_is_echoed(gateway, size):
    with Peer(gateway).handshake() as peer:
        with Sending(peer, b"".join(fragments(BINARY, NOISE, *range(size, BOUND, size)))):
            assert peer.frame() == (BINARY, NOISE)
        closes(peer)


@pytest.mark.parametrize("size", [997, 16384, 100003])
def test_large_message_in_small_segments_is_echoed(gateway, size):
    with Peer(gateway).handshake() as peer:
        with Sending(peer, *chopped(binary(NOISE[:4 * MIB]), size)):
            assert peer.frame() == (BINARY, NOISE[:4 * MIB])
        closes(peer)


@pytest.mark.parametrize("sent", [
    [text(STARS)], [binary(STARS)], fragments(BINARY, STARS, BOUND), fragments(TEXT, STARS, 1),
    fragments(BINARY, STARS, *range(MIB, BOUND, MIB))],
    ids=["text", "binary", "one byte in a second fragment", "all but one byte in a second fragment", "fragments of 1 MiB"])
def test_message_one_byte_above_the_bound_is_1009(gateway, sent):
    with Peer(gateway).handshake() as peer:
        peer.send(text("good"))
        assert peer.frame() == (TEXT, b"good")
        with Sending(peer, *sent):
            assert peer.frame() == (CLOSE, b"\x03\xf1")


def test_bound_is_a_messages_and_no_connections(gateway):
    with Peer(gateway).handshake() as peer:
        with Sending(peer, *[binary(NOISE[:12 * MIB])] * 3):
            for _ in range(3):
                assert peer.frame() == (BINARY, NOISE[:12 * MIB])
        closes(peer)


@pytest.mark.parametrize("length, count", [(0, 1000), (16, 1000), (64, 1000), (256, 1000), (1024, 1000), (4096, 1000),
                                           (16384, 500), (65536, 200), (262144, 50)])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_many_messages_come_back_in_order(gateway, opcode, length, count):
    filling = STARS[:length]
    messages = [(f"{n:06d}".encode() + filling)[:length] for n in range(count)]
    with Peer(gateway).handshake() as peer:
        with Sending(peer, b"".join(frame(opcode, message) for message in messages)):
            for message in messages:
                assert peer.frame() == (opcode, message)
        closes(peer)


@pytest.mark.parametrize("length", [0, 125, 126, 65536])
def test_one_message_after_the_other_comes_back(gateway, length):
    with Peer(gateway).handshake() as peer:
        for _ in range(200):
            peer.send(text(STARS[:length]))
            assert peer.frame() == (TEXT, STARS[:length])
        closes(peer)


def test_flood_of_pings_is_answered_in_order(gateway):
    with Peer(gateway).handshake() as peer:
        with Sending(peer, b"".join(ping(f"{n}") for n in range(20000))):
            for n in range(20000):
                assert peer.frame() == (PONG, f"{n}".encode())
        closes(peer)


def test_reader_that_starts_late_misses_nothing(gateway):
    messages = [binary(NOISE[:n * 1000 + 5]) for n in range(200)]
    with Peer(gateway, receive_buffer_bytes=4096).handshake() as peer:
        with Sending(peer, b"".join(messages) + close(1000)):
            time.sleep(0.3)
            for n in range(200):
                assert peer.frame() == (BINARY, NOISE[:n * 1000 + 5])
            assert peer.frame() == (CLOSE, b"\x03\xe8")
        peer.assert_ended()


@pytest.mark.parametrize("sizes", [[6 * MIB, 6 * MIB], [BOUND, BOUND], [100_000, 8 * MIB, 100, 8 * MIB], [MIB] * 12])
def test_slow_reader_gets_large_messages_whole(gateway, sizes):
    """The next message is taken up while some of the last answer is still unread, however large both are."""
    with Peer(gateway, receive_buffer_bytes=65536).handshake() as peer:
        with Sending(peer, *[binary(NOISE[:size]) for size in sizes], close(1000)):
            received = bytearray()
            while len(received) < sum(sizes):
                piece = peer.socket.recv(131072)
                assert piece, f"the connection ended after {len(received)} bytes"
                received += piece
                time.sleep(0.002)
            peer.received = bytes(received)
            for size in sizes:
                assert peer.frame() == (BINARY, NOISE[:size])
            assert peer.frame() == (CLOSE, b"\x03\xe8")
        peer.assert_ended()


def test_large_message_and_close_right_behind_it_are_both_answered(gateway):
    with Peer(gateway).handshake() as peer:
        with Sending(peer, binary(NOISE) + close(1000)):
            assert peer.frame() == (BINARY, NOISE)
            assert peer.frame() == (CLOSE, b"\x03\xe8")
        peer.assert_ended()


def test_peer_that_ends_its_direction_gets_what_it_is_owed(gateway):
    """Without a closing handshake, which is the peer's choice to leave out (RFC 6455 7.1.5: 1006 to itself)."""
    with Peer(gateway).handshake() as peer:
        peer.send(text("last words") + binary(NOISE[:100000]))
        peer.half_close()
        assert peer.frame() == (TEXT, b"last words")
        assert peer.frame() == (BINARY, NOISE[:100000])
        peer.assert_ended()


@pytest.mark.parametrize("cut", [1, 2, 5, 6, 50])
def test_peer_that_ends_inside_a_frame_is_no_message(gateway, cut):
    with Peer(gateway).handshake() as peer:
        peer.send(text("whole") + text("x" * 100)[:cut])
        peer.half_close()
        assert peer.frame() == (TEXT, b"whole")
        peer.assert_ended()


def test_idle_socket_hears_nothing(gateway):
    with Peer(gateway).handshake() as peer:
        assert peer.is_silent(0.3)
        peer.send(text("half")[:7], Pause(0.2))
        assert peer.is_silent(0.1), "something about a frame that is not whole"
        peer.send(text("half")[7:])
        assert peer.frame() == (TEXT, b"half")
        closes(peer)


def test_two_hundred_sockets_at_once_get_their_own_messages(gateway):
    peers = [Peer(gateway).handshake() for _ in range(200)]
    try:
        for round_number in range(3):
            for n, peer in enumerate(peers):
                peer.send(text(f"{n}/{round_number}" * (n + 1)))
            for n, peer in enumerate(peers):
                assert peer.frame() == (TEXT, (f"{n}/{round_number}" * (n + 1)).encode())
        for peer in peers:
            closes(peer)
    finally:
        for peer in peers:
            peer.socket.close()
