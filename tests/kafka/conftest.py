"""One broker for all tests that do not stop it; each test has its own prefix of topics."""

import warnings
from collections.abc import Iterator
from itertools import count

import pytest

with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a function that Python deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka  # noqa: F401

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
