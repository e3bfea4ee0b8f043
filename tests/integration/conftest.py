"""Fixtures: running gateways, and tests that are coroutines.

Most tests share one gateway per kind and make a tenant of their own, which is all the isolation they need. A test that
stops or kills its gateway asks for `make_gateway` and gets its own.
"""

import asyncio
import inspect

import pytest

import recorder
from client import resources
from gateway import BINARY, Gateway

TEST_TIMEOUT_S = 60.0  # of one test: a hang is a failure, not a wait


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs a coroutine test in an event loop of its own and closes what it opened; other tests run as ever."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def run():
        async with resources():
            await asyncio.wait_for(pyfuncitem.obj(**arguments), TEST_TIMEOUT_S)

    asyncio.run(run())
    return True


def pytest_sessionstart(session):
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is not there: build it first (cmake --preset release && "
                    "cmake --build --preset release), or name a build folder in CARILLON_BUILD", returncode=2)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item, nextitem):
    recorder.begin()
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        recorder.end(f"{item.path.stem}: {item.name}", report.passed)


class SharedGateways:
    """Gateways that many tests use, one for each number of cores; a broken one is replaced for the next test."""

    def __init__(self):
        self._running = {}

    def get(self, cores):
        gateway = self._running.get(cores)
        if gateway is None or not gateway.is_running:
            gateway = self._running[cores] = Gateway(cores=cores).start()
        return gateway

    def stop(self):
        running = [gateway for gateway in self._running.values() if gateway.is_running]
        try:
            for gateway in running:
                gateway.stop()
        finally:
            for gateway in self._running.values():
                gateway.discard()


@pytest.fixture(scope="session")
def shared_gateways():
    shared = SharedGateways()
    yield shared
    shared.stop()


@pytest.fixture
def gateway(shared_gateways):
    """The shared gateway with two cores."""
    gateway = shared_gateways.get(cores=2)
    yield gateway
    gateway.assert_healthy()


@pytest.fixture(params=[1, 2, 4], ids=lambda cores: f"cores={cores}")
def gateway_of_each_size(request, shared_gateways):
    """The shared gateways with one, two and four cores, one after the other."""
    gateway = shared_gateways.get(cores=request.param)
    yield gateway
    gateway.assert_healthy()


@pytest.fixture
def make_gateway():
    """A function that starts a gateway on a fresh directory, which the test may stop, kill and restart."""
    made = []

    def make(cores=2, environment=None, config=None, command_prefix=(), **settings):
        settings = {name.replace("__", "."): text for name, text in settings.items()}
        for name in settings:
            recorder.exercised("setting", name)
        gateway = Gateway(cores, settings, environment, config, command_prefix)
        made.append(gateway)
        return gateway.start()

    yield make
    try:
        for gateway in made:
            gateway.assert_healthy()
    finally:
        for gateway in made:
            gateway.discard()
