from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import pipeline.clips
from connectors.files import open_recording
from pipeline.clips import MARGIN_S, Piece, read_clip
from pipeline.errors import BadInput
from pipeline.manifest import Row
from pipeline.messages import NS, Rate, Segment


def row(path: Path, modality: Any = "vibration", **more: Any) -> Row:
    return Row(path.name, path, "good", "g", "m", "s", modality, **more)


def joined(piece: Piece) -> tuple[int, np.ndarray]:
    segments = list(piece.segments())
    assert all(a.n1 == b.n0 for a, b in pairwise(segments))
    return segments[0].n0, np.concatenate([s.x for s in segments])


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_sound_comes_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    x = np.random.default_rng(0).integers(-20_000, 20_000, size=(32_000, 2)).astype(np.int16)
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, x, 16_000, subtype="PCM_16")
    clip = read_clip(row(path, "acoustic"))
    assert (clip.stream.rate, clip.stream.channels, clip.stream.unit) == (Rate(16_000), 2, "FS")
    (piece,) = clip.pieces
    n0, got = joined(piece)
    margin = round(MARGIN_S * 16_000)
    assert n0 == -margin
    np.testing.assert_array_equal(got, np.pad(x / np.float32(32_768), ((margin, margin), (0, 0)), mode="reflect"))


@pytest.mark.parametrize("samples", [10_001, 10_003, 15_000, 20_000, 20_001])
def test_blocks_make_no_difference(tmp_path: Path, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.clips, "BLOCK_S", 1)
    x = np.random.default_rng(1).normal(0, 0.1, size=(samples, 1)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", x, 10_000, subtype="FLOAT")
    n0, got = joined(read_clip(row(tmp_path / "x.wav", "acoustic")).pieces[0])
    after = len(got) + n0 - samples
    assert after >= 1000
    np.testing.assert_array_equal(got, np.pad(x, ((1000, after), (0, 0)), mode="reflect"))


def test_a_second_of_sound_has_room_for_its_window(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.random.default_rng(0).normal(0, 0.1, 48_000), 48_000)
    n0, got = joined(read_clip(row(tmp_path / "x.wav", "acoustic")).pieces[0])
    assert len(got) + n0 >= 49_800 + 1000


def test_windows_of_an_array_are_pieces_in_their_time(tmp_path: Path) -> None:
    x = np.arange(3 * 2000 * 3).reshape(3, 2000, 3).astype(np.int16)
    np.savez(tmp_path / "x.npz", x=x, fs=2000, axes=np.array(["X", "Y", "Z"]))
    clip = read_clip(row(tmp_path / "x.npz", unit="mg"))
    assert [p.t0_ns for p in clip.pieces] == [0, NS, 2 * NS]
    assert clip.seconds == 3
    assert (clip.stream.unit, clip.stream.channels, clip.stream.rate) == ("mg", 3, Rate(2000))
    n0, got = joined(clip.pieces[1])
    np.testing.assert_array_equal(got[-n0 : -n0 + 2000], x[1].astype(np.float32))
    first = next(iter(clip.pieces[1].segments()))
    assert first.anchor.at(0, clip.stream.rate) == NS


@pytest.mark.parametrize("shape", [(4000,), (4000, 2), (1, 4000, 2)])
def test_shapes_of_arrays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones(shape, np.float64))
    clip = read_clip(row(tmp_path / "x.npz", rate=Rate(2000)))
    assert clip.stream.channels == (1 if len(shape) == 1 else 2)
    assert clip.stream.unit == "1"


@pytest.mark.parametrize("header", ["", "x,y\n", "time_s,x,y\n", "Time (s),x,y\n", "Time[ms] ,x,y\n"])
def test_csv_with_and_without_a_header(tmp_path: Path, header: str) -> None:
    x = np.random.default_rng(0).normal(size=(300, 2))
    time = header.lower().startswith("time")
    lines = [",".join(map(repr, ([i / 100] if time else []) + v)) for i, v in enumerate(x.tolist())]
    (tmp_path / "x.csv").write_text(header + "\n".join(lines) + "\n")
    clip = read_clip(row(tmp_path / "x.csv", rate=Rate(100)))
    assert clip.stream.channels == 2
    n0, got = joined(clip.pieces[0])
    np.testing.assert_array_equal(got[-n0 : -n0 + 300], x.astype(np.float32))


def test_cells_in_quotes_are_numbers_and_names(tmp_path: Path) -> None:
    lines = ['"time_s","Acc, x","y"', *(f'"{i / 100}","{i % 7}",{i % 3}' for i in range(200))]
    (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    clip = read_clip(row(tmp_path / "x.csv", rate=Rate(100)))
    n0, got = joined(clip.pieces[0])
    np.testing.assert_array_equal(got[-n0 : -n0 + 200, 0], np.arange(200) % 7)
    assert clip.stream.channels == 2


@pytest.mark.parametrize("header", ["", ",x\n", "sample,x\n", "T (°C),x\n"])
def test_a_time_or_an_index_without_its_name_is_no_channel(tmp_path: Path, header: str) -> None:
    x = np.random.default_rng(0).normal(size=300)
    for step in (1, 1 / 300):  # rounded times do not rise by quite the same step
        lines = [f"{round(i * step, 3)},{v}" for i, v in enumerate(x)]
        (tmp_path / "x.csv").write_text(header + "\n".join(lines) + "\n")
        with pytest.raises(BadInput, match="head it 'time_s' or remove it"):
            read_clip(row(tmp_path / "x.csv", rate=Rate(100)))


def test_a_part_of_a_file_keeps_the_time_of_the_file(tmp_path: Path) -> None:
    x = np.arange(10_000, dtype=np.float32)
    np.savez(tmp_path / "x.npz", x=x[:, None], fs=1000)
    soundfile.write(tmp_path / "x.wav", x[:, None] / 32_768, 1000, subtype="FLOAT")
    for name, modality in (("x.npz", "vibration"), ("x.wav", "acoustic")):
        (piece,) = read_clip(row(tmp_path / name, modality, start_s=2.5, end_s=7.0)).pieces
        assert (piece.t0_ns, piece.samples) == (5 * NS // 2, 4500)
        n0, got = joined(piece)
        assert got[-n0, 0] == pytest.approx(x[2500] / (1 if modality == "vibration" else 32_768))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadInput, match="must hold integers or floating point numbers"):
        read_clip(row(tmp_path / "x.npz", rate=Rate(100)))


def bad(tmp_path: Path, name: str, content: Any) -> Path:
    path = tmp_path / name
    if callable(content):
        content(path)
    elif content is not None:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "more", "reason"),
    [
        ("x.wav", None, {}, "missing"),
        ("x.wav", b"RIFFnothing", {}, "truncated"),
        ("x.npz", b"PK\x03\x04", {}, "truncated"),
        ("x.npz", lambda p: np.savez(p, y=np.ones(9)), {}, "format"),
        ("x.npz", lambda p: np.savez(p, x=np.ones((9000, 1))), {}, "rate"),
        ("x.npz", lambda p: np.savez(p, x=np.ones((9000, 1)), fs=500), {"rate": Rate(600)}, "rate"),
        ("x.npz", lambda p: np.savez(p, x=np.ones((2, 2, 2, 2)), fs=1), {}, "format"),
        ("x.npz", lambda p: np.savez(p, x=np.array(["a"]), fs=1), {}, "dtype"),
        ("x.npz", lambda p: np.savez(p, x=np.ones((100, 1)), fs=1000), {}, "short"),
        ("x.npz", lambda p: np.savez(p, x=np.full((1000, 1), np.nan), fs=1000), {}, "not_finite"),
        ("x.npz", lambda p: np.savez(p, x=np.ones((1000, 1)), fs=1000), {"start_s": 4.0}, "short"),
        ("x.npz", lambda p: np.savez(p, x=np.ones((1000, 1)), fs=0), {}, "rate"),
        ("x.npz", lambda p: np.savez(p, x=np.ones((1000, 1)), fs=np.inf), {}, "rate"),
        ("x.npz", b"", {}, "truncated"),
        ("x.npz", lambda p: np.savez(p, x=np.ones((200, 400, 3)), fs=2000), {}, "short"),  # windows of 0.2 s
        ("x.npz", lambda p: np.savez(p, x=np.ones((9000, 1)), fs=1000), {"end_s": 9.6}, "short"),
        ("x.csv", b"1,2\n3\n", {"rate": Rate(1)}, "format"),
        ("x.csv", b"", {"rate": Rate(1)}, "empty"),
        ("x.mp3", b"", {}, "format"),
    ],
)
def test_bad_files_are_refused_with_a_reason(
    tmp_path: Path, name: str, content: Any, more: dict[str, Any], reason: str
) -> None:
    path = bad(tmp_path, name, content)
    with pytest.raises(BadInput) as error:
        read_clip(row(path, "acoustic" if name.endswith("wav") else "vibration", **more))
    assert error.value.reason == reason
    assert name in str(error.value)


def test_a_damaged_file_says_so_while_it_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.r_[np.full(47_000, np.inf), np.zeros(1000)], 48_000, subtype="FLOAT")
    (piece,) = read_clip(row(tmp_path / "x.wav", "acoustic")).pieces
    with pytest.raises(BadInput, match="not finite at frame 0"):
        list(piece.segments())


@pytest.mark.parametrize(("rate", "good"), [(48_000, 48_000), (48_000, 120_000), (16_000, 40_000)])
def test_what_lies_before_the_fault_is_read(tmp_path: Path, rate: int, good: int) -> None:
    """The first frame that is not finite is named, and whole seconds before it are given."""
    x = np.random.default_rng(0).normal(0, 0.1, 5 * rate)
    x[good:] = np.nan
    soundfile.write(tmp_path / "x.wav", x, rate, subtype="FLOAT")
    (piece,) = read_clip(row(tmp_path / "x.wav", "acoustic")).pieces
    read: list[Segment] = []
    with pytest.raises(BadInput, match=f"not finite at frame {good}:"):
        read.extend(piece.segments())
    assert read[-1].n0 + len(read[-1].x) == good // rate * rate


def damaged(path: Path, start: float) -> Path:
    """A FLAC of 20 s of noise whose bytes from a share of it on are others."""
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 320_000), 16_000)
    data = bytearray(path.read_bytes())
    at = round(start * len(data))
    data[at : at + 4000] = bytes(4000)
    path.write_bytes(data)
    return path


def test_a_damaged_or_truncated_flac_is_refused_by_name(tmp_path: Path) -> None:
    path = damaged(tmp_path / "x.flac", 0.5)
    with pytest.raises(BadInput, match=r"x\.flac is ") as error:
        list(read_clip(row(path, "acoustic")).pieces[0].blocks())
    assert error.value.reason == "truncated"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    for start_s in (0.0, 15.0):  # while it is read, and where it is opened
        with pytest.raises(BadInput, match=r"x\.flac is ") as error:
            list(read_clip(row(path, "acoustic", start_s=start_s)).pieces[0].blocks())
        assert error.value.reason == "truncated"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"1,2\n3\n", "row 2 of its numbers has 1 columns, the first one 2"),
        (b"x,y\n1,2\n3,n/a\n", "row 2 of its numbers holds 'n/a', which is no number"),
        (b"x;y\n1;2\n1;a\n", "row 2 of its numbers holds 'a', which is no number"),
    ],
)
def test_a_table_that_is_none_says_where(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(BadInput, match=r"x\.csv") as error:
        read_clip(row(bad(tmp_path, "x.csv", content), rate=Rate(1)))
    assert says in str(error.value)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_U8", "FLOAT"])
def test_a_calibrated_recording_is_in_its_unit(tmp_path: Path, subtype: str) -> None:
    """As it is when a sensor of this unit and scale plays it; without a scale both refuse it."""
    x = np.random.default_rng(0).normal(0, 0.1, 9000)
    soundfile.write(tmp_path / "x.wav", x, 9000, subtype=subtype)
    scale = 20.0 * {"PCM_24": 2.0**-31, "FLOAT": 1.0}.get(subtype, 2.0**-15)
    clip = read_clip(row(tmp_path / "x.wav", "acoustic", unit="Pa", scale=scale))
    assert (clip.stream.unit, clip.stream.scale) == ("Pa", 1.0)
    n0, got = joined(clip.pieces[0])
    np.testing.assert_allclose(got[-n0 : -n0 + 9000, 0], 20.0 * x, atol=20.0 * 2.0**-7 if subtype == "PCM_U8" else 7e-4)
    with pytest.raises(BadInput, match="what a count is worth"):
        read_clip(row(tmp_path / "x.wav", "acoustic", unit="Pa"))


@pytest.mark.parametrize(("dtype", "worth"), [(np.int16, 2.0**-15), (np.float64, 1.0), (np.int64, None)])
def test_numbers_of_full_scale(tmp_path: Path, dtype: type[np.generic], worth: float | None) -> None:
    """Whole numbers of 16 bits have one; of more bits they may be the counts of any converter."""
    np.savez(tmp_path / "x.npz", x=np.full(9000, 100, dtype), fs=9000)
    if worth is None:
        with pytest.raises(BadInput, match="what a count is worth"):
            read_clip(row(tmp_path / "x.npz", unit="FS"))
        worth = 0.5
    clip = read_clip(row(tmp_path / "x.npz", unit="FS", scale=worth))
    assert joined(clip.pieces[0])[1][0, 0] == 100 * worth
    if dtype is not np.int64:
        assert joined(read_clip(row(tmp_path / "x.npz", unit="FS")).pieces[0])[1][0, 0] == 100 * worth


def test_a_column_of_times_must_tell_the_rate(tmp_path: Path) -> None:
    """As a sensor that plays the file wants it; in whatever column it stands."""
    for header, order in (("time_s,x", slice(None)), ("x,time_s", slice(None, None, -1))):
        lines = [",".join([f"{i / 2000}", f"{i % 7}"][order]) for i in range(2000)]
        (tmp_path / "x.csv").write_text(header + "\n" + "\n".join(lines) + "\n")
        clip = read_clip(row(tmp_path / "x.csv", rate=Rate(2000)))
        assert joined(clip.pieces[0])[1].shape[1] == 1
        with pytest.raises(BadInput, match="rate_hz says 1,000 frames a second, the column of times 2,000 a second"):
            read_clip(row(tmp_path / "x.csv", rate=Rate(1000)))


def test_a_label_may_end_a_little_behind_its_recording(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((9000, 1)), fs=1000)
    assert read_clip(row(tmp_path / "x.npz", start_s=8.0, end_s=9.4)).seconds == 1.0


def test_a_rate_that_the_disk_has_damaged_is_said(tmp_path: Path) -> None:
    """Any member of the archive: a sentence in place of the library's error."""
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((100, 3), np.float32), fs=np.float64(2000.0))
    data = bytearray(path.read_bytes())
    data[data.index(np.float64(2000.0).tobytes())] ^= 8
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"a\.npz is truncated or damaged .*copy it again"):
        open_recording(path)
