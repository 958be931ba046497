"""Full disks and folders that cannot be written: what is watched goes on, what must be durable says so and waits."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from config.schema import Evidence
from connectors.jsonl import JsonLinesSink
from pipeline.delivery import Delivery
from pipeline.errors import StateError, StethosError
from pipeline.evidence import EvidenceSink, index
from pipeline.messages import NS
from pipeline.recording.reader import read
from pipeline.recording.recorder import Start
from pipeline.recording.ring import Ring
from pipeline.state import Store
from tests.connectors.result_records import alarm
from tests.engines.scenarios import T0, chunks
from tests.faults.conftest import Disk
from tests.faults.rig import ACC, Plant, good, lane, plant, signal, unnoticed

RING = {"ring_bytes": 20_000_000, "rotate_s": 3600.0}


def step(made: Plant, messages: list) -> None:
    """A tenth of a second."""
    for message in messages:
        made.shard.take(message)
    made.clock.sleep(0.1)
    made.shard.tick()


def test_a_full_disk_for_recordings_stops_no_machine(tmp_path: Path, disk: Disk) -> None:
    """No position moves while nothing is recorded; with space again, the next file begins by itself."""
    ring = Ring(disk.folder / "rec", Start(), T0, **RING)  # type: ignore[arg-type]
    made = plant(tmp_path, lane(ACC), tap=ring)
    ours, theirs = chunks(ACC, signal(ACC)), good()
    places = []
    for k in range(80):
        if k == 30:
            disk.fill()
        if k == 55:
            disk.free()
        step(made, [ours[k], theirs[k]])
        position = made.store.positions().get(("m", "acc"))
        places.append(position.n if position else 0)
    made.shard.close()
    assert places[29] > 0
    assert len(set(places[31:55])) == 1, "a position moved while its samples were not recorded"
    assert places[75] > places[54]
    assert unnoticed(made)
    page = made.metrics()
    assert page("stethos_engine_events_total", shard="shard-0", kind="recording", reason="failed") >= 25
    newest = read(max((disk.folder / "rec").glob("*.mcap")))
    last = [m.message for m in newest.messages()][-1]
    assert (last.t1_ns - T0) / NS == pytest.approx(8.0)
    assert newest.damage is None


def test_a_disk_that_is_still_full_after_a_kill_stops_no_start(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    """What was left is kept for a later start; nothing heaps up; with space, a file begins by itself."""
    folder = disk.folder / "rec"
    ring = Ring(folder, Start(), T0, **RING)  # type: ignore[arg-type]
    for message in chunks(ACC, signal(ACC))[:30]:
        ring.write(message, T0)
    ring.sync()
    ring._growing._disk.close()  # its process dies
    before = [path.name for path in folder.iterdir()]
    disk.fill()
    ring = Ring(folder, Start(), T0 + NS, **RING)  # type: ignore[arg-type]
    assert (ring.failures, ring.adopted) == (2, {})
    assert "is not repaired" in caplog.messages[0] and "are watched without a recording" in caplog.messages[1]
    made = plant(tmp_path, lane(ACC), tap=ring)
    ours, theirs = chunks(ACC, signal(ACC)), good()
    for k in range(80):
        if k == 50:
            assert [path.name for path in folder.iterdir()] == before
            disk.free()
        step(made, [ours[k], theirs[k]])
    made.shard.close()
    assert unnoticed(made)
    assert made.metrics()("stethos_engine_events_total", shard="shard-0", kind="recording", reason="failed") >= 50
    assert [m.message for m in read(ring.path).messages()][-1].t1_ns == T0 + 8 * NS
    again = Ring(folder, Start(), T0 + 100 * NS, **RING)  # type: ignore[arg-type]
    assert [found.kept for found in again.adopted.values()] == [30]
    again.close()


def test_a_full_disk_for_the_state_loses_no_result(disk: Disk) -> None:
    """Results wait in memory and are durable, each once, when there is space again; positions and alarms too."""
    made = plant(disk.folder, lane(ACC))
    ours, theirs = chunks(ACC, signal(ACC)), good()
    for k in range(80):
        if k == 10:
            disk.fill()
        if k == 60:
            assert not any(b.get("transition") == "raised" for b in made.witness())
            assert made.shard.counts["state.failed"] > 20
            disk.free()
        step(made, [ours[k], theirs[k]])
    made.shard.close()
    assert unnoticed(made)
    assert made.metrics()("stethos_engine_events_total", shard="shard-0", kind="state", reason="failed") > 20
    assert made.store.positions()["witness", "acc"].n > 14_000


def test_a_state_that_stays_full_ends_the_shard_with_a_clear_error(disk: Disk) -> None:
    """After a minute: the service manager starts anew, and everything since the last position comes again."""
    made = plant(disk.folder, lane(ACC))
    made.shard.checkpoint()
    disk.fill()
    step(made, list(good()[:30]))
    made.clock.sleep(59)
    made.shard.tick()
    made.clock.sleep(2)
    with pytest.raises(StateError, match=r"state\.sqlite: .*(full|I/O).*free space"):
        made.shard.tick()
    with pytest.raises(StateError):
        made.shard.close()
    disk.free()
    assert made.store.positions() == {}
    again = plant(disk.folder, lane(ACC))
    again.feed(chunks(ACC, signal(ACC)))
    assert unnoticed(again)


def test_a_state_that_cannot_be_opened_names_itself(tmp_path: Path) -> None:
    """A folder that is a file."""
    (tmp_path / "state").write_text("no folder")
    with pytest.raises(StateError, match="state"):
        Store(tmp_path / "state" / "stethos.sqlite")


def test_a_state_that_another_program_locks_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that holds the file: counted, and nothing is lost."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout, **more: connect(path, timeout=0.01, **more))
    made = plant(tmp_path, lane(ACC))
    made.shard.checkpoint()
    other = connect(made.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for k in range(40):
        step(made, [good()[k]])
    assert made.shard.counts["state.failed"] > 0
    other.execute("ROLLBACK")
    other.close()
    for k in range(40, 80):
        step(made, [good()[k]])
    made.shard.close()
    assert unnoticed(made)


def test_evidence_waits_for_space(tmp_path: Path, disk: Disk) -> None:
    """The alarm stands; its pictures follow, and other sinks do not wait for them."""
    ring = Ring(tmp_path / "rec", Start(), T0, **RING)  # type: ignore[arg-type]
    made = plant(tmp_path, lane(ACC), tap=ring)
    made.feed([])
    made.shard.close()
    folder = disk.folder / "evidence"
    settings = Evidence(folder=folder, before_s=1.0, after_s=0.5)
    sink = EvidenceSink(tmp_path / "rec", settings, [lane(ACC), lane(good()[0].stream)])
    delivery = Delivery(sink, made.path, ("alarm",), "evidence")
    disk.fill()
    assert delivery.drain(made.store) >= 1.0
    assert delivery.counts == {"busy": 1}
    assert "No space left" in delivery.error
    assert index(folder) == {}
    disk.free()
    delivery.drain(made.store)
    raised = [b["alarm"] for b in made.witness() if b.get("transition") == "raised"]
    assert set(index(folder)) == set(raised)
    assert delivery.error == ""


def test_lines_of_results_are_never_torn(tmp_path: Path, disk: Disk) -> None:
    """A disk that fills up in the middle of a batch: whole lines before, all lines after."""
    made = plant(tmp_path, lane(ACC))
    made.feed(chunks(ACC, signal(ACC)))
    path = disk.folder / "out" / "results.jsonl"
    delivery = Delivery(JsonLinesSink(path), made.path, ("score", "alarm"), "jsonl")
    path.parent.mkdir()
    path.write_text('{"id":"before"}\n')
    disk.fill()
    if (disk.folder / "filler").exists():  # leave room for a part of the batch only
        with (disk.folder / "filler").open("ab") as filler:
            filler.truncate((disk.folder / "filler").stat().st_size - 4096)
    delivery.drain(made.store)
    assert delivery.counts["busy"] == 1
    assert path.read_text() == '{"id":"before"}\n'
    disk.free()
    delivery.drain(made.store)
    ids = [json.loads(line)["id"] for line in path.read_text().splitlines()]
    assert ids[1:] == [r.id for r in made.store.read(0, ("score", "alarm"), 10_000)]


def test_evidence_of_the_last_moment_is_what_was_recorded(tmp_path: Path) -> None:
    """A run that ends waits for no sound that will never come, and the files say what is missing."""
    ring = Ring(tmp_path / "rec", Start(), T0, **RING)  # type: ignore[arg-type]
    made = plant(tmp_path, lane(ACC), tap=ring)
    made.feed([])
    made.shard.close()
    folder = tmp_path / "evidence"
    settings = Evidence(folder=folder, before_s=1.0, after_s=60.0)
    sink = EvidenceSink(tmp_path / "rec", settings, [lane(ACC), lane(good()[0].stream)])
    delivery = Delivery(sink, made.path, ("alarm",), "evidence")
    delivery.drain(made.store)
    assert delivery.counts == {} and delivery.error == "" and index(folder) == {}
    delivery.start()
    delivery.stop()
    assert delivery.error == ""
    found = index(folder)
    assert found and all(body["parts"] and body["missing"] for body in found.values())


@pytest.mark.parametrize("folder", ["recordings", "state", "evidence"])
def test_an_unwritable_folder_is_named_when_it_is_needed(tmp_path: Path, folder: str) -> None:
    """Nothing can be made beneath a file: the error says which folder, whoever runs this."""
    (tmp_path / folder).write_text("a file")
    where = tmp_path / folder / "below"
    if folder == "evidence":
        sink = EvidenceSink(tmp_path, Evidence(folder=where), [])
        sink._sensors = {"m": []}
        record = replace(alarm(1, T0, "raised", 0, T0), machine="m")
        with pytest.raises(StethosError, match="below"):
            sink.write([record])
        return
    begin = Ring if folder == "recordings" else _store
    with pytest.raises(StethosError, match="below"):
        begin(where, Start(), T0, **RING)  # type: ignore[arg-type]


def _store(where: Path, *_: object, **__: object) -> Store:
    return Store(where / "stethos.sqlite")
