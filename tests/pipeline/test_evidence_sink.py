"""When evidence is made: as soon as all is recorded that will be, and on a full disk too."""

from __future__ import annotations

import errno
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from config.schema import Evidence, Machine
from connectors.evidence import write_evidence
from pipeline import evidence
from pipeline.errors import SinkBusy, SinkWaits
from pipeline.evidence import GIVE_UP_S, EvidenceSink, index
from pipeline.messages import NS, Alarm, Anchor, Chunk, Image, Mark, Rate, Record, Stream
from pipeline.recording.recorder import Start
from pipeline.recording.ring import Ring
from pipeline.results import record_of
from pipeline.stages import LaneSettings

T = 1_760_000_000 * NS
AFTER_S = Evidence().after_s
MIC = Stream("m", "mic", 0, "acoustic", Rate(8000), 1, "<f4", "FS")
ACC = Stream("m", "acc", 0, "vibration", Rate(2000), 1, "<f4", "m/s2")
SENSORS = [
    {"name": "mic", "modality": "acoustic", "rate_hz": 8000, "unit": "FS"},
    {"name": "acc", "modality": "vibration", "rate_hz": 2000, "unit": "m/s2"},
]


def alarm(at_s: float) -> Record:
    t_ns = T + round(at_s * NS)
    return record_of(Alarm("m", ("mic",), f"d{at_s:g}", t_ns, "raised", 0, t_ns, "warning", "x", 2.0, 1.0, "s"))


class Plant:
    """A machine with a microphone that runs, and perhaps the marks of an accelerometer that does not."""

    def __init__(self, folder: Path, marks: bool, sensors: int = 2, most_bytes: int = 2_000_000_000) -> None:
        ring = Ring(folder / "rec", Start(), T, ring_bytes=100_000_000)
        for k in range(40):
            ring.write(Chunk(MIC, Anchor(0, T), k * 8000, k, np.zeros((8000, 1), "<f4")), T + k * NS)
            if marks:
                ring.write(Mark(ACC, Anchor(0, T), k * 2000, (k + 1) * 2000, "silent"), T + k * NS + 1)
        ring.close()
        machine = Machine.model_validate({"name": "m", "sensor": SENSORS[:sensors]})
        self.folder = folder / "evidence"
        settings = Evidence(folder=self.folder).model_copy(update={"most_bytes": most_bytes})
        self.now_s = 0.0
        self.sink = EvidenceSink(folder / "rec", settings, [LaneSettings(machine)], lambda: self.now_s)

    def write(self, *records: Record) -> float:
        """Deliver until all is made; returns how long that took."""
        began = self.now_s
        while True:
            try:
                self.sink.write(records)
                return self.now_s - began
            except SinkWaits as waits:
                self.now_s += waits.retry_after_s


def test_a_sensor_that_is_told_to_be_silent_is_not_waited_for(tmp_path: Path) -> None:
    """A mark up to the end is all that comes."""
    plant = Plant(tmp_path, marks=True)
    assert plant.write(*(alarm(20 + i) for i in range(5))) == 0.0
    assert all(any("acc" in m and "silent" in m for m in body["missing"]) for body in index(plant.folder).values())


def test_alarms_wait_together_for_a_sensor_of_which_nothing_comes(tmp_path: Path) -> None:
    """Else each one's patience would begin when the one before it ends."""
    plant = Plant(tmp_path, marks=False)
    assert plant.write(*(alarm(20 + i) for i in range(5))) == AFTER_S + GIVE_UP_S
    assert len(index(plant.folder)) == 5
    assert plant.write(alarm(30)) == AFTER_S + GIVE_UP_S


def test_an_alarm_whose_seconds_are_still_to_come_waits(tmp_path: Path) -> None:
    """A mark within the time says nothing of its end."""
    plant = Plant(tmp_path, marks=True)
    with pytest.raises(SinkWaits):
        plant.sink.write([alarm(39)])
    plant.sink.ending()
    plant.sink.write([alarm(39)])
    assert len(index(plant.folder)) == 1


def test_a_box_with_an_earlier_clock_keeps_its_new_evidence(tmp_path: Path) -> None:
    """The evidence of a later time is older all the same, also after another start."""
    plant = Plant(tmp_path, marks=True, sensors=1, most_bytes=600_000)
    plant.write(*(alarm(30 + i / 10) for i in range(20)))
    kept = len(index(plant.folder))
    assert 2 < kept < 20
    plant = Plant(tmp_path / "again", marks=True, sensors=1, most_bytes=600_000)
    plant.folder = tmp_path / "evidence"
    plant.sink._settings = plant.sink._settings.model_copy(update={"folder": plant.folder})
    for i in range(kept):
        plant.write(made := alarm(20 - i / 10))
        assert made.body["alarm"] in index(plant.folder)
    assert all(body["t_ns"] <= T + 20 * NS for body in index(plant.folder).values())


def test_the_folder_is_read_once_unless_somebody_else_has_been_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alarm costs as much among thousands; what was deleted by hand takes no room any more."""
    plant = Plant(tmp_path, marks=True, sensors=1)
    plant.write(alarm(20))
    each = sum(path.stat().st_size for path in plant.folder.iterdir())
    plant.sink._settings = plant.sink._settings.model_copy(update={"most_bytes": round(4.5 * each)})
    reads, read = list[Path](), index
    monkeypatch.setattr(evidence, "index", lambda folder: reads.append(folder) or read(folder))
    for i in range(1, 7):
        plant.write(alarm(20 + i))
    kept = [body["number"] for body in read(plant.folder).values()]
    assert (reads, kept) == ([], [4, 5, 6, 7])
    for body in list(read(plant.folder).values())[1:]:
        for file in (body["file"], body["parts"][0]["sound"]):  # the picture goes with them
            (plant.folder / file).unlink()
    plant.write(alarm(30))
    assert (reads, [body["number"] for body in read(plant.folder).values()]) == ([plant.folder], [4, 5])
    assert len(list(plant.folder.iterdir())) == 2 * 3
    shutil.rmtree(plant.folder)
    plant.write(alarm(31))
    assert len(read(plant.folder)) == 1


def test_a_full_disk_is_left_by_what_may_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be written before something has gone."""
    plant = Plant(tmp_path, marks=True, sensors=1)
    plant.write(*(alarm(20 + i) for i in range(5)))
    held, write = sum(path.stat().st_size for path in plant.folder.iterdir()), write_evidence

    def on_a_full_disk(*args: object, **more: object) -> object:
        if sum(path.stat().st_size for path in plant.folder.iterdir()) >= held:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(evidence, "write_evidence", on_a_full_disk)
    with pytest.raises(SinkBusy, match="No space left"):
        plant.write(alarm(30))
    plant.sink._settings = plant.sink._settings.model_copy(update={"most_bytes": held // 2})  # the next start
    plant.write(alarm(30))
    assert alarm(30).body["alarm"] in index(plant.folder)


def test_a_cameras_frames_before_at_and_after_the_alarm(tmp_path: Path) -> None:
    """The nearest to the beginning, to the alarm, to the end; the operator sees what the machine did."""
    camera = Stream("m", "cam", 0, "frames", Rate(4), 3, "image/png", "image")
    ring = Ring(tmp_path / "rec", Start(), T, ring_bytes=100_000_000)
    out = io.BytesIO()
    Pillow.new("RGB", (4, 4)).save(out, "PNG")
    for k in range(80):
        ring.write(Chunk(MIC, Anchor(0, T), k * 2000, k, np.ones((2000, 1), "<f4")), T + k * NS // 4)
        ring.write(Image(camera, Anchor(0, T), k, k, out.getvalue() + b"%d" % k), T + k * NS // 4 + 1)
    ring.close()
    sensors = [SENSORS[0], {"name": "cam", "modality": "frames", "rate_hz": 4, "unit": "image"}]
    machine = Machine.model_validate({"name": "m", "sensor": sensors})
    folder = tmp_path / "evidence"
    EvidenceSink(tmp_path / "rec", Evidence(folder=folder), [LaneSettings(machine)]).write([alarm(10.1)])
    (body,) = index(folder).values()
    stills = [part for part in body["parts"] if part["sensor"] == "cam"]
    assert [(part["t_ns"] - T) / NS for part in stills] == [5.25, 10.0, 13.0]
    assert [(folder / part["picture"]).read_bytes()[-2:] for part in stills] == [b"21", b"40", b"52"]
    assert [part["sensor"] for part in body["parts"]].count("mic") == 1 and body["missing"] == []
