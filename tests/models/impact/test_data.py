"""Crops, pools and batches: any rate, any layout, bad input told, and everything a function of the seed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from models.impact.crops import Crops, coloured
from models.impact.crops import crop as cut
from models.impact.images import Batches, Pool, image, remix, tilt
from models.impact.settings import Mixing
from operators.logmel import clip
from pipeline.errors import BadInput, ConfigError, StateError
from pipeline.pretraining import check, takes_of
from tests.models.impact.conftest import take

PLAIN = Mixing(mix_share=0, noise_share=0, tilt_db=0, remix_share=0)


def tone(hz: float, rate: int, seconds: float = 3.0, amplitude: float = 0.1) -> np.ndarray:
    """A sine."""
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000, 25_600, 44_100, 48_000, 96_000])
def test_any_rate_becomes_48_khz(rate: int) -> None:
    """A tone keeps its frequency and its unit RMS."""
    x = Crops([take(tone(1000, rate), rate)], PLAIN, seed=1).clip(0)
    assert x.shape == (48_000,)
    assert x.dtype == np.float32
    assert x.std() == pytest.approx(1.0, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(x))
    assert int(spectrum.argmax()) == 1000
    assert spectrum[1000] ** 2 / (spectrum**2).sum() > 0.99


def test_crop_is_a_stretch_of_the_take() -> None:
    """At 48 kHz no sample is changed."""
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    got = cut(take(x), np.random.default_rng(5))
    at = int(np.flatnonzero(x == got[0])[0])
    assert (x[at : at + 48_000] == got).all()


def test_short_takes_are_filled_and_shorter_ones_refused() -> None:
    """As any clip: zeros to the right; under a quarter of a second nothing is learned."""
    got = cut(take(tone(1000, 48_000, 0.5)), np.random.default_rng(0))
    assert (got[24_000:] == 0).all()
    with pytest.raises(BadInput, match=r"0\.10 s is shorter"):
        Crops([take(tone(1000, 48_000, 0.1))])
    with pytest.raises(BadInput, match="no recording"):
        Crops([])


def test_stereo_is_averaged_and_axes_are_drawn() -> None:
    """Opposite channels cancel in sound; a vibration sensor's axes are taken one at a time."""
    x = tone(1000, 48_000)
    both = take(np.stack([x, -x], axis=1))
    assert np.abs(cut(both, np.random.default_rng(0))).max() == 0
    axes = take(np.stack([np.full_like(x, 1), np.full_like(x, 2)], axis=1))
    object.__setattr__(axes, "average", False)
    assert {float(cut(axes, np.random.default_rng(i))[0]) for i in range(20)} == {1.0, 2.0}


def test_silence_is_passed_over_or_refused() -> None:
    """Crops fall on what sounds; a recording of nothing is told."""
    x = np.concatenate([np.zeros(480_000, np.float32), tone(500, 48_000, 10)])
    crops = Crops([take(x)], PLAIN)
    assert all(crops.clip(i).std() == pytest.approx(1, abs=0.01) for i in range(20))
    with pytest.raises(BadInput, match="silence") as caught:
        Crops([take(np.zeros(96_000, np.float32), name="dead.wav")], PLAIN).clip(0)
    assert caught.value.reason == "silent"
    assert "dead.wav" in str(caught.value)


def test_a_sensor_that_is_mostly_silent_stops_no_run() -> None:
    """Crops of nine tenths of silence: twenty silent ones in a row come every eighth time."""
    crops = Crops([take(np.concatenate([np.zeros(960_000, np.float32), tone(500, 48_000, 2)]))], PLAIN)
    assert all(np.isfinite(crops.clip(i)).all() for i in range(60))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_samples_are_told(bad: float) -> None:
    """With the recording's name."""
    x = tone(500, 48_000, 1)
    x[100] = bad
    with pytest.raises(BadInput, match=r"mic-7\.wav") as caught:
        Crops([take(x, name="mic-7.wav")], PLAIN).clip(0)
    assert caught.value.reason == "not_finite"


def test_sensors_are_drawn_equally_often() -> None:
    """An hour of one and a minute of another weigh the same."""
    takes = [take(tone(200, 8_000, 300), 8_000, "a", "a"), take(tone(2000, 8_000, 3), 8_000, "b", "b")]
    crops = Crops(takes, PLAIN)
    low = sum(np.abs(np.fft.rfft(crops.clip(i))).argmax() == 200 for i in range(200))
    assert 70 < low < 130
    assert crops.sensors == ["a", "b"]
    assert crops.hours() == pytest.approx({"a": 300 / 3600, "b": 3 / 3600})


def test_mixing_adds_at_the_level_asked_for() -> None:
    """Another sensor at −10 dB: a tenth of the power."""
    takes = [take(tone(200, 48_000), name=n, sensor=n) for n in "ab"]
    alone, mixed = (Crops(takes, Mixing(share, (-10.0, -10.0), noise_share=0)).clip(4) for share in (0.0, 1.0))
    assert np.var(mixed - alone) == pytest.approx(0.1, rel=0.01)


def test_clips_follow_seed_and_number() -> None:
    """Equal digests give equal clips, in any order."""
    takes = [take(np.random.default_rng(0).standard_normal(200_000).astype(np.float32))]
    a, b, other = Crops(takes, seed=1), Crops(takes, seed=1), Crops(takes, seed=2)
    assert (a.clip(7) == [b.clip(3), b.clip(7)][1]).all()
    assert a.digest == b.digest != other.digest
    assert (a.clip(7) != other.clip(7)).any()


def test_coloured_noise_falls_towards_high_frequencies() -> None:
    """Unit RMS, no more power an octave up than white noise has."""
    x = coloured(np.random.default_rng(3), 48_000)
    power = np.abs(np.fft.rfft(x)) ** 2
    assert x.std() == pytest.approx(1, abs=1e-3)
    assert power[100:200].mean() > power[10_000:20_000].mean()


def test_image_is_the_clip_front_end() -> None:
    """Preset `paper`, level removed."""
    x = Crops([take(np.random.default_rng(0).standard_normal(60_000).astype(np.float32))], PLAIN).clip(0)
    assert (image(x) == clip(x, 48_000).values).all()
    assert np.abs(image(x) - image(10 * x)).max() < 1e-4


def test_pool_is_made_once_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted pool continues; a finished one is not computed again; a foreign file is refused."""
    crops = Crops([take(np.random.default_rng(0).standard_normal(60_000).astype(np.float32))])
    monkeypatch.setattr("models.impact.images._SAVE_EVERY", 16)
    wanted = Pool(tmp_path / "whole", crops, 20)
    calls: list[int] = []

    class Counting:
        digest = crops.digest

        def clip(self, i: int) -> np.ndarray:
            if len(calls) == 18:
                raise KeyboardInterrupt
            calls.append(i)
            return crops.clip(i)

    with pytest.raises(KeyboardInterrupt):
        Pool(tmp_path / "parts", Counting(), 20)
    calls.clear()
    found = Pool(tmp_path / "parts", Counting(), 20)
    assert calls == list(range(16, 20))
    assert (found.images == wanted.images).all()
    assert wanted.images.dtype == np.float16
    found.path.with_suffix(".json").write_text("")
    assert (Pool(tmp_path / "parts", crops, 20).images == wanted.images).all(), "a torn note: all is made again"
    whole = found.path.read_bytes()
    for damaged in (whole[:-1000], whole + b"x", whole[:50]):
        found.path.write_bytes(damaged)
        with pytest.raises(StateError, match="delete it"):  # numpy would fill it up with black images
            Pool(tmp_path / "parts", Counting(), 20)
    np.save(found.path, np.zeros(3))
    with pytest.raises(StateError, match="delete it"):
        Pool(tmp_path / "parts", Counting(), 20)


def test_batches_are_functions_of_the_step() -> None:
    """In any order, with any number of threads, from a pool or as needed."""
    crops = Crops([take(np.random.default_rng(0).standard_normal(90_000).astype(np.float32))])
    pooled = np.stack([image(crops.clip(i)) for i in range(8)]).astype(np.float16)
    for source in (pooled, crops):
        one, two = (Batches(source, 4, 9, workers=n) for n in (1, 3))
        later = [two.get(s, 5) for s in range(5)]
        assert all((one.make(s) == later[s]).all() for s in (4, 0, 2))
        assert later[0].shape == (4, 128, 128)
        assert (later[0] != later[1]).any()
        one.close(), two.close()


def test_powers_add_when_images_are_mixed() -> None:
    """Two noises at equal level: 3 dB more everywhere, which normalisation to the maximum takes off again."""
    a = np.full((128, 128), 0.75, np.float16)
    a[0, 0] = 1.0
    made = remix(a, a, np.random.default_rng(0), Mixing(mix_db=(0.0, 0.0), tilt_db=0, remix_share=1))
    np.testing.assert_allclose(made, a, atol=1e-4)
    b = np.zeros((128, 128), np.float16)
    b[100] = 1.0
    made = remix(a, b, np.random.default_rng(0), Mixing(mix_db=(-20.0, -20.0), tilt_db=0, remix_share=1))
    assert made[100, 5] == pytest.approx(1 + np.log10(0.02) / 8, abs=1e-3)  # two times -20 dB
    assert made[50, 5] == pytest.approx(0.75, abs=1e-3)


def test_tilt_stays_in_range() -> None:
    """Values in [0, 1], maximum 1, the same shift for a whole band."""
    x = np.random.default_rng(0).uniform(0.5, 1, (128, 128)).astype(np.float32)
    y = tilt(x, np.random.default_rng(1), Mixing())
    assert y.max() == pytest.approx(1)
    assert y.min() >= 0
    assert np.ptp((y - x), axis=1).max() < 1e-5


def write(path: Path, x: np.ndarray, rate: int = 48_000) -> None:
    """A sound file, folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x, rate)


def test_dinos_folder(tmp_path: Path) -> None:
    """A folder per sensor; other files are passed over."""
    for name in ("CNC/a.wav", "CNC/b.wav", "LPBF/deep/c.flac"):
        write(tmp_path / "DINOS_Pretrain" / name, tone(440, 48_000, 2))
    (tmp_path / "DINOS_Pretrain" / "readme.txt").write_text("no sound")
    takes = takes_of(tmp_path / "DINOS_Pretrain")
    assert [(t.sensor, t.seconds) for t in takes] == [("CNC", 2), ("CNC", 2), ("LPBF", 2)]
    assert Crops(takes, PLAIN).clip(0).shape == (48_000,)
    (tmp_path / "none").mkdir()
    with pytest.raises(BadInput, match="holds no WAV"):
        takes_of(tmp_path / "none")
    with pytest.raises(ConfigError, match="no such"):
        takes_of(tmp_path / "nowhere")


@pytest.mark.parametrize("root", ["", "Datasets"])
def test_what_the_benchmark_tests_on_is_not_learned_from(tmp_path: Path, root: str) -> None:
    """Of the whole of DINOS only its folder for pretraining is taken, and its sensors are that folder's."""
    for name in ("DINOS_Pretrain/CNC/a.wav", "DINOS_Pretrain/LPBF/b.wav", "DINOS_Downstreams_test/VF2/on/c.wav"):
        write(tmp_path / root / name, tone(440, 48_000, 2))
    assert [(t.name, t.sensor) for t in takes_of(tmp_path)] == [("CNC/a.wav", "CNC"), ("LPBF/b.wav", "LPBF")]


def test_what_lies_beside_dinos_is_learned_from(tmp_path: Path) -> None:
    """Own recordings in the folder into which DINOS was unpacked; an empty folder of its name hides nothing."""
    for name in ("DINOS_Pretrain/CNC/a.wav", "DINOS_Downstreams_train/VF2/on/c.wav", "mill/d.wav"):
        write(tmp_path / name, tone(440, 48_000, 2))
    assert [(t.name, t.sensor) for t in takes_of(tmp_path)] == [("CNC/a.wav", "CNC"), ("mill/d.wav", "mill")]
    (tmp_path / "DINOS_Pretrain" / "CNC" / "a.wav").unlink()
    assert [t.sensor for t in takes_of(tmp_path)] == ["mill"]


def test_reading_tells_how_far_it_is_within_a_recording(tmp_path: Path) -> None:
    """One of a day would stand still otherwise."""
    for name in "ab":
        write(tmp_path / f"{name}.wav", tone(440, 48_000, 50))
    seen: list[float] = []
    check(takes_of(tmp_path), seen.append)
    assert seen == sorted(seen) and seen[0] == 0.0
    assert 50.0 in seen and sum(0 < s < 50 for s in seen) == 2 and sum(50 < s < 100 for s in seen) == 2


def test_everything_is_read_before_a_run(tmp_path: Path) -> None:
    """A number that is none in the last samples and a file cut off at its end: told together, by name."""
    x = tone(440, 48_000, 30)
    write(tmp_path / "a" / "good.wav", x)
    check(takes_of(tmp_path))
    x[-1] = np.nan
    soundfile.write(tmp_path / "a" / "nan.wav", x, 48_000, subtype="FLOAT")
    cut = tmp_path / "a" / "x.flac"
    write(cut, np.random.default_rng(0).normal(0, 0.1, 480_000))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 9 // 10])
    with pytest.raises(BadInput, match=r"nan\.wav: holds infinite .*; 1 more cannot be used either") as caught:
        check(takes_of(tmp_path))
    assert caught.value.reason == "not_finite"


def test_a_sensor_without_sound_is_told_before_a_run(tmp_path: Path) -> None:
    """Though others speak; one that speaks in one of its recordings is fine."""
    write(tmp_path / "a" / "off.wav", np.zeros(96_000))
    write(tmp_path / "a" / "on.wav", tone(440, 48_000, 2))
    check(takes_of(tmp_path))
    write(tmp_path / "dead" / "x.wav", np.zeros(96_000))
    with pytest.raises(BadInput, match=r"dead: its recordings, such as dead/x\.wav, hold only silence") as caught:
        check(takes_of(tmp_path))
    assert caught.value.reason == "silent"


def test_dinos_manifest(tmp_path: Path) -> None:
    """Seconds by their first sample."""
    write(tmp_path / "x.wav", np.concatenate([tone(500, 48_000, 1), tone(2000, 48_000, 1)]))
    path = tmp_path / "d.csv"
    path.write_text("filepath,start_sample,label,class_name\nx.wav,0,0,low\nx.wav,48000,1,high\n")
    low, high = takes_of(path)
    assert (low.sensor, high.sensor, high.samples) == ("low", "high", 48_000)
    assert np.abs(np.fft.rfft(high.read(0, 48_000)[:, 0])).argmax() == 2000
    path.write_text("filepath,start_sample,label,class_name\nx.wav,soon,0,low\n")
    with pytest.raises(ConfigError, match="whole number"):
        takes_of(path)
    path.write_text("filepath,start_sample,label,class_name\nx.wav,-8000,0,low\n")
    with pytest.raises(ConfigError, match=r"-8000 of x\.wav lies before"):
        takes_of(path)
    path.write_text("label,filepath,start_sample\nlow,x.wav,0\nlow\n")
    with pytest.raises(BadInput, match="line 3 has fewer cells"):
        takes_of(path)


def manifest(path: Path, rows: list[dict[str, object]]) -> Path:
    """A CSV manifest."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, sorted({k for row in rows for k in row}))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_own_manifest(tmp_path: Path) -> None:
    """Rows that learn, their stretch of the file, vibration beside sound; missing files are counted and named."""
    write(tmp_path / "s.wav", tone(440, 44_100, 4), 44_100)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "v.npz", x=rng.standard_normal((2, 2000, 3)).astype(np.float32), fs=2000)
    rows: list[dict[str, object]] = [
        {"path": "s.wav", "label": "a", "group": "1", "machine": "m", "sensor": "mic", "start_s": 1, "end_s": 3},
        {"path": "v.npz", "label": "a", "group": "2", "machine": "m", "sensor": "acc", "modality": "vibration"},
    ]
    sound, *windows = takes_of(manifest(tmp_path / "m.csv", rows))
    assert (sound.seconds, sound.sensor, sound.average) == (2, "m/mic", True)
    wanted, _ = soundfile.read(tmp_path / "s.wav", start=44_100, frames=44_100, dtype="float32")
    assert (sound.read(0, 44_100)[:, 0] == wanted).all()
    assert [(w.seconds, w.channels, w.average) for w in windows] == [(1, 3, False)] * 2
    assert np.isfinite(Crops([sound, *windows], PLAIN).clip(3)).all()
    gone: list[dict[str, object]] = [*rows, {"path": "gone.wav", "label": "a", "group": "3"}]
    with pytest.raises(BadInput, match=r"1 of 3 files are missing, the first is .*gone\.wav") as caught:
        takes_of(manifest(tmp_path / "g.csv", gone))
    assert caught.value.reason == "missing"


def test_broken_sound_file(tmp_path: Path) -> None:
    """Named, not raised from the library."""
    (tmp_path / "x.wav").write_bytes(b"RIFFxxxx")
    with pytest.raises(BadInput, match=r"x\.wav"):
        takes_of(tmp_path)


def test_damaged_or_truncated_flac(tmp_path: Path) -> None:
    """Its header promises what cannot be read or sought: named as well."""
    path = tmp_path / "x.flac"
    write(path, np.random.default_rng(0).normal(0, 0.1, 480_000))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 4])
    (whole,) = takes_of(tmp_path)
    for n0 in (0, 432_000):
        with pytest.raises(BadInput, match=r"x\.flac: ") as caught:
            whole.read(n0, 480_000)
        assert caught.value.reason == "broken"


def test_rows_of_one_array_keep_their_ends(tmp_path: Path) -> None:
    """Two stretches that begin alike are two."""
    np.savez(tmp_path / "k.npz", x=np.arange(40_000, dtype=np.float32)[:, None], fs=2000)
    rows: list[dict[str, object]] = [
        {"path": "k.npz", "label": "a", "group": str(end), "start_s": 0, "end_s": end} for end in (5, 20)
    ]
    assert [t.seconds for t in takes_of(manifest(tmp_path / "m.csv", rows))] == [5, 20]


def test_another_recording_of_the_same_name_has_another_digest(tmp_path: Path) -> None:
    """And another stretch of the same recording; a pool of one is not given to the other."""
    rng = np.random.default_rng(0)
    for name in ("mill", "press"):
        write(tmp_path / name / "mic" / "0.wav", rng.normal(0, 0.1, 192_000))
        np.savez(tmp_path / name / "v.npz", x=rng.standard_normal((8000, 1)), fs=2000)

    def digests(folder: Path, path: str) -> set[str]:
        cuts = [{"path": path, "label": "a", "group": "1", "start_s": s, "end_s": s + 2} for s in (0, 1)]
        return {Crops(takes_of(manifest(folder / f"{i}.csv", [dict(cut)]))).digest for i, cut in enumerate(cuts)}

    mill, press = tmp_path / "mill", tmp_path / "press"
    assert len({Crops(takes_of(mill)).digest, Crops(takes_of(press)).digest}) == 2
    assert len(digests(mill, "mic/0.wav") | digests(press, "mic/0.wav")) == 4
    assert len(digests(mill, "v.npz") | digests(press, "v.npz")) == 4
    assert Crops(takes_of(mill)).digest == Crops(takes_of(mill)).digest


def test_recorded_topics(tmp_path: Path) -> None:
    """Stretches of a recording's streams, in their unit; a gap parts them."""
    from pipeline.messages import Anchor, Chunk, Rate, Stream
    from pipeline.recording.recorder import Recorder, Start

    stream = Stream("mill-1", "mic", 0, "acoustic", Rate(48_000), 1, "<i2", "FS", 1 / 32768)
    x = (tone(1000, 48_000, 1.0) * 32767).astype("<i2")[:, None]
    chunks = [Chunk(stream, Anchor(0, 0), n, i, x[:24_000]) for i, n in enumerate((0, 24_000, 96_000))]
    with Recorder(tmp_path / "a.mcap", Start(), 0) as recorder:
        for i, chunk in enumerate(chunks):
            recorder.write(chunk, i)
    takes = takes_of(tmp_path / "a.mcap")
    assert [(t.sensor, t.samples) for t in takes] == [("mill-1/mic", 48_000), ("mill-1/mic", 24_000)]
    np.testing.assert_allclose(takes[0].read(0, 24_000), x[:24_000] / 32768, atol=1e-7)
    assert [t.first for t in takes] == [0, 96_000]
    assert takes[0].content != takes[1].content
