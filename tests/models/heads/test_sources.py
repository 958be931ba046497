"""Where labels come from besides a CSV: folders, and what the machine told while it was recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.packages import load
from pipeline.cli.main import main
from pipeline.cli.tracks import sources_told
from pipeline.messages import Anchor, Chunk, Context, Mark, Rate, Stream
from pipeline.recording.recorder import Recorder, Start
from tests.models.heads.test_command import TONES, run
from tests.models.probe.rig import sound

T0 = 1_700_000_000_000_000_000
S = 1_000_000_000


def recording(
    path: Path, told: list[tuple[float, float | str]], fact: str = "state", seconds: int = 14, repeated: int = 0
) -> Path:
    """Seconds of a microphone, the first half idle; what the machine told, at seconds of the recording.

    The first `repeated` of them belong to the file before.
    """
    stream = Stream("mill", "mic", 0, "acoustic", Rate(16_000), 1, "<i2", "FS", 1 / 32768)
    t = np.arange(16_000) / 16_000

    def chunk(s: int) -> Chunk:
        f = TONES["idle"] if s < seconds // 2 else TONES["cutting"]
        x = (8000 * np.sin(2 * np.pi * f * t) + np.random.default_rng(s).normal(0, 300, 16_000)).astype("<i2")
        return Chunk(stream, Anchor(0, T0), 16_000 * s, s, x[:, None])

    before = [Context("mill", fact, T0 + round(at * S), value) for at, value in told if at < 0]
    with Recorder(path, Start(preroll=[*before, *map(chunk, range(repeated))]), T0) as recorder:
        for s in range(repeated, seconds):
            for at, value in told:
                if s <= at < s + 1:
                    recorder.write(Context("mill", fact, T0 + round(at * S), value), T0 + s * S)
            recorder.write(chunk(s), T0 + s * S)
        end = seconds * 16_000
        recorder.write(Mark(stream, Anchor(0, T0), end, end, "end"), T0 + seconds * S)
    return path


def sounded(*args: object) -> int:
    """The exit code of stethos train sound."""
    with pytest.raises(SystemExit) as stop:
        main(["train", "sound", *map(str, args)])
    return int(stop.value.code or 0)


def test_what_the_machine_told_labels_its_recording(tmp_path: Path) -> None:
    """What stood before the file begins counts from its first sample, the last one to its end; a blink is left out."""
    r = recording(tmp_path / "r.mcap", [(-60.0, "idle"), (7.0, "cutting"), (12.0, "idle"), (12.3, "cutting")])
    assert run("--audio", r, "--fact", "state", "--encoder", "logmel", "--out", tmp_path / "h") == 0
    training = load(tmp_path / "h").card.training
    assert training["clips"] == {"cutting": 7, "idle": 7}  # 5 s, and 1.7 s with its rest filled up
    assert "r.mcap: 1 stretches of under 0.5 s were left out" in training["notes"]
    assert training["groups"] == ["r.mcap"]


def test_what_the_file_before_holds_teaches_there(tmp_path: Path) -> None:
    """Seconds that a recording repeats of the one before it would teach twice, as two occasions."""
    r = recording(tmp_path / "r.mcap", [(-60.0, "idle"), (7.0, "cutting")], repeated=2)
    assert run("--audio", r, "--fact", "state", "--encoder", "logmel", "--out", tmp_path / "h") == 0
    assert load(tmp_path / "h").card.training["clips"] == {"cutting": 7, "idle": 5}


def stretches(path: Path) -> list[tuple[float, float | None, str]]:
    """From when to when each state labels the recording."""
    found, _ = sources_told(path, "state", "")
    return [(s.row.start_s, s.row.end_s, s.row.label) for s in found]


def test_what_is_told_four_times_a_second_is_one_stretch(tmp_path: Path) -> None:
    """As tell-the-state.md asks for."""
    told: list[tuple[float, float | str]] = [(i / 4, "idle" if i < 28 else "cutting") for i in range(56)]
    assert stretches(recording(tmp_path / "r.mcap", told)) == [(0.0, 7.0, "idle"), (7.0, 14.0, "cutting")]


def test_a_teller_that_repeats_itself_and_falls_silent_tells_nothing_any_more(tmp_path: Path) -> None:
    """After ten seconds, as for a running machine; of one that tells changes alone nobody expects a word."""
    told: list[tuple[float, float | str]] = [(i / 4, "idle") for i in range(9)]
    assert stretches(recording(tmp_path / "r.mcap", told)) == [(0.0, 12.0, "idle")]
    later: list[tuple[float, float | str]] = [*told, (12.5, "cutting"), (12.75, "cutting")]
    assert stretches(recording(tmp_path / "l.mcap", later)) == [(0.0, 12.0, "idle"), (12.5, 14.0, "cutting")]
    assert stretches(recording(tmp_path / "c.mcap", [(0.0, "idle")])) == [(0.0, 14.0, "idle")]


def test_the_last_word_of_a_moment_holds_and_an_empty_one_labels_nothing(tmp_path: Path) -> None:
    """Clocks of controls may tick in whole seconds; an empty text is how some say that they do not know."""
    r = recording(tmp_path / "r.mcap", [(0.0, "idle"), (5.0, "ready"), (5.0, "cutting"), (9.0, " ")])
    assert stretches(r) == [(0.0, 5.0, "idle"), (5.0, 9.0, "cutting")]


def test_numbers_are_labels_too(tmp_path: Path) -> None:
    """A spindle's speeds."""
    r = recording(tmp_path / "r.mcap", [(0.0, 0.0), (7.0, 12_000.0)], "spindle_rpm")
    assert run("--audio", r, "--fact", "spindle_rpm", "--encoder", "logmel", "--out", tmp_path / "h") == 0
    assert load(tmp_path / "h").card.labels == ("0", "12000")


def test_facts_that_label_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what there is."""
    r = recording(tmp_path / "r.mcap", [(0.0, "idle")], seconds=2)
    late = recording(tmp_path / "late.mcap", [(1.8, "idle")], seconds=2)
    sound(tmp_path / "a.wav", 2.0, 300.0)
    for audio, fact, says in (
        (r, "tool", "'tool' is no fact of mill, which told only of state: name one by --fact"),
        (late, "state", "no 'state' lasted 0.5 s while mic was heard"),
        (tmp_path / "a.wav", "state", "a.wav: no MCAP recording"),
        (r, "state", "a head tells classes apart"),
    ):
        assert run("--audio", audio, "--fact", fact, "--encoder", "logmel", "--out", tmp_path / "h") == 2
        assert says in " ".join(capsys.readouterr().err.split())
    assert run("--fact", "state", "--out", tmp_path / "h") == 2
    assert "--fact takes labels from --audio" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "h").exists()


def test_a_recording_becomes_a_sound_file_of_the_same_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gaps are silence, so that what is labelled in the one is what the other holds; nothing is overwritten."""
    stream = Stream("mill", "mic", 0, "acoustic", Rate(16_000), 1, "<i2", "FS", 1 / 32768)
    x = np.random.default_rng(0).integers(-9000, 9000, (5, 16_000, 1)).astype("<i2")
    with Recorder(tmp_path / "r.mcap", Start(), T0) as recorder:
        for s in (0, 1, 4):
            recorder.write(Chunk(stream, Anchor(0, T0), 16_000 * s, s, x[s]), T0 + s * S)
        recorder.write(Mark(stream, Anchor(0, T0), 80_000, 80_000, "end"), T0 + 5 * S)
    out = tmp_path / "r.flac"
    assert sounded(tmp_path / "r.mcap", "--out", out) == 0
    got, rate = soundfile.read(out, dtype="int16", always_2d=True)
    assert (rate, got.shape) == (16_000, (80_000, 1))
    wanted = x.reshape(-1, 1).astype(np.int32)
    wanted[32_000:64_000] = 0
    assert np.abs(got - wanted).max() <= 1  # rounded: full scale of a sound file is 32,767
    for more, says in (
        (("--out", out), "exists already"),
        (("--out", tmp_path / "r.ogg"), "must end in .flac or .wav"),
        (("--sensor", "mill/mike", "--out", tmp_path / "n.wav"), "holds mill/mic; name one with --sensor"),
    ):
        assert sounded(tmp_path / "r.mcap", *more) == 2
        assert says in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("n.*"))


@pytest.mark.parametrize(
    ("second", "name", "says"),
    [
        ((2, 1, 16_000, 2), "r.flac", "the number of channels changed within it"),
        ((9, 9, 16_000, 1), "r.flac", "cannot be written"),
        ((1, 1, 48_000, 86_400), "r.wav", "reaches over 24.0 h, for which .wav has no room"),
        ((1, 1, 16_000, 50 * 365 * 86_400), "r.flac", "reaches over 438000.0 h"),
    ],
    ids=["stereo later", "nine channels", "a day", "a clock that was set"],
)
def test_what_no_sound_file_can_hold_is_refused_and_leaves_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], second: tuple[int, int, int, int], name: str, says: str
) -> None:
    """Before a disk is full of silence, and so that the command can be given again."""
    channels, before, rate, later_s = second
    with Recorder(tmp_path / "r.mcap", Start(), T0) as recorder:
        for epoch, (n, at_s) in enumerate(((before, 0), (channels, later_s))):
            stream = Stream("mill", "mic", epoch, "acoustic", Rate(rate), n, "<i2", "FS", 1 / 32768)
            x = np.ones((rate, n), "<i2")
            recorder.write(Chunk(stream, Anchor(0, T0 + at_s * S), 0, epoch, x), T0 + epoch * S)
    assert sounded(tmp_path / "r.mcap", "--out", tmp_path / name) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["r.mcap"]


def test_a_folder_of_labels_teaches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Folders of occasions are groups, so that there is a figure; files side by side are one occasion, without.

    An interval from fewer than five occasions is said to promise too much.
    """
    for label, tone in TONES.items():
        for day in range(3):
            sound(tmp_path / "days" / f"{label}-{day}.wav", 3.0, tone, seed=day)
    for path in sorted((tmp_path / "days").glob("*.wav")):
        label, _, occasion = path.stem.partition("-")
        x, rate = soundfile.read(path)
        for place in (tmp_path / "a" / label / f"{label} {occasion}", tmp_path / "b" / label):
            place.mkdir(parents=True, exist_ok=True)
            soundfile.write(place / path.name, x, rate)
    assert run("--manifest", tmp_path / "a", "--encoder", "logmel", "--out", tmp_path / "grouped") == 0
    assert "A class has fewer than five groups" in capsys.readouterr().out
    assert run("--manifest", tmp_path / "b", "--encoder", "logmel", "--out", tmp_path / "flat") == 0
    assert "another day may lie outside of them" in (tmp_path / "grouped.html").read_text("utf-8")
    assert load(tmp_path / "grouped").card.scores["evaluation"]["mean_f1"]
    assert load(tmp_path / "flat").card.scores["evaluation"] == "none, one occasion only"
