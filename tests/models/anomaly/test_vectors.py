import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.anomaly.chain import operators, windows
from models.anomaly.scale import CLIP, fit_scale
from models.anomaly.vectors import ANOMALY, LEVEL, Extraction, extraction
from pipeline.errors import BadInput
from pipeline.messages import Anchor, Rate, Segment, Stream, Window
from tests.models.anomaly.rig import ACC, MIC, SLOW, Part, running


def vectors(stream: Stream, x: np.ndarray, step: int = 1 << 30) -> list[dict[str, np.ndarray]]:
    e = extraction(stream)
    return [e.vectors(w) for w in windows(stream, e, Part(stream, x, step).segments())]


@pytest.mark.parametrize(
    ("stream", "sizes"), [(MIC, {ANOMALY: 128, LEVEL: 12}), (ACC, {ANOMALY: 128, LEVEL: 14}), (SLOW, {LEVEL: 15})]
)
def test_every_kind_of_sensor_has_its_vectors(stream: Stream, sizes: dict[str, int]) -> None:
    found = vectors(stream, running(stream, 3.0, 0))
    assert found
    for one in found:
        assert (
            {d: len(v) for d, v in one.items()}
            == sizes
            == {d: len(v) for d, v in extraction(stream).dimensions.items()}
        )
        assert all(v.dtype == np.float32 and np.isfinite(v).all() for v in one.values())


def test_every_rate_of_an_accelerometer_has_operators() -> None:
    """Also between 700 and 745 Hz, where the lowest band of a log-Mel would hold no line."""
    for tenths in range(6900, 8000):
        stream = Stream("lathe", "acc", 0, "vibration", Rate(tenths, 10), 1, "<f4", "g")
        e = extraction(stream)
        assert (e.front_end is None) == (tenths < 7450)
        assert operators(stream, e)


def test_sound_that_cannot_be_resampled_is_refused_with_a_rate_that_can() -> None:
    for rate, near in ((Rate(160_001, 10), 16_000), (Rate(170_667, 10), "17066.66667"), (Rate(50), 300)):
        stream = Stream("lathe", "mic", 0, "acoustic", rate, 1, "<f4", "FS")
        with pytest.raises(BadInput, match=f"lathe/mic: sound at {rate.hz:g} Hz .* at {near} Hz it can"):
            operators(stream, extraction(stream))


def test_gain_moves_the_level_and_not_the_spectrum() -> None:
    x = running(ACC, 3.0, 0)
    for quiet, loud in zip(vectors(ACC, x), vectors(ACC, 4 * x), strict=True):
        np.testing.assert_allclose(loud[ANOMALY], quiet[ANOMALY], atol=2e-3)
        change = loud[LEVEL] - quiet[LEVEL]
        names = [d.name for d in extraction(ACC).dimensions[LEVEL]]
        expected = [0.0 if n in {"crest", "kurtosis"} else 20 * np.log10(4) for n in names]
        np.testing.assert_allclose(change, expected, atol=2e-3)


def test_each_axis_has_its_own_rows() -> None:
    x = running(ACC, 3.0, 0)
    y = x.copy()
    y[:, 1] = running(ACC, 3.0, 0, tone_hz=700.0)[:, 1]
    change = np.mean([b[ANOMALY] - a[ANOMALY] for a, b in zip(vectors(ACC, x), vectors(ACC, y), strict=True)], axis=0)
    bands = extraction(ACC).dimensions[ANOMALY]
    assert np.abs(change[:64]).max() < 1e-3
    peak = bands[int(np.argmax(change))]
    assert peak.channel == 1
    assert peak.low_hz < 700 < peak.high_hz


def test_gravity_is_no_vibration() -> None:
    x = running(SLOW, 5.0, 0)
    for a, b in zip(vectors(SLOW, x), vectors(SLOW, x + np.array([0, 0, -1], np.float32)), strict=True):
        np.testing.assert_allclose(a[LEVEL], b[LEVEL], atol=1e-3)


def test_a_known_sine_has_its_known_level() -> None:
    t = np.arange(6000) / 2000
    x = np.repeat((3 * np.sin(2 * np.pi * 125 * t))[:, None], 2, axis=1).astype(np.float32)
    level = dict(zip([d.name for d in extraction(ACC).dimensions[LEVEL]], vectors(ACC, x)[0][LEVEL][:7], strict=False))
    assert level["rms"] == pytest.approx(20 * np.log10(3 / np.sqrt(2)), abs=0.01)
    assert level["crest"] == pytest.approx(20 * np.log10(np.sqrt(2)), abs=0.01)
    assert level["kurtosis"] == pytest.approx(10 * np.log10(1.5), abs=0.01)
    assert level["octave_125_db"] == pytest.approx(level["rms"], abs=0.1)


def test_octaves_do_not_depend_on_the_wire_format() -> None:
    counts = (running(ACC, 3.0, 0) * 1000).round()
    wire = Stream("lathe", "acc", 0, "vibration", Rate(2000), 2, "<i2", "mg", 0.5)
    for a, b in zip(vectors(ACC, counts * np.float32(0.5)), vectors(wire, counts * np.float32(0.5)), strict=True):
        np.testing.assert_allclose(a[LEVEL], b[LEVEL], atol=1e-3)


def test_silent_and_incomplete_windows_have_no_vector() -> None:
    assert all(v == {} for v in vectors(MIC, np.zeros((96_000, 1), np.float32)))
    gone = Window(MIC, 0, 10, 0, np.empty((0, 0), np.float32), complete=False)
    assert extraction(MIC).vectors(gone) == {}


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 900))
def test_vectors_do_not_depend_on_how_samples_were_cut(step: int) -> None:
    x = running(ACC, 2.5, 0)
    for whole, cut in zip(vectors(ACC, x), vectors(ACC, x, step), strict=True):
        assert all(np.array_equal(whole[d], cut[d]) for d in whole)


def test_hashes_name_the_extraction() -> None:
    base = Extraction("vibration", Rate(2000), 3)
    others = [
        Extraction("vibration", Rate(2048), 3),
        Extraction("vibration", Rate(2000), 1),
        extraction(MIC),
        extraction(SLOW),
    ]
    assert len({e.hash for e in [base, *others]}) == 5
    assert Extraction("vibration", Rate(2000), 3).hash == base.hash


def test_sound_is_brought_to_48_khz() -> None:
    mic = Stream("lathe", "mic", 0, "acoustic", Rate(44_100), 1, "<f4", "FS")
    e = extraction(mic)
    found = list(windows(mic, e, [Segment(mic, Anchor(0, 0), 0, running(mic, 3.0, 0))]))
    assert found
    assert {w.stream.rate.hz for w in found} == {48_000}


def test_what_a_slow_microphone_cannot_hear_counts_for_nothing() -> None:
    """Of sound from 8 kHz, all above 4 kHz is what the resampler left: no fault of the machine moves a score there."""
    phone = extraction(Stream("lathe", "phone", 0, "acoustic", Rate(8000), 1, "<f4", "FS"))
    for detector, dimensions in phone.dimensions.items():
        deaf = np.array([d.low_hz >= 4000 for d in dimensions])
        assert deaf.any() and not deaf.all()
        scale = fit_scale(np.zeros((9, len(deaf)), np.float32), phone.floor(detector))
        z = scale(np.full(len(deaf), 60.0, np.float32))
        assert (np.abs(z[deaf]) < 1e-3).all() and (z[~deaf] == CLIP).all()
    assert [d.name for d in phone.dimensions[LEVEL] if d.low_hz >= 4000] == ["octave_8000_db", "octave_16000_db"]
    assert all(heard.all() for e in map(extraction, (MIC, ACC, SLOW)) for heard in e.heard.values())
