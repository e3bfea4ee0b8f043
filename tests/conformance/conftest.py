"""One gateway with debug.echo for all cases: each has a connection of its own, which is all the isolation they need."""

import pytest

from gateway import BINARY, Gateway


def pytest_sessionstart(session):
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not there: build it first (cmake --preset release && "
                    "cmake --build --preset release), or name a build folder in CARILLON_BUILD", returncode=2)


@pytest.fixture(scope="session")
def running():
    gateway = Gateway(cores=2, settings={"debug.echo": "on"}).start()
    yield gateway
    try:
        gateway.stop()
    finally:
        gateway.discard()


@pytest.fixture
def gateway(running):
    """The gateway, which outlives whatever the case sends it."""
    yield running
    running.assert_healthy()
