"""Dead letters without a broker: how many are kept; and their way back, of what is refused, or was not kept whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from kafka.errors import MessageSizeTooLargeError

import config as configuration
from config.schema import Settings
from pipeline import codec
from pipeline.app import STATE_FILE
from pipeline.bodies import record_from
from pipeline.cli.main import main
from pipeline.errors import StateError
from pipeline.kafka.admin import BrokerError
from pipeline.kafka.fetched import UNREADABLE
from pipeline.kafka.intake import take_in
from pipeline.kafka.letters import retry
from pipeline.kafka.part import Part
from pipeline.messages import Context, DeadLetter
from pipeline.state import Store
from tests.kafka.producers import FakeProducer

CONFIG = """schema_version = 1
[engine]
state_dir = "state"
[[machine]]
name = "m"
[[machine.sensor]]
name = "acc"
modality = "vibration"
rate_hz = 2000
unit = "g"
"""


def kept(folder: Path, nbytes: int, header: str = "a") -> Settings:
    """A state with one dead letter in it, as it comes over Kafka; the first has the number 1."""
    (folder / "stethos.toml").write_text(CONFIG)
    letter = DeadLetter("raw.vibration", "m", "key", "wrong", ((header, b"b"),), bytes(nbytes))
    (folder / "state").mkdir()
    store = Store(folder / "state" / STATE_FILE)
    store.commit([record_from("dlq", codec.encode(letter).value)])
    store.close()
    return configuration.load(folder / "stethos.toml")


class Refusing(FakeProducer):
    """One that says at once that the record is too large."""

    def send(self, *_: object, **__: object) -> None:  # type: ignore[override]
        """As kafka-python's."""
        raise MessageSizeTooLargeError("200000")


def test_a_letter_that_brokers_refuse_is_not_said_to_be_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their limit may be lower than when it came."""
    monkeypatch.setattr("connectors.kafka.KafkaProducer", Refusing)
    with pytest.raises(BrokerError, match="refused, for good: too_large"):
        retry(kept(tmp_path, 500_000), 1)


def test_a_letter_that_was_cut_does_not_go_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is published must be what came."""
    with pytest.raises(StateError, match=r"600,000 of its 800,000 bytes"):
        retry(kept(tmp_path, 800_000), 1)
    with pytest.raises(SystemExit, match="0"):
        main(["dlq", "show", "1", "--state", str(tmp_path / "state")])
    assert "value   600000 of 800000 bytes" in capsys.readouterr().out


def test_a_letter_of_what_could_not_be_read_does_not_go_back(tmp_path: Path) -> None:
    """There is nothing that could be published."""
    with pytest.raises(StateError, match="stands for a record that could not be read"):
        retry(kept(tmp_path, 0, f"{UNREADABLE}7: zstd"), 1)


def test_a_hundred_of_a_kind_are_kept_and_all_are_counted() -> None:
    """A stranger's microphone would fill the brokers; a repeat behind a rebalance is no further one."""
    counts: Counter[str] = Counter()
    part = Part(0, 1, 0, {"known": None}, "w", counts)  # type: ignore[dict-item]

    def taken(topic: str, offset: int, headers: list[tuple[str, bytes]], machine: str = "m") -> int:
        record = SimpleNamespace(key=machine.encode(), value=b"x", headers=headers, partition=0, offset=offset)
        found = take_in(topic, record, part)
        assert found.message is None and found.machine == machine
        return len(found.results)

    whole = [*codec.encode(Context("m", "state", 1, 1.0)).headers]
    assert [taken("context", n, []) for n in range(250)] == [1] * 100 + [0] * 150
    assert taken("context", 250, whole) == 1  # for another reason
    assert taken("raw.frames", 0, []) == 1
    assert taken("context", 250, [], "other") == 0 and taken("context", 250, [], "known") == 1
    assert [taken("command", n, [], "known") for n in range(150)] == [1] * 150  # the letter is the answer
    counts -= Counter({"dead.missing": 2, "dead.json": 150})
    part.next["context"] = 251
    assert taken("context", 250, whole) == 0
    assert counts == {"dead.missing": 251, "dead.json": 1}
