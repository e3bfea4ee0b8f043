"""RFC 9112 9.6, RFC 6455 7.1.1: the end of a connection is orderly, so that the last answer is read by a peer that is still
sending. Closing with bytes unread would make the kernel reset the connection instead."""

import threading

import pytest

from peer import CLOSE, Peer, binary, close, text

ROUNDS = 25  # without lingering about four of five end by a reset
BEHIND = b"\xff" * 900_000  # less than the gateway discards before it gives up (LINGER_BYTES_MAX)

LAST_WORDS = {
    "close frame": (True, close(1000), 1000),
    "malformed frame": (True, text("x", reserved=1), 1002),
    "text that is not UTF-8": (True, text(b"\xff"), 1007),
    "last request": (False, b"GET /debug/echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
    "last request of HTTP/1.0": (False, b"GET /debug/echo HTTP/1.0\r\n\r\n", 200),
    "malformed request": (False, b"GET / HTTP/1.1\r\n\r\n", 400),
    "body that is too large": (False, b"POST /debug/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n", 413),
}


@pytest.mark.parametrize("name", LAST_WORDS)
def test_peer_that_goes_on_sending_reads_the_last_answer_and_an_orderly_end(gateway, name):
    is_websocket, last, expected = LAST_WORDS[name]
    for _ in range(ROUNDS):
        with Peer(gateway) as peer:
            if is_websocket:
                peer.handshake()
            sender = threading.Thread(target=peer.send, args=(last + BEHIND,))
            sender.start()
            try:
                if is_websocket:
                    assert peer.frame() == (CLOSE, expected.to_bytes(2, "big"))
                else:
                    assert peer.answer().status == expected
                peer.assert_ended()
            finally:
                peer.socket.close()
                sender.join()


BOUND = 16 << 20  # bytes of a message, and of a body, that the echoes take

ABOVE_THE_BOUND = {
    "message": (True, binary(b"\0" * (BOUND + 1)), 1009),
    "text that is wrong at its beginning": (True, text(b"\xff" * BOUND), 1007),
    "body": (False, b"POST /debug/echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (BOUND + 1) + b"\0" * (BOUND + 1), 413),
    "chunk": (False, b"POST /debug/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (BOUND + 1)
              + b"\0" * (BOUND + 1) + b"\r\n0\r\n\r\n", 413),
}


@pytest.mark.parametrize("name", ABOVE_THE_BOUND)
def test_peer_that_sends_all_of_what_is_refused_before_it_reads_gets_the_refusal(gateway, name):
    """Without a broken pipe on its way: most clients write a whole message or body before they look for an answer."""
    is_websocket, sent, expected = ABOVE_THE_BOUND[name]
    with Peer(gateway) as peer:
        if is_websocket:
            peer.handshake()
        peer.socket.sendall(sent)
        if is_websocket:
            assert peer.frame() == (CLOSE, expected.to_bytes(2, "big"))
        else:
            assert peer.answer().status == expected
        peer.assert_ended()
