"""Which sinks a configuration makes, and from where in the log each of them goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from config.schema import Settings
from config.sinks import JournalSinkConfig, SinkConfig
from pipeline.app import plan
from pipeline.clock import ManualClock
from pipeline.messages import NS
from pipeline.outlets import Outlets, configured
from pipeline.state import Store
from tests.connectors.result_records import T0, alarm, score
from tests.engines.scenarios import machine, stream


def deliver(sinks: Sequence[SinkConfig], store: Store) -> list[str]:
    """One after the other delivers what is there; their names."""
    made = configured(sinks, store.path)
    for delivery in made:
        delivery.start()
        delivery.stop()
    return [delivery.name for delivery in made]


def times(path: Path) -> list[int]:
    """Of the results in a file, in seconds."""
    return [(json.loads(line)["t_end_ns"] - T0) // NS for line in path.read_text().splitlines()]


def test_a_sink_goes_on_where_it_was_when_the_order_of_sinks_changes(tmp_path: Path) -> None:
    """One that is put in front is new and gets all that the log has; nobody gets anything twice."""
    store = Store(tmp_path / "state.sqlite")
    a, b, c = (JournalSinkConfig(type="jsonl", path=tmp_path / name, topics=("score",)) for name in "abc")
    for second, sinks in enumerate(([a], [b, a], [c, a, b])):
        store.commit([score(second, T0 + second * NS, 0.5)])
        assert deliver(sinks, store) == [f"jsonl-{number}" for number in range(len(sinks))]
    assert [times(sink.path) for sink in (a, b, c)] == [[0, 1, 2]] * 3


def test_two_sinks_of_one_place_get_each_its_own(tmp_path: Path) -> None:
    """Such as two topics that are told apart; the second one is not told what the first one has had."""
    store, path = Store(tmp_path / "state.sqlite"), tmp_path / "all"
    sinks = [JournalSinkConfig(type="jsonl", path=path, topics=(topic,)) for topic in ("score", "alarm")]
    for second in range(2):
        store.commit([alarm(1, T0 + second * NS, "raised", second, T0), score(2, T0 + second * NS, 0.5)])
        deliver(sinks, store)
    topics = [json.loads(line)["topic"] for line in path.read_text().splitlines()]
    assert topics == ["score", "alarm"] * 2


@pytest.mark.parametrize(
    ("evidence", "recording", "here", "cut"),
    [(True, True, True, True), (False, True, True, False), (True, False, True, False), (True, True, False, False)],
)
def test_evidence_is_cut_where_there_are_recordings_and_it_is_wanted(
    tmp_path: Path, evidence: bool, recording: bool, here: bool, cut: bool
) -> None:
    """Its lag stands in the metrics, beside that of Prometheus itself, which is always there."""
    sensor = machine(stream("acc", "vibration", 2000)).model_dump(mode="json", by_alias=True)["sensor"]
    settings = Settings.model_validate({
        "schema_version": 1, "machine": [{"name": "m", "sensor": sensor}],
        "engine": {"state_dir": tmp_path / "state"},
        "recording": {"folder": tmp_path / "recordings", "enabled": recording},
        "evidence": {"folder": tmp_path / "evidence", "enabled": evidence}, "status": {"enabled": False},
    })  # fmt: skip
    outlets = Outlets(plan(settings), ManualClock(T0), lambda: True, list, evidence=here)
    outlets.store.commit([score(k, T0 + k * NS, 0.5) for k in range(3)])
    outlets.publish({})
    page = outlets.prometheus.render()[0]
    assert b'stethos_sink_lag_records{sink="prometheus"} 3.0' in page
    assert (b'stethos_sink_lag_records{sink="evidence"}' in page) == cut
    assert outlets.close() == [] and outlets.address == ""
    outlets.store.close()
