"""The ring of recordings: bounded, every file good by itself, going on after errors."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.schema import Settings
from pipeline.app import Plan, ShardBuilder, recording_start
from pipeline.clock import ManualClock
from pipeline.errors import BadInput
from pipeline.messages import NS, Anchor, Chunk, Context, Decision, Rate, Stream
from pipeline.recording.format import DiskFull, RecordingError
from pipeline.recording.reader import read, written
from pipeline.recording.recorder import Start
from pipeline.recording.recover import Recovered, recover
from pipeline.recording.ring import Ring
from pipeline.replay import open_all
from pipeline.state import Store

T = 1_700_000_000 * NS
MIC = Stream("mill", "mic", 3, "acoustic", Rate(48000), 2, "<i2", "FS", 1 / 32768)
SENSOR = {"name": "mic", "modality": "acoustic", "rate_hz": 48_000, "unit": "FS"}
ACC = Stream("mill", "acc", 0, "vibration", Rate(25600), 3, "<f4", "m/s2", 0.1)


def chunk(stream: Stream, k: int) -> Chunk:
    n = stream.rate.num // 10
    return Chunk(stream, Anchor(0, T), k * n, k, np.full((n, stream.channels), k, stream.dtype))


def feed(ring: Ring, stream: Stream, first: int, last: int) -> None:
    for k in range(first, last):
        ring.write(chunk(stream, k), T + (k + 1) * NS // 10)


def test_the_ring_is_bounded_and_never_deletes_the_growing_file(tmp_path: Path) -> None:
    bound = 1_000_000
    ring = Ring(tmp_path, Start(), T, ring_bytes=bound, rotate_bytes=200_000, preroll_s=0.3)
    paths = [ring.path]
    for k in range(0, 200, 5):
        feed(ring, MIC, k, k + 5)
        ring.sync()
        assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= bound
        assert ring.path.with_name(ring.path.name + ".part").exists()
        if ring.rotate_if_due(T + (k + 5) * NS // 10, {"mill": b"%d" % k}):
            paths.append(ring.path)
    ring.close()
    assert len(paths) > 8
    left = sorted(tmp_path.iterdir())
    assert left == paths[-len(left) :]  # the newest, whole
    assert 2 <= len(left) < len(paths)
    for path in left:
        assert list(read(path).snapshots) == ["mill"]


def test_a_new_file_repeats_what_its_first_windows_need(tmp_path: Path) -> None:
    standing = Decision("mill", "d1", T, "baseline", {})
    ring = Ring(tmp_path, Start({"configuration.toml": b"c"}, preroll=[standing]), T, ring_bytes=10**8, preroll_s=0.5)
    rpm = [Context("mill", "spindle_rpm", T + k, float(k)) for k in range(3)]
    for message in rpm:
        ring.write(message, T)
    feed(ring, ACC, 0, 20)
    feed(ring, MIC, 0, 30)
    last = max(e.log_ns for e in read_part(ring))
    finished = ring.rotate(Start({"configuration.toml": b"c2"}), T)
    feed(ring, MIC, 30, 31)
    ring.close()
    assert finished and finished != ring.path and not read(finished).damage
    found = list(read(ring.path).messages())
    preroll = [e.message for e in found if e.preroll]
    assert preroll[:2] == [standing, rpm[2]]
    assert [m.n0 for m in preroll[2:] if m.stream == MIC] == [k * 4800 for k in range(25, 30)]
    assert [m.n0 for m in preroll[2:] if m.stream == ACC] == [k * 2560 for k in range(15, 20)]
    assert found[0].log_ns > last
    assert read(ring.path).attachments == {"configuration.toml": b"c2"}


def test_a_new_file_does_not_repeat_what_was_decided_long_ago(tmp_path: Path) -> None:
    """A fact told every 30 s is given up and taken back each time; a month of it would fill every file."""
    said = [
        Decision("mill", f"{k}", T + k * 15 * NS, "abandon" if k % 2 == 0 else "return", {"context": "state"})
        for k in range(800)
    ]
    store = Store(tmp_path / "state.sqlite")
    for decision in (Decision("mill", "b", T, "baseline", {}), *said[:300]):
        store.decide(decision)
    settings = Settings.model_validate({"schema_version": 1, "machine": [{"name": "mill", "sensor": [SENSOR]}]})
    plan = Plan(settings, (), store.path)
    assert len(recording_start(plan, store, None).preroll) == 301  # for a recording that takes none on its way
    start = recording_start(plan, store)
    assert [one.id for one in start.preroll] == ["b", *(f"{k}" for k in range(58, 300))]
    ring = Ring(tmp_path, start, T, ring_bytes=10**8)
    for decision in said[300:]:
        ring.write(decision, T)
    ring.rotate(Start({}), T)
    ring.close()
    assert [e.message.id for e in read(ring.path).messages()] == ["b", *(f"{k}" for k in range(558, 800))]


def read_part(ring: Ring) -> list[Any]:
    ring.sync()
    return list(read(ring.path.with_name(ring.path.name + ".part")).messages())


def test_the_ring_goes_on_in_a_new_file_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, preroll_s=0.1)
    feed(ring, MIC, 0, 3)
    ring.sync()

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ring._recorder._disk, "write", full)
    feed(ring, MIC, 3, 4)
    with pytest.raises(RecordingError):
        ring.sync()
    failed = ring.path
    assert ring.rotate_if_due(T + NS, {})
    feed(ring, MIC, 4, 6)
    ring.close()
    assert ring.failures == 1
    assert [e.message.n0 // 4800 for e in read(failed.with_name(failed.name + ".part")).messages()] == [0, 1, 2]
    again = Ring(tmp_path, Start(), T + 5 * NS, ring_bytes=10**8)
    assert again.adopted[failed].kept == 3 and failed.exists()
    again.close()


@pytest.mark.parametrize("deleted", [False, True])
def test_a_recording_is_read_on_when_the_ring_has_finished_or_deleted_it(tmp_path: Path, deleted: bool) -> None:
    """A replay of hours takes minutes: its newest file gets its name meanwhile, its oldest goes."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8)
    feed(ring, MIC, 0, 20)
    ring.sync()
    growing = read(ring.path.with_name(ring.path.name + ".part"))
    feed(ring, MIC, 20, 30)
    finished = ring.rotate(Start(), T + 3 * NS)
    ring.close()
    if deleted:
        finished.unlink()
    for _ in range(2):
        assert [e.message.seq for e in growing.messages()] == list(range(30))
        assert growing.damage is None
    gone = growing.path
    del growing
    with pytest.raises(RecordingError):
        read(gone)


def test_copies_under_other_names_come_in_the_order_of_what_they_hold(tmp_path: Path) -> None:
    """Sorted by name, noon comes before nine."""
    ring = Ring(tmp_path / "ring", Start(), T, ring_bytes=10**8)
    finished: list[Any] = []
    for k in range(3):
        feed(ring, MIC, 10 * k, 10 * k + 10)
        finished.append(ring.rotate(Start(), T + (k + 1) * NS))
    ring.close()
    names = ["monday-9h", "monday-12h", "monday-15h"]
    kept = tmp_path / "kept"
    kept.mkdir()
    for path, name in zip(finished, names, strict=True):
        shutil.copy(path, kept / f"{name}.mcap")
    shutil.copy(ring.path, kept)
    opened = open_all([kept])
    assert [recording.path.stem for recording in opened[:3]] == names
    assert opened[3].path.name == ring.path.name


def test_what_a_file_repeats_does_not_fill_it(tmp_path: Path) -> None:
    """Else a ring whose files are small beside six seconds would begin a new one every second."""
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8, rotate_bytes=200_000, preroll_s=6.0)
    files = 1
    for k in range(200):
        feed(ring, MIC, k, k + 1)
        ring.sync()
        files += ring.rotate_if_due(T + (k + 1) * NS // 10, {})
    ring.close()
    assert files == pytest.approx(200 * 19_200 / 200_000, abs=4)


def test_the_folder_is_looked_at_when_room_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with every sync: it may hold thousands of files."""
    ring, looks, own, beyond = Ring(tmp_path, Start(), T, ring_bytes=500_000), [], Ring._own, 0
    monkeypatch.setattr(Ring, "_own", lambda self: looks.append(1) or own(self))
    for k in range(40):
        feed(ring, MIC, k, k + 1)
        beyond += ring.sync().nbytes > 500_000
    ring.close()
    assert len(looks) == beyond > 5


def test_a_ring_leaves_files_alone_that_another_process_writes(tmp_path: Path) -> None:
    first = Ring(tmp_path, Start(), T, ring_bytes=10**8)
    second = Ring(tmp_path, Start(), T, ring_bytes=10**8)
    assert second.adopted == {} and second.path != first.path
    feed(first, MIC, 0, 2)
    first.close()
    second.close()
    assert len(list(read(first.path).messages())) == 2


def test_a_message_that_is_refused_does_not_come_back_in_the_next_file(tmp_path: Path) -> None:
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8)
    feed(ring, MIC, 0, 2)
    with pytest.raises(BadInput):
        ring.write(replace(chunk(MIC, 2), samples=np.zeros((3, 1), "<i2")), T)
    ring.rotate(Start(), T + NS)
    ring.close()
    assert [e.message.seq for e in read(ring.path).messages()] == [0, 1]


def test_a_folder_that_cannot_hold_recordings_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordingError, match="cannot hold recordings"):
        Ring(tmp_path / "file", Start(), T, ring_bytes=10**6)


SHARED: dict[str, Any] = {"ring_bytes": 4_000_000, "rotate_bytes": 200_000, "preroll_s": 0.1}
NAMES = [f"shard-{i}" for i in range(4)]


def shared(folder: Path, count: int, now_ns: int = T) -> list[Ring]:
    """The rings of a run with so many shards, on one folder."""
    names = NAMES[:count]
    return [Ring(folder, Start(), now_ns, prefix=name, shards=names, **SHARED) for name in names]


def fill(rings: list[Ring], folder: Path, first: int, last: int) -> int:
    """Let every shard record; returns how large the folder has become at most."""
    most = 0
    for k in range(first, last):
        now = T + (k + 1) * NS // 10
        for ring in rings:
            ring.write(chunk(MIC, k), now)
            if k % 10 == 9:
                ring.sync()
                ring.rotate_if_due(now, {})
        most = max(most, held(folder))
    return most


def held(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def crash(ring: Ring) -> Path:
    """As if its process had died: the growing file is left, and nobody holds its lock."""
    ring.sync()
    ring._recorder._disk.close()
    return ring.path


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (3, 2)])
def test_shards_share_one_bound_also_with_those_of_earlier_runs(tmp_path: Path, before: int, after: int) -> None:
    bound, a_second = SHARED["ring_bytes"], 250_000  # of one shard, until it next makes room; and a preroll
    rings = shared(tmp_path, before)
    most = fill(rings, tmp_path, 0, 250)
    assert bound * 0.8 < most <= bound + before * a_second
    for ring in rings:
        ring.close()
    rings = shared(tmp_path, after, T + 100 * NS)
    assert held(tmp_path) <= bound + after * a_second
    most = fill(rings, tmp_path, 1000, 1250)
    assert bound * 0.8 < most <= bound + after * a_second
    for ring in rings:
        ring.close()
    kept = {path.name.rpartition("-")[0] for path in tmp_path.iterdir()}
    assert kept == set(NAMES[:after])  # the oldest went first, so those of the earlier run are gone
    assert all(not read(path).damage for path in tmp_path.iterdir())


def test_the_oldest_goes_first_whoever_wrote_it(tmp_path: Path) -> None:
    rings = shared(tmp_path, 4)
    fill(rings, tmp_path, 0, 100)
    for ring in rings:
        ring.close()
    stamps = sorted(path.name.rpartition("-")[2] for path in tmp_path.iterdir())
    ring = Ring(tmp_path, Start(), T + 100 * NS, ring_bytes=1_500_000, prefix="shard-0", shards=["shard-0"])
    left = sorted(path.name.rpartition("-")[2] for path in tmp_path.glob("*.mcap"))
    assert 2 < len(left) < len(stamps)
    assert left == stamps[-len(left) :]
    ring.close()


def test_a_run_with_an_earlier_clock_does_not_delete_what_it_records(tmp_path: Path) -> None:
    """Three starts of a box: with its clock years ahead, then right twice. The oldest goes, whatever its name says."""
    made: list[Any] = []
    for start, clock in enumerate((T + 10**9 * NS, T, T + 3600 * NS)):
        ring = Ring(tmp_path, Start(), clock, ring_bytes=4_000_000, rotate_bytes=400_000, preroll_s=0.1)
        for k in range(10 * start, 10 * start + 150):
            ring.write(chunk(MIC, k), clock + k * NS // 10)
            ring.sync()
            if not made or made[-1] != ring.path.name:
                made.append(ring.path.name)
            ring.rotate_if_due(clock + k * NS // 10, {})
        ring.close()
        made.append(ring.path.name)
        made = list(dict.fromkeys(made))
        assert len(left := {path.name for path in tmp_path.iterdir()}) >= 6
        assert left == set(made[-len(left) :])
    assert made != sorted(made)
    assert [path.name for path in sorted(tmp_path.iterdir(), key=written)] == made[-len(left) :]


def test_what_a_shard_of_an_earlier_run_left_unfinished_is_repaired_by_the_first_alone(tmp_path: Path) -> None:
    rings = shared(tmp_path, 3)
    fill(rings, tmp_path, 0, 5)
    dead = crash(rings[1])
    growing = rings[2].path.with_name(rings[2].path.name + ".part")  # of a process that outlives its engine
    rings[0].close()
    names = ["shard-0", "shard-3", "shard-20"]  # no shard-1, no shard-2
    others = [Ring(tmp_path, Start(), T + NS, prefix=name, shards=names, **SHARED) for name in names[1:]]
    assert not dead.exists() and all(ring.adopted == {} for ring in others)
    again = Ring(tmp_path, Start(), T + NS, prefix=names[0], shards=names, **SHARED)
    assert {path: found.kept for path, found in again.adopted.items()} == {dead: 5}
    assert len(list(read(dead).messages())) == 5 and not read(dead).damage
    fill([again, *others], tmp_path, 20, 150)
    assert growing.exists() and not dead.exists()
    rings[2].close()
    for ring in [again, *others]:
        ring.close()
    assert growing.with_suffix("").exists()


def test_files_that_no_shard_has_named_are_left_alone(tmp_path: Path) -> None:
    (kept,) = fill_one(tmp_path)
    mine = [tmp_path / name for name in ("kept-" + kept.name, kept.name.replace("shard-3", "rec-3"), "shard-9.mcap")]
    for path in mine:
        path.write_bytes(kept.read_bytes())
    ring = Ring(tmp_path, Start(), T + 10 * NS, ring_bytes=4, prefix="shard-0", shards=["shard-0"])
    ring.close()
    assert sorted(tmp_path.iterdir()) == sorted([*mine, ring.path])


def fill_one(folder: Path) -> list[Path]:
    ring = Ring(folder, Start(), T, ring_bytes=10**6, prefix="shard-3", shards=NAMES)
    feed(ring, MIC, 0, 3)
    ring.close()
    return list(folder.iterdir())


def test_an_orphan_beyond_repair_does_not_stop_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rings = shared(tmp_path, 2)
    fill(rings, tmp_path, 0, 5)
    dead = crash(rings[1])
    rings[0].close()

    def full(damaged: Path, repaired: Path) -> None:
        raise RecordingError(f"{repaired}: cannot be written: No space left on device")

    monkeypatch.setattr("pipeline.recording.recover.recover", full)
    (ring,) = shared(tmp_path, 1, T + NS)
    assert (ring.failures, ring.adopted) == (1, {})
    assert dead.with_name(dead.name + ".part").exists()
    ring.close()


def test_the_oldest_goes_for_the_repair_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = 2_000_000
    ring = Ring(tmp_path, Start(), T, ring_bytes=bound, rotate_bytes=400_000, preroll_s=0.1)
    made = [ring.path]
    for k in range(95):
        feed(ring, MIC, k, k + 1)
        ring.sync()
        if ring.rotate_if_due(T + (k + 1) * NS // 10, {}):
            made.append(ring.path)
    crash(ring)
    before = held(tmp_path)

    def on_a_full_disk(damaged: Path, repaired: Path) -> Recovered:
        if before - held(tmp_path) < damaged.stat().st_size:
            raise DiskFull(f"{repaired}: cannot be written: No space left on device")
        return recover(damaged, repaired)

    monkeypatch.setattr("pipeline.recording.recover.recover", on_a_full_disk)
    ring = Ring(tmp_path, Start(), T + 100 * NS, ring_bytes=bound, rotate_bytes=400_000)
    assert list(ring.adopted) == made[-1:] and ring.failures == 0
    assert [path.exists() for path in made] == [False, *[True] * (len(made) - 1)]
    ring.close()


def test_a_configuration_gives_every_shard_its_share(tmp_path: Path) -> None:
    recording = {"folder": tmp_path / "rec", "ring_bytes": 10_000_000}
    machine = {"name": "mill", "sensor": [SENSOR]}
    said = {"schema_version": 1, "engine": {"shards": 4}, "recording": recording, "machine": [machine]}
    settings = Settings.model_validate(said)
    build = ShardBuilder(Plan(settings, (), tmp_path / "state.sqlite"), ManualClock(T), record=True)
    orphan = tmp_path / "rec" / "shard-7-20200101T000000.000000000Z.mcap"
    orphan.parent.mkdir()
    orphan.write_bytes(bytes(3_000_000))
    shards = []
    for name in reversed(NAMES):
        assert orphan.exists()
        shards.append(build(name, []))
    assert not orphan.exists()  # 3 MB are more than the 2.5 MB of the first shard
    for shard in shards:
        shard.close()
