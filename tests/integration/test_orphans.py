"""What the kernel still holds of connections that the gateway is done with."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from recorder import limit as bound_of
from wire import HttpWire

FIN_WAIT1 = "04"  # include/net/tcp_states.h: closed, and the peer has not taken everything


def state_of(server_port, client_port):
    """The server's end of a connection on loopback, as proc(5) has it in net/tcp; None when it has gone."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, state = line.split()[1:4]
        if (int(local.split(":")[1], 16), int(remote.split(":")[1], 16)) == (server_port, client_port):
            return state
    return None


@pytest.mark.slow
@pytest.mark.skipif(tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 7),
                    reason="before Linux 6.7 nothing sets a timeout on a ring's descriptor")
async def test_the_kernel_lets_go_of_an_answer_that_nobody_takes(make_gateway):
    gateway = make_gateway(cores=1, debug__echo="true")
    wire = await HttpWire.open(gateway, receive_buffer_bytes=4096)
    body = b"x" * (8 << 20)
    await wire.send(b"POST /debug/echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    ports = gateway.port, wire.writer.get_extra_info("sockname")[1]

    async def until(wanted, seconds):
        deadline = time.monotonic() + seconds
        while not wanted(state_of(*ports)):
            assert time.monotonic() < deadline, state_of(*ports)
            await asyncio.sleep(0.2)

    await until(lambda state: state == FIN_WAIT1, bound_of("STALL_TIMEOUT_MS") / 1000 + 20)
    closed = time.monotonic()
    await until(lambda state: state is None, 2 * bound_of("PEER_TIMEOUT_MS") / 1000)
    assert time.monotonic() - closed > 1  # until then it might still have been taken
