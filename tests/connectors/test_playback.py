"""Playback of real files: every sample at its index, once, however it is polled and resumed."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from connectors.base import Resume, SourceMessage
from connectors.files import open_recording
from connectors.playback import Playback
from connectors.rates import exact_rate
from connectors.tape import Clip
from pipeline.errors import BadInput, ConfigError, SourceError
from pipeline.messages import NS, Anchor, Chunk, Image, Mark, Rate

NOW = 1_790_000_000 * NS
TONE = (np.arange(20_000) % 30_011 - 15_000).astype("<i2")


def sound(path: Path, x: Any, rate: int = 8000, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, x, rate, subtype=subtype)
    return path


def drain(source: Playback, resume: dict[tuple[str, str], Resume] | None = None) -> list[SourceMessage]:
    source.open(resume or {}, NOW)
    out: list[SourceMessage] = []
    while not source.exhausted:
        out += source.poll(NOW)
    source.close()
    return out


def samples(messages: Sequence[SourceMessage]) -> Any:
    return np.concatenate([message.samples for message in messages if isinstance(message, Chunk)])


def fast(files: Sequence[Any], **settings: Any) -> Playback:
    return Playback("lathe", "mic", settings.pop("modality", "acoustic"), files, speed=0, **settings)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_sound_keeps_its_16_bits_and_indices(tmp_path: Path, suffix: str) -> None:
    source = fast([sound(tmp_path / f"a.{suffix}", TONE)])
    messages = drain(source)
    chunks = [message for message in messages if isinstance(message, Chunk)]
    assert [chunk.n0 for chunk in chunks] == list(range(0, 20_000, 800))
    assert [chunk.seq for chunk in chunks] == list(range(25))
    stream = chunks[0].stream
    assert (stream.dtype, stream.scale, stream.unit, stream.rate) == ("<i2", 2.0**-15, "FS", Rate(8000))
    assert chunks[0].samples.dtype == np.dtype("<i2")
    np.testing.assert_array_equal(samples(messages)[:, 0], TONE)
    assert messages[-1] == Mark(stream, Anchor(0, NOW), 20_000, 20_000, "end")


@pytest.mark.parametrize(
    ("subtype", "dtype"), [("PCM_24", "<i4"), ("PCM_32", "<i4"), ("FLOAT", "<f4"), ("DOUBLE", "<f4")]
)
def test_full_scale_is_one_in_every_sample_type(tmp_path: Path, subtype: str, dtype: str) -> None:
    x = np.linspace(-1, 0.5, 4000)
    messages = drain(fast([sound(tmp_path / "a.wav", x, subtype=subtype)]))
    stream = messages[0].stream
    assert stream.dtype == dtype
    np.testing.assert_allclose(samples(messages)[:, 0] * stream.scale, x, atol=2.0**-22)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(1, 19_999), max_size=3, unique=True),
    chunk_s=st.floats(0.01, 1.5),
    pause_s=st.sampled_from([0.0, 0.01, 2.5]),
    stop=st.integers(0, 24_000),
)
def test_files_end_to_end_and_resumed_anywhere(
    tmp_path: Path, cuts: list[int], chunk_s: float, pause_s: float, stop: int
) -> None:
    edges = [0, *sorted(cuts), len(TONE)]
    files = [sound(tmp_path / f"{k}.wav", TONE[lo:hi]) for k, (lo, hi) in enumerate(itertools.pairwise(edges))]
    whole = drain(fast(files, chunk_s=chunk_s, pause_s=pause_s))
    np.testing.assert_array_equal(samples(whole)[:, 0], TONE)
    assert [m.n1 for m in whole[:-1]] == [m.n0 for m in whole[1:]]
    silent = sum(m.n1 - m.n0 for m in whole if isinstance(m, Mark))
    assert silent == round(pause_s * 8000) * (len(files) - 1)

    resumed = drain(fast(files, chunk_s=chunk_s, pause_s=pause_s), {("lathe", "mic"): Resume(3, Anchor(0, 17), stop)})
    rest = [m for m in whole if m.n1 > stop or m is whole[-1]]
    assert [(m.n1, type(m)) for m in resumed[:-1]] == [(m.n1, type(m)) for m in rest[:-1]]
    assert [m.seq for m in resumed if isinstance(m, Chunk)] == [m.seq for m in rest if isinstance(m, Chunk)]
    assert resumed[0].n0 == stop
    assert {(m.stream.epoch, m.anchor) for m in resumed} == {(3, Anchor(0, 17))}
    if any(isinstance(m, Chunk) for m in resumed):
        kept = [m.samples[max(stop - m.n0, 0) :] for m in rest if isinstance(m, Chunk)]
        np.testing.assert_array_equal(samples(resumed), np.concatenate(kept))


@pytest.mark.parametrize("speed", [1.0, 10.0])
def test_real_speed_hands_a_chunk_over_when_its_last_sample_is_played(tmp_path: Path, speed: float) -> None:
    source = Playback("lathe", "mic", "acoustic", [sound(tmp_path / "a.wav", TONE)], speed=speed, start_ns=5)
    source.open({}, NOW)
    assert source.poll(NOW) == []
    for k in range(1, 26):
        due = NOW + math.ceil(k * NS / 10 / speed)
        assert source.wake_ns(NOW) == due
        assert source.poll(due - 1) == []
        (chunk, *rest) = source.poll(due)
        assert isinstance(chunk, Chunk)
        assert chunk.t1_ns == 5 + k * NS // 10
        assert [type(m) for m in rest] == ([Mark] if k == 25 else [])
    assert source.exhausted


def test_a_late_poll_gets_a_second_at_a_time(tmp_path: Path) -> None:
    source = Playback("lathe", "mic", "acoustic", [sound(tmp_path / "a.wav", TONE)])
    source.open({}, NOW)
    assert [len(source.poll(NOW + 60 * NS)) for _ in range(3)] == [10, 10, 6]
    assert source.exhausted


def test_looping_never_ends_and_counts_on(tmp_path: Path) -> None:
    source = fast([sound(tmp_path / "a.wav", TONE[:1000])], loop=True, chunk_s=0.1, pause_s=0.05)
    source.open({}, NOW)
    messages = [message for _ in range(5) for message in source.poll(NOW)]
    chunks = [message for message in messages if isinstance(message, Chunk)]
    assert [(c.n0, c.n1, c.seq) for c in chunks[:4]] == [(0, 800, 0), (800, 1000, 1), (1400, 2200, 2), (2200, 2400, 3)]
    np.testing.assert_array_equal(chunks[2].samples, chunks[0].samples)
    assert not source.exhausted


def test_excerpts_are_half_open_in_seconds(tmp_path: Path) -> None:
    file = sound(tmp_path / "a.wav", TONE)
    source = fast([{"path": "a.wav", "start_s": 0.5, "end_s": 1.0}, Clip(Path("a.wav"), 2.0)], folder=tmp_path)
    np.testing.assert_array_equal(samples(drain(source))[:, 0], np.concatenate([TONE[4000:8000], TONE[16_000:]]))
    for start, end in ((0.0, 3.0), (1.0, 1.0), (-1.0, 1.0)):
        with pytest.raises(SourceError, match="no part of it"):
            fast([Clip(file, start, end)]).open({}, NOW)


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        (np.arange(12, dtype=np.int16).reshape(6, 2), "<i2"),
        (np.arange(12, dtype=">i2").reshape(6, 2), "<i2"),
        (np.arange(12, dtype=np.int64).reshape(6, 2), "<i4"),
        (np.arange(12, dtype=np.float64).reshape(2, 3, 2) / 7, "<f4"),
        (np.asfortranarray(np.arange(12, dtype=np.float32).reshape(6, 2)), "<f4"),
    ],
)
def test_npz_numbers_are_kept(tmp_path: Path, x: Any, dtype: str) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=x, fs=np.int64(50))
    messages = drain(fast([tmp_path / "a.npz"], modality="vibration", unit="mg", scale=2.0))
    stream = messages[0].stream
    assert (stream.dtype, stream.rate, stream.channels, stream.unit, stream.scale) == (dtype, Rate(50), 2, "mg", 2.0)
    np.testing.assert_array_equal(samples(messages), x.reshape(6, 2).astype(dtype))


@pytest.mark.parametrize(
    "text",
    [
        "1,2.5\n3,4\n",
        "ax,ay\n1,2.5\n3,4\n",
        "\ufefftime_s;ax;ay\r\n0;1;2.5\r\n\r\n0.1;3;4\r\n",
        '"ax"\t"ay"\n1\t2.5\n3\t4',
    ],
)
def test_csv_with_and_without_heading(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8", newline="")
    messages = drain(fast(["a.csv"], folder=tmp_path, modality="vibration", unit="m/s2", rate_hz=12.5))
    assert messages[0].stream.rate == Rate(25, 2)
    np.testing.assert_array_equal(samples(messages), np.array([[1, 2.5], [3, 4]], np.float32))


@pytest.mark.parametrize("unit", [1.0, 1e3, 1e6, 1e9])
def test_a_csvs_times_must_be_those_of_the_declared_rate(tmp_path: Path, unit: float) -> None:
    """Rounded ones too; played at another rate, all its frequencies would be wrong."""
    for hz, fits in ((4000.0, True), (4030.0, True), (5000.0, False)):
        rows = "\n".join(f"{1e9 * unit + round(k / hz * unit, 3 if unit == 1.0 else 0)},{k}" for k in range(4000))
        path = text(tmp_path / "a.csv", f"time,x\n{rows}\n")
        if fits:
            assert open_recording(path, Rate(4000)).frames == 4000
        else:
            with pytest.raises(BadInput, match=r"rate_hz says 4,000 frames a second, the column of times") as caught:
                open_recording(path, Rate(4000))
            assert caught.value.reason == "rate"


def test_chosen_channels_in_their_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(12).reshape(4, 3), fs=10.0)
    messages = drain(fast([tmp_path / "a.npz"], modality="vibration", unit="g", channels=[2, 0]))
    np.testing.assert_array_equal(samples(messages), [[2, 0], [5, 3], [8, 6], [11, 9]])


def picture(path: Path, size: tuple[int, int] = (8, 6), **settings: Any) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Pillow.fromarray(noise).save(path, **settings)
    return path.read_bytes()


def test_pictures_are_sent_as_they_are_in_natural_order(tmp_path: Path) -> None:
    data = {k: picture(tmp_path / f"f{k}.png", (8 + k, 6)) for k in (10, 2, 1)}
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._f1.png").write_text("what macOS keeps beside a file on a foreign disk")
    (tmp_path / "old.png").mkdir()
    source = Playback("drill", "camera", "frames", [tmp_path], rate_hz=25)
    (stream,) = source.open({}, NOW)
    assert (stream.dtype, stream.unit, stream.channels) == ("image/png", "image", 3)
    (first,) = source.poll(NOW)
    assert source.wake_ns(NOW) == NOW + NS // 25
    rest = source.poll(NOW + NS)
    assert [m.data for m in (first, *rest) if isinstance(m, Image)] == [data[1], data[2], data[10]]
    assert isinstance(rest[-1], Mark)
    assert source.exhausted


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_too_large_for_a_message_is_made_smaller(tmp_path: Path, suffix: str) -> None:
    before = picture(tmp_path / f"a.{suffix}", (1200, 900), **({"quality": 99} if suffix == "jpg" else {}))
    assert len(before) > 900_000
    source = Playback("drill", "camera", "frames", [tmp_path], rate_hz=25, speed=0)
    (message, _) = drain(source)
    assert isinstance(message, Image)
    assert len(message.data) <= 900_000
    assert Pillow.open(io.BytesIO(message.data)).format == {"png": "PNG", "jpg": "JPEG"}[suffix]
    assert source.shrunk == 1


def test_chunks_stay_below_900_kb(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((100_000, 8), np.float32), fs=100_000)
    messages = drain(fast([tmp_path / "a.npz"], modality="vibration", unit="g", chunk_s=1.0))
    assert max(m.nbytes for m in messages if isinstance(m, Chunk)) == 900_000


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def cut(path: Path, keep: float) -> Path:
    path.write_bytes(path.read_bytes()[: round(path.stat().st_size * keep)])
    return path


NOISE = np.random.default_rng(0).integers(-20_000, 20_000, 50_000).astype("<i2")


@pytest.mark.parametrize(
    ("reason", "make"),
    [
        ("missing", lambda d: d / "no.wav"),
        ("format", lambda d: text(d / "a.wav", "hello, I am no sound at all")),
        ("format", lambda d: text(d / "a.mp3", "")),
        ("truncated", lambda d: cut(sound(d / "a.wav", NOISE), 0.5)),
        ("truncated", lambda d: cut(sound(d / "a.flac", NOISE), 0.5)),
        ("truncated", lambda d: cut(npz(d / "a.npz", x=NOISE, fs=1), 0.5)),
        ("empty", lambda d: sound(d / "a.wav", NOISE[:0])),
        ("empty", lambda d: npz(d / "a.npz", x=np.zeros((0, 3)), fs=1)),
        ("empty", lambda d: text(d / "a.csv", "x,y\n")),
        ("empty", lambda d: text(d / "a.csv", "")),
        ("format", lambda d: text(d / "a.csv", "x,y\n1,2\n3,oops\n")),
        ("format", lambda d: text(d / "a.csv", "x,y\n1,2\n3\n")),
        ("not_finite", lambda d: text(d / "a.csv", "x,y\n1,nan\n")),
        ("not_finite", lambda d: text(d / "a.csv", "1e39\n")),
        ("not_finite", lambda d: npz(d / "a.npz", x=np.array([1.0, np.inf]), fs=1)),
        ("not_finite", lambda d: sound(d / "a.wav", np.array([np.nan, 0.0]), subtype="FLOAT")),
        ("dtype", lambda d: npz(d / "a.npz", x=np.array(["a", "b"]), fs=1)),
        ("dtype", lambda d: npz(d / "a.npz", x=np.zeros(3, complex), fs=1)),
        ("dtype", lambda d: npz(d / "a.npz", x=np.zeros(3, bool), fs=1)),
        ("dtype", lambda d: npz(d / "a.npz", x=np.array([None, {}], dtype=object), fs=1)),
        ("dtype", lambda d: npz(d / "a.npz", x=np.array([2**31]), fs=1)),
        ("format", lambda d: npz(d / "a.npz", y=NOISE, fs=1)),
        ("format", lambda d: npz(d / "a.npz", x=np.zeros((1, 2, 3, 4)), fs=1)),
        ("format", lambda d: npz(d / "a.npz", x=np.float64(1), fs=1)),
        ("rate", lambda d: npz(d / "a.npz", x=NOISE, fs=[1, 2])),
        ("rate", lambda d: npz(d / "a.npz", x=NOISE, fs=0.0)),
        ("rate", lambda d: npz(d / "a.npz", x=NOISE, fs=math.nan)),
        ("rate", lambda d: npz(d / "a.npz", x=NOISE, fs=2)),
    ],
)
def test_files_that_cannot_be_used_say_so(tmp_path: Path, reason: str, make: Any) -> None:
    path = make(tmp_path)
    rate = None if path.suffix in {".wav", ".flac"} else Rate(1)
    with pytest.raises(BadInput, match=path.name) as caught:
        open_recording(path, rate).read(0, 1)
    assert caught.value.reason == reason


def test_a_rate_that_nobody_tells_and_one_that_differs(tmp_path: Path) -> None:
    for path in (npz(tmp_path / "a.npz", x=NOISE), text(tmp_path / "a.csv", "1\n2\n")):
        with pytest.raises(BadInput, match="say it") as caught:
            open_recording(path)
        assert caught.value.reason == "rate"
    with pytest.raises(SourceError, match="8000 Hz, but 44100 Hz"):
        fast([sound(tmp_path / "a.wav", TONE)], rate_hz=44_100).open({}, NOW)
    assert exact_rate(44_100.0, "") == Rate(44_100)
    assert exact_rate(1 / 3, "") == Rate(1, 3)


def test_too_few_channels(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has 1 channels"):
        fast([sound(tmp_path / "a.wav", TONE)], channels=[1]).open({}, NOW)


def test_files_of_one_stream_must_agree(tmp_path: Path) -> None:
    first = sound(tmp_path / "a.wav", TONE)
    for other in (sound(tmp_path / "b.wav", TONE, 16_000), sound(tmp_path / "c.wav", TONE, subtype="PCM_24"),
                  sound(tmp_path / "d.wav", np.zeros((10, 2), "<i2"))):  # fmt: skip
        with pytest.raises(SourceError, match=other.name):
            fast([first, other]).open({}, NOW)


def test_units_are_told_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="unit"):
        fast([npz(tmp_path / "a.npz", x=NOISE, fs=1)], modality="vibration").open({}, NOW)
    with pytest.raises(SourceError, match="scale"):
        fast([sound(tmp_path / "a.wav", TONE)], unit="Pa").open({}, NOW)
    (stream,) = fast([tmp_path / "a.wav"], unit="Pa", scale=0.001).open({}, NOW)
    assert (stream.unit, stream.scale) == ("Pa", 0.001)


def test_a_file_that_breaks_while_it_plays_is_a_source_error(tmp_path: Path) -> None:
    file = npz(tmp_path / "a.npz", x=np.array([0.0, np.nan]), fs=1)
    source = fast([file], modality="vibration", unit="g")
    source.open({}, NOW)
    with pytest.raises(SourceError, match=r"playback lathe/mic: .*a\.npz.*frame 1"):
        source.poll(NOW)
    camera = Playback("drill", "camera", "frames", [tmp_path / "f"], rate_hz=1, speed=0)
    (tmp_path / "f").mkdir()
    picture(tmp_path / "f" / "a.png")
    camera.open({}, NOW)
    cut(tmp_path / "f" / "a.png", 0.7)
    with pytest.raises(SourceError, match=r"a\.png is truncated"):
        camera.poll(NOW)


def test_folders_without_pictures_or_with_two_kinds(tmp_path: Path) -> None:
    camera = Playback("drill", "camera", "frames", [tmp_path], rate_hz=1)
    with pytest.raises(SourceError, match="without \\.png"):
        camera.open({}, NOW)
    picture(tmp_path / "a.png")
    with pytest.raises(SourceError, match="rate_hz"):
        Playback("drill", "camera", "frames", [tmp_path]).open({}, NOW)
    with pytest.raises(SourceError, match="modality acoustic"):
        fast([tmp_path], rate_hz=1).open({}, NOW)
    picture(tmp_path / "b.jpg")
    with pytest.raises(SourceError, match="both PNG and JPEG"):
        camera.open({}, NOW)


@pytest.mark.parametrize(
    "wrong",
    [
        {"files": []},
        {"files": "a.wav"},
        {"files": [{"path": "a.wav", "begin_s": 0}]},
        {"files": [{"start_s": 0}]},
        {"speed": -1.0},
        {"speed": math.nan},
        {"chunk_s": 0.0},
        {"pause_s": -1.0},
        {"scale": 0.0},
    ],
)
def test_arguments_that_make_no_sense(wrong: dict[str, Any]) -> None:
    row = {"machine": "m", "sensor": "s", "modality": "acoustic", "files": ["a.wav"]}
    with pytest.raises(ConfigError):
        Playback(**{**row, **wrong})


def test_sensors_of_a_machine_begin_together(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", TONE)
    npz(tmp_path / "b.npz", x=NOISE, fs=1000)
    rows: list[dict[str, Any]] = [
        {"sensor": "mic", "modality": "acoustic", "files": ["a.wav"]},
        {"sensor": "acc", "modality": "vibration", "files": ["b.npz"], "unit": "mg", "chunk_s": 0.5},
    ]
    sources = [Playback(machine="lathe", folder=tmp_path, speed=math.inf, start_ns=123, **row) for row in rows]
    streams = [source.open({}, NOW)[0] for source in sources]
    assert [(s.machine, s.sensor, s.unit) for s in streams] == [("lathe", "mic", "FS"), ("lathe", "acc", "mg")]
    firsts = [source.poll(NOW)[0] for source in sources]
    assert [(m.t0_ns, m.n1) for m in firsts] == [(123, 800), (123, 500)]
