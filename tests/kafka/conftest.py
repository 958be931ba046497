"""One broker for all tests that do not stop it; each test has its own prefix of topics."""

import gc
import warnings
from collections.abc import Iterator
from itertools import count

import pytest

with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a function that Python deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401

from tests.kafka.producers import FakeProducer
from tests.servers.kafka import KafkaServer

_NUMBERS = count()

QUICK = {"group.min.session.timeout.ms": "1000"}
"""Broker options with which a dead worker is noticed in seconds."""


@pytest.fixture(scope="session")
def broker() -> Iterator[KafkaServer]:
    """A running broker."""
    with KafkaServer(own=True, options=QUICK) as server:
        yield server


@pytest.fixture
def prefix() -> str:
    """Topics of this test."""
    return f"t{next(_NUMBERS)}."


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[FakeProducer]:
    """The producers that a publisher makes, by a clock that runs a hundred times as fast."""
    monkeypatch.setattr("connectors.kafka.KafkaProducer", FakeProducer)
    monkeypatch.setattr("connectors.kafka.STALL_S", 0.05)
    monkeypatch.setattr("connectors.kafka.RETRY_S", 0.01)
    FakeProducer.made = []
    return FakeProducer.made


@pytest.fixture(autouse=True)
def _sockets_that_were_refused() -> Iterator[None]:
    """kafka-python leaves sockets to the garbage collector that a broker has refused: collect them with their test."""
    yield
    gc.collect()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """See `_sockets_that_were_refused`."""
    mark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    for item in items:
        if "/tests/kafka/" in item.path.as_posix():
            item.add_marker(mark)
            item.add_marker(pytest.mark.timeout(900))  # seconds each on a quiet machine
