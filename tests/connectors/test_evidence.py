"""Evidence files: sounds by an independent reader, levels and places by closed form, colours by matplotlib."""

import io
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import orjson
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from connectors.evidence import PEAK, Clip, Still, audible, evidence_name, slug, write_evidence
from connectors.evidence_font import Font, built_in, font
from connectors.evidence_picture import _LEFT, _RIGHT, _SPECTRUM, _WAVE, SIZE, Caption, picture
from connectors.evidence_spectrum import colour_range, log_ticks, outline, spectrogram, ticks, viridis
from pipeline.messages import NS, Float32
from tests.connectors.result_records import T0, alarm

RAISED = alarm(1, T0 + NS, "raised", 0, T0 + NS)
CAPTION = Caption(T0 + NS, "mill-3", "mic", "chatter", "critical", 7.25, 1.0, "Chatter at 812 Hz", ("48000 samples/s",))


def tone(rate_hz: int, seconds: float, hz: float, amplitude: float, channels: int = 1) -> Float32:
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    x = amplitude * np.sin(2 * np.pi * hz * t)
    return np.repeat(x[:, None], channels, axis=1).astype(np.float32)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_full_scale_sound_is_written_as_it_is(tmp_path: Path) -> None:
    x = tone(48_000, 0.5, 997.0, 0.25, channels=2)
    told = write_evidence(tmp_path, RAISED, [("mic", 48_000, T0, x, "FS")], [])
    info = soundfile.info(tmp_path / told["parts"][0]["sound"])
    assert (info.samplerate, info.channels, info.subtype, info.format) == (48_000, 2, "PCM_16", "WAV")
    back, _ = soundfile.read(tmp_path / told["parts"][0]["sound"], dtype="float32")
    assert np.abs(back - x).max() <= 1 / 32768
    assert told["parts"][0]["playback"]["gain"] == 1.0


def test_vibration_is_normalised_without_its_mean_and_stated(tmp_path: Path) -> None:
    x = tone(25_600, 0.5, 160.0, 3.0) + np.float32(9.81)
    told = write_evidence(tmp_path, RAISED, [Clip("accel", 25_600, T0, x, "m/s2")], [])
    back, rate = soundfile.read(tmp_path / told["parts"][0]["sound"])
    playback = told["parts"][0]["playback"]
    assert rate == 25_600
    assert np.abs(back).max() == pytest.approx(10 ** (-1 / 20), abs=2e-4)
    assert back / playback["gain"] == pytest.approx((x - x.mean())[:, 0], abs=1e-3)
    assert playback["mean_removed"]


def test_slow_samples_are_played_faster_and_stated(tmp_path: Path) -> None:
    told = write_evidence(tmp_path, RAISED, [Clip("slow", 1000.0, T0, tone(1000, 4, 25.0, 1.0), "mm/s")], [])
    back, rate = soundfile.read(tmp_path / told["parts"][0]["sound"])
    assert (rate, len(back)) == (8000, 4000)
    assert told["parts"][0]["playback"]["speed"] == 8.0
    assert told["parts"][0]["rate_hz"] == 1000.0
    heard = np.fft.rfftfreq(len(back), 1 / rate)[np.argmax(np.abs(np.fft.rfft(back)))]
    assert heard == pytest.approx(8 * 25.0)


def test_strongest_of_many_channels_is_played() -> None:
    x = np.concatenate([tone(8000, 0.1, 100.0, a) + 10 * a for a in (0.1, 0.7, 0.2)], axis=1)
    played = audible(Clip("accel", 8000, T0, x, "m/s2"))
    assert played.facts["channels"] == [2]
    assert played.samples.shape == (800, 1)


def test_unusable_and_overdriven_samples_are_counted() -> None:
    x = tone(8000, 0.1, 100.0, 0.5)
    x[3, 0], x[4, 0], x[5, 0] = np.nan, np.inf, 1.5
    played = audible(Clip("mic", 8000, T0, x, "FS"))
    assert (played.facts["not_finite"], played.facts["clipped"]) == (2, 1)
    assert np.isfinite(played.samples).all()
    assert np.abs(played.samples).max() == 1.0


def test_silence_stays_silence() -> None:
    played = audible(Clip("accel", 8000, T0, np.zeros((100, 1), np.float32), "m/s2"))
    assert not played.samples.any()
    assert played.facts["gain"] == 1.0


def test_json_lists_parts_and_what_is_missing(tmp_path: Path) -> None:
    x = tone(48_000, 0.1, 440.0, 0.1)
    clips = [
        Clip("mic", 48_000, T0, x, "FS"),
        Clip("mic", 48_000, T0 + NS, x, "FS"),
        Clip("old", 8000, T0, x[:0], "FS"),
    ]
    frame = Still("cam", T0, b"\xff\xd8 jpeg", "image/jpeg")
    told = write_evidence(tmp_path, RAISED, clips, ["accel: ring already overwritten"], stills=[frame])
    assert orjson.loads((tmp_path / told["file"]).read_bytes()) == told
    assert told["alarm"] == RAISED.body["alarm"]
    assert told["missing"] == ["accel: ring already overwritten", "old: no samples"]
    names = [part[kind] for part in told["parts"] for kind in ("sound", "picture") if kind in part]
    assert len(set(names)) == 5
    assert {path.name for path in tmp_path.iterdir()} == {*names, told["file"]}
    assert told["parts"][0]["t1_ns"] == T0 + NS // 10
    assert (tmp_path / told["parts"][2]["picture"]).read_bytes() == frame.data


def test_nothing_recorded_is_told_too(tmp_path: Path) -> None:
    told = write_evidence(tmp_path, RAISED, [], ["mic: no recording"])
    assert told["parts"] == []
    assert [path.name for path in tmp_path.iterdir()] == [told["file"]]


def test_repeat_gives_the_same_files(tmp_path: Path) -> None:
    clip = Clip("mic", 48_000, T0, tone(48_000, 0.3, 440.0, 0.1), "FS")
    contents = []
    for folder in (tmp_path / "a", tmp_path / "b", tmp_path / "a"):
        write_evidence(folder, RAISED, [clip], [])
        contents.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert contents[0] == contents[1] == contents[2]


def test_files_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Clip("mic", 48_000, T0, tone(48_000, 0.1, 440.0, 0.1), "FS")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_evidence(tmp_path, RAISED, [clip], [])
    assert all(path.suffix == ".part" for path in tmp_path.iterdir())


def test_samples_of_the_wrong_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(480,\)"):
        write_evidence(tmp_path, RAISED, [Clip("mic", 48_000, T0, np.zeros(480, np.float32), "FS")], [])


@given(st.text(max_size=200), st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_names_are_safe_and_keep_sensors_apart(one: str, other: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,38}", slug(one))
    assert (slug(one) == slug(other)) == (one == other)


def test_names_on_awkward_machines() -> None:
    assert slug("mill-3") == "mill-3"
    assert slug("../../etc/passwd").startswith("etc-passwd-")
    assert slug("Fräse 3") != slug("frase 3")
    assert slug(slug("Fräse 3")) != slug("Fräse 3")
    assert evidence_name(RAISED.body).startswith("20251121T080001Z_mill-3_chatter_")


def test_level_of_a_sine_by_closed_form() -> None:
    hz = 48_000 / 2048 * 40  # the centre of a bin
    for unit, amplitude, level in (("FS", 1.0, 0.0), ("Pa", np.sqrt(2.0), 93.979), ("FS", 0.1, -20.0)):
        made = spectrogram(tone(48_000, 1.0, hz, amplitude), 48_000, unit, 500)
        assert made.level_db.max(axis=1) == pytest.approx(level, abs=0.01)
        assert np.argmax(made.level_db, axis=1) * made.bin_hz == pytest.approx(hz)
    made = spectrogram(tone(25_600, 1.0, 800.0, 3 * np.sqrt(2.0)), 25_600, "m/s2", 500)
    assert made.reference == "dB re 1 m/s²"
    assert made.level_db.max() == pytest.approx(20 * np.log10(3.0), abs=0.2)


def test_spectrogram_agrees_with_scipy() -> None:
    x = np.random.default_rng(7).standard_normal((24_000, 1)).astype(np.float32)
    made = spectrogram(x, 48_000, "unit", 200)
    length = round(48_000 / made.bin_hz)
    hop = round((made.frame_s[1] - made.frame_s[0]) * 48_000)
    centred = x[:, 0].astype(np.float64) - x[:, 0].mean(dtype=np.float64)
    reference = scipy.signal.ShortTimeFFT(np.hanning(length + 1)[:-1], hop, 48_000, scale_to="magnitude")
    frames = np.abs(reference.stft(centred))[1:-1]
    times = reference.t(len(x))
    same = np.abs(times[:, None] - made.frame_s).min(axis=1) < 1e-9
    assert same.sum() == len(made.frame_s) > 20
    assert made.level_db[:, 1:-1] == pytest.approx(20 * np.log10(frames[:, same].T * np.sqrt(2.0)), abs=1e-3)


def test_outline_keeps_every_extreme() -> None:
    x = np.random.default_rng(3).standard_normal(10_007).astype(np.float32)
    low, high = outline(x, 1000)
    assert (low.min(), high.max()) == (x.min(), x.max())
    for n in range(0, 10_007, 311):
        column = min(n * 1000 // 10_007, 999)
        near = slice(max(0, column - 1), column + 2)
        assert low[near].min() <= x[n] <= high[near].max()


@pytest.mark.parametrize(
    ("low", "high"), [(-6.0, 2.0), (-0.31, 0.17), (0.0, 1e-5), (-80.0, -10.0), (9.7, 9.9), (-3e4, 2e4)]
)
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    marks = ticks(low, high, 8)
    assert 2 <= len(marks) <= 9
    assert all(low - 1e-9 <= mark <= high + 1e-9 for mark in marks)
    step = marks[1] - marks[0]
    assert f"{step:e}"[0] in "125"


def test_log_ticks() -> None:
    assert log_ticks(46.9, 24_000) == [50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000]


def test_colours_are_those_of_viridis() -> None:
    x = np.linspace(0, 1, 256)
    expected = mpl.colormaps["viridis"](x)[:, :3] * 255
    assert np.abs(viridis(x).astype(float) - expected).max() < 4
    assert viridis(np.array([-1.0, 2.0])).tolist() == viridis(np.array([0.0, 1.0])).tolist()


def test_alarm_line_stands_at_the_alarm() -> None:
    drawn = pixels(picture(tone(48_000, 4.0, 1000.0, 0.1), 48_000, T0, "FS", CAPTION))
    assert drawn.shape == (SIZE[1], SIZE[0], 3)
    expected = _LEFT + (_RIGHT - _LEFT) * 1 / 4
    for top, bottom in (_WAVE, _SPECTRUM):
        red = np.all(drawn[top + 10 : bottom - 10] == (220, 30, 40), axis=(0, 2))
        assert np.flatnonzero(red) == pytest.approx(expected, abs=1.5)


def test_no_alarm_line_outside_the_clip() -> None:
    drawn = pixels(picture(tone(48_000, 0.5, 1000.0, 0.1), 48_000, T0, "FS", CAPTION))
    assert not np.all(drawn[_WAVE[0] : _SPECTRUM[1]] == (220, 30, 40), axis=2).any()


@pytest.mark.parametrize("hz", [125.0, 1000.0, 8000.0])
def test_tone_lies_at_its_frequency_and_time(hz: float) -> None:
    x = tone(48_000, 2.0, hz, 0.5) * (np.arange(96_000) >= 48_000)[:, None].astype(np.float32)
    x += np.random.default_rng(1).standard_normal(x.shape).astype(np.float32) * 1e-3
    drawn = pixels(picture(x, 48_000, T0 + 10 * NS, "FS", CAPTION))
    top, bottom = _SPECTRUM
    panel = drawn[top + 2 : bottom - 2, _LEFT + 2 : _RIGHT - 2].sum(axis=2)
    lowest = 2 * 48_000 / 2048
    row = (1 - np.log(hz / lowest) / np.log(24_000 / lowest)) * (bottom - top) - 2
    width = panel.shape[1]
    after = panel[:, width // 2 + 40 : width - 10].mean(axis=1)
    lines = np.flatnonzero(after > 0.98 * after.max())
    assert lines.mean() == pytest.approx(row, abs=6)
    strength = panel[int(lines.mean())]
    assert strength[: width // 2 - 20].mean() < 0.7 * strength[width // 2 + 20 :].mean()


@pytest.mark.parametrize(("n", "rate_hz"), [(1, 10.0), (33, 999.7), (2, 192_000.0)])
def test_odd_clips_can_be_drawn(n: int, rate_hz: float) -> None:
    for x in (np.zeros((n, 1), np.float32), np.full((n, 5), np.nan, np.float32)):
        assert pixels(picture(x, rate_hz, T0, "m/s2", CAPTION)).shape == (SIZE[1], SIZE[0], 3)


def test_long_words_do_not_run_off_the_sheet() -> None:
    caption = CAPTION._replace(
        machine="Fräsmaschine " * 20, text="日本語 very long " * 50, notes=("note " * 100,), severity="odd"
    )
    drawn = pixels(picture(tone(8000, 0.2, 100.0, 1.0), 8000.0, T0 + NS, "m/s2", caption))
    assert (drawn[:, -8:] == 255).all()


def test_built_in_typeface_spells_what_it_lacks() -> None:
    assert built_in(15).spelled("Fräse 3: 4 m/s², 20 µPa – Łódź 日") == "Fraese 3: 4 m/s2, 20 uPa - ?odz ?"
    assert built_in(15).width("m/s²") == built_in(15).width("m/s2") > 0
    assert font(15).width("mill") > 0


def test_peak_is_one_decibel_below_full_scale() -> None:
    assert 20 * np.log10(PEAK) == pytest.approx(-1.0)


@pytest.mark.parametrize(("channels", "names"), [(2, ["ch0", "ch1"]), (3, ["x", "y", "z"])])
def test_channels_have_the_names_that_alarms_give_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, channels: int, names: list[str]
) -> None:
    """And the picture says that its spectrogram is of all of them."""
    written: list[str] = []
    plain = Font.write

    def write(self: Font, draw: object, place: object, words: str, *more: object, **room: object) -> None:
        written.append(words)
        plain(self, draw, place, words, *more, **room)  # type: ignore[arg-type]

    monkeypatch.setattr(Font, "write", write)
    x = tone(8000, 0.5, 100.0, 0.1, channels)
    x[:, -1] *= 3
    write_evidence(tmp_path, RAISED, [Clip("accel", 8000, T0, x, "m/s2")], [])
    assert [words for words in written if words in names] == names
    assert f"mean of {channels} channels" in written
    if channels > 2:
        assert any("z of 3 channels to be heard" in words for words in written)
    written.clear()
    write_evidence(tmp_path, RAISED, [Clip("mic", 8000, T0, x[:, :1], "FS")], [])
    assert not any("channel" in words or words in names for words in written)


@pytest.mark.parametrize("share", [1.0, 0.3, 0.05])
def test_the_colours_reach_to_a_line_above_the_noise(share: float) -> None:
    """A line that lasts for that share of the clip; a sine's RMS is 3.01 dB below its amplitude."""
    x = np.random.default_rng(0).normal(0, 0.01, (80_000, 1)).astype(np.float32)
    n = round(len(x) * share)
    x[:n, 0] += 3 * np.sin(2 * np.pi * 1000 * np.arange(n) / 8000)
    spectrum = spectrogram(x, 8000, "m/s2", 1000)
    low, high = colour_range(spectrum.level_db)
    line_db = 20 * np.log10(3) - 3.01
    assert line_db <= high < line_db + 10
    assert low < -20
