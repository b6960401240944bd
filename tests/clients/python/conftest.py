"""What all suites share: one server on the tiny model, and its clients."""

import pytest
from server import Server


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long forms of load and faults")


@pytest.fixture(scope="session")
def long(request):
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def server():
    with Server() as server:
        yield server
        assert server.process.poll() is None, server.said()


@pytest.fixture(scope="session")
def client(server):
    return server.client()


@pytest.fixture(scope="session")
def http(server):
    with server.http() as http:
        yield http
