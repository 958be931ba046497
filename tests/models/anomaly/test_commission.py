import dataclasses

import numpy as np
import pytest

from models.anomaly.baseline import Baseline
from models.anomaly.chain import windows
from models.anomaly.commission import Normal, commission
from models.anomaly.score import AnomalyScore
from models.anomaly.vectors import ANOMALY, LEVEL, extraction
from pipeline.errors import BadInput
from pipeline.messages import Rate, Score, Stream
from tests.models.anomaly.rig import ACC, MIC, SLOW, Part, normals, running


@pytest.fixture(scope="module")
def acc() -> Baseline:
    return commission(normals(ACC, 8))[0]


def samples(one: Normal) -> np.ndarray:
    (part,) = one.parts
    assert isinstance(part, Part)
    return part.x


def scores(
    baseline: Baseline, x: np.ndarray, detector: str = ANOMALY, stream: Stream = ACC, state: str | None = None
) -> list[Score]:
    scorer = AnomalyScore(baseline, None if state is None else lambda _: state)
    found = windows(stream, extraction(stream), Part(stream, x).segments())
    return [s for w in found for s in scorer.process(w) if isinstance(s, Score) and s.detector == detector]


def test_one_baseline_per_sensor_with_its_facts() -> None:
    acc, fan = commission([*normals(ACC, 3), *normals(SLOW, 3)])
    assert (acc.machine, acc.sensor, acc.rate.hz, acc.channels, acc.unit) == ("lathe", "acc", 2000, 2, "mg")
    assert acc.starts == ("s0", "s1", "s2")
    assert acc.hours == pytest.approx(3 * 12 / 3600, rel=0.1)
    assert set(acc.cells[0]) == {ANOMALY, LEVEL}
    assert set(fan.cells[0]) == {LEVEL}
    assert not acc.provisional
    assert any("3 starts" in line for line in acc.sentences())


def test_new_starts_of_the_same_machine_stay_below_the_threshold() -> None:
    # the largest of six starts is exceeded by one in seven; the threshold must do better than that on average
    above: dict[str, list[bool]] = {ANOMALY: [], LEVEL: []}
    for first in (0, 10, 20, 30):
        baseline = commission(normals(ACC, 6, seconds=6.0, first=first))[0]
        for i in range(100 + first, 106 + first):
            x = running(ACC, 6.0, i)
            for detector, found in above.items():
                found.append(any(s.abnormal for s in scores(baseline, x, detector)))
    assert np.mean(above[ANOMALY]) < 1 / 7
    assert np.mean(above[LEVEL]) < 1 / 7


def test_a_new_tone_is_abnormal_and_named(acc: Baseline) -> None:
    found = scores(acc, running(ACC, 6.0, 50, tone_hz=500.0))
    assert all(s.abnormal for s in found)
    top = found[0].reasons["bands"][0]
    assert top["low_hz"] < 500 < top["high_hz"]
    assert top["sigma"] > 3
    assert "Hz +" in found[0].reasons["text"]
    assert found[0].reasons["back_end"] in {"knn_l2", "maha", "pca_res", "ldn"}


@pytest.mark.parametrize("detector", [ANOMALY, LEVEL])
def test_a_sample_too_large_for_its_power_is_not_judged(acc: Baseline, detector: str) -> None:
    x = running(ACC, 6.0, 50)
    x[3000, 0] = 1e30
    with np.errstate(over="ignore", invalid="ignore"):
        found = scores(acc, x, detector)
    assert all(np.isfinite(s.value) for s in found)
    lost = [s for s in found if not s.complete]
    assert lost and all("no number" in s.reasons["text"] for s in lost)
    assert len(lost) < len(found)


def test_a_louder_machine_is_a_matter_of_level(acc: Baseline) -> None:
    x = running(ACC, 6.0, 50, gain=4.0)
    assert all(s.abnormal for s in scores(acc, x, LEVEL))
    assert not any(s.abnormal for s in scores(acc, x, ANOMALY))
    assert any("rms" in s.reasons["text"] or "octave" in s.reasons["text"] for s in scores(acc, x, LEVEL))


def test_results_carry_what_they_depend_on(acc: Baseline) -> None:
    found = scores(acc, running(ACC, 3.0, 50))
    assert {s.settings for s in found} == {acc.settings}
    assert all(s.lineage[0].sensor == "acc" and s.complete for s in found)
    assert len({s.id for s in found}) == len(found)
    assert found[0].value == scores(acc, running(ACC, 3.0, 50))[0].value


def test_local_density_joins_with_three_starts(acc: Baseline) -> None:
    names = [m.back_end.name for m in acc.cells[0][ANOMALY].fusion.members]
    assert names == ["knn_l2", "maha", "pca_res", "ldn"]
    two = commission(normals(ACC, 2))[0]
    assert "ldn" not in [m.back_end.name for m in two.cells[0][ANOMALY].fusion.members]


def test_one_start_is_provisional() -> None:
    one = commission(normals(ACC, 1, seconds=30.0))[0]
    assert one.provisional
    assert any("Provisional" in line for line in one.sentences())
    assert all(s.reasons["provisional"] for s in scores(one, running(ACC, 3.0, 0, seed=1)))


def test_promised_false_alarms_are_the_poisson_limit_of_what_was_left_out(acc: Baseline) -> None:
    cell = acc.cells[0][ANOMALY]
    assert cell.false_alarms.hours == pytest.approx(8 * 12 / 3600, rel=0.1)
    if cell.false_alarms.count == 0:
        assert cell.false_alarms.upper == pytest.approx(-np.log(0.05) / cell.false_alarms.hours * 24, rel=1e-6)
    assert any("false alarms a day with 95 % confidence" in line for line in acc.sentences())


def test_states_with_enough_starts_are_judged_alone() -> None:
    loud = [
        dataclasses.replace(n, name=f"l{n.name}", start=f"l{n.start}", state="loud", parts=[Part(ACC, samples(n) * 8)])
        for n in normals(ACC, 5, seconds=6.0)
    ]
    few = normals(ACC, 2, seconds=6.0, state="rare", first=20)
    both = commission([*normals(ACC, 5, seconds=6.0, state="quiet"), *loud, *few])[0]
    assert both.states == {"quiet": 0, "loud": 1, "rare": 2}
    assert both.cells[2][LEVEL].starts == 12
    assert any("judged by all states together: rare (2 starts of its own)." in note for note in both.notes)
    x = running(ACC, 4.0, 60)
    assert not any(s.abnormal for s in scores(both, x, LEVEL, state="quiet"))
    assert all(s.abnormal for s in scores(both, x, LEVEL, state="loud"))
    unknown = scores(both, x, LEVEL, state="drilling")
    assert unknown
    assert not any(s.complete for s in unknown)
    assert "never commissioned" in unknown[0].reasons["text"]


def test_recordings_without_a_state_beside_others_have_a_name() -> None:
    some = [*normals(ACC, 2, seconds=5.0), *normals(ACC, 1, seconds=5.0, state="idle", first=2)]
    told = commission(some)[0].sentences()
    assert any(line.startswith("level in (no state), idle: ") for line in told)
    assert any("together: (no state) (2 starts of its own), idle (1 start of its own)." in line for line in told)


def test_a_control_that_tells_numbers_means_the_states_of_the_manifest(acc: Baseline) -> None:
    """A context's number is a float, and 2.0 as text; a manifest's column says 2."""
    numbered = dataclasses.replace(acc, states={"2": 0, "idle": 0})
    assert numbered.cell("2.0", LEVEL) is numbered.cell("2", LEVEL) is acc.cells[0][LEVEL]
    assert numbered.cell("2.5", LEVEL) is None and numbered.cell("20", LEVEL) is None
    assert dataclasses.replace(acc, states={"2.0": 0}).cell("2.0", LEVEL) is not None
    assert dataclasses.replace(acc, states={"v1": 0}).cell("v1.0", LEVEL) is None  # a name is no number


def test_a_machine_that_mostly_idles_is_judged_while_it_runs(acc: Baseline) -> None:
    """Running is 20 dB above idling for a quarter of the time; 14 dB more in running is a fault."""

    def cycling(start: int) -> np.ndarray:
        idle, loud = running(ACC, 16.0, start), running(ACC, 16.0, start, gain=10.0, seed=1)
        return np.where((np.arange(len(idle)) % 16_000 < 4000)[:, None], loud, idle)

    baseline = commission([Normal(f"r{i}", f"s{i}", "", [Part(ACC, cycling(i))]) for i in range(4)])[0]
    well, wrong = (scores(baseline, running(ACC, 4.0, 50, gain=g), LEVEL) for g in (10.0, 50.0))
    assert not any(s.abnormal for s in well)
    assert all(s.abnormal for s in wrong)
    assert any("kinds of running that differ widely" in note for note in baseline.notes)
    assert not any("differ widely" in note for note in acc.notes)


def test_windows_without_a_power_teach_nothing_and_are_told(acc: Baseline) -> None:
    """One cell of a CSV at the largest float32, as loggers write for "no value"."""
    spoilt = normals(ACC, 3, seconds=6.0)
    samples(spoilt[1])[6000] = 3.4028235e38
    with np.errstate(over="ignore", invalid="ignore"):
        (learned,) = commission(spoilt)
    assert any("left out whose samples' power is no number" in note for note in learned.notes)
    assert not any("no number" in note for note in acc.notes)
    x = running(ACC, 4.0, 50, gain=10.0)
    assert all(s.abnormal for s in scores(learned, x, LEVEL))


def test_a_start_that_is_unlike_the_others_is_told(acc: Baseline) -> None:
    """It is learned, as nobody but the user knows whether it was normal."""
    howl = Normal("bad", "bad", "", [Part(ACC, running(ACC, 5.0, 5, tone_hz=500.0))])
    (learned,) = commission([*normals(ACC, 5, seconds=5.0), howl])
    (told,) = [note for note in learned.notes if "unlike" in note]
    assert told.startswith("Start 'bad' is unlike the other 5: ") and "leave it out if it was not normal" in told
    few = commission([*normals(ACC, 2, seconds=5.0), howl])[0]
    assert not any("unlike" in note for note in (*acc.notes, *few.notes))


def test_a_machine_without_states_is_judged_in_any(acc: Baseline) -> None:
    assert all(s.complete for s in scores(acc, running(ACC, 3.0, 0), state="whatever"))


def test_what_cannot_be_learned_from_is_refused() -> None:
    with pytest.raises(BadInput, match="no normal recording"):
        commission([])
    with pytest.raises(BadInput, match="every channel gives a signal"):
        commission([Normal("zero", "s", "", [Part(MIC, np.zeros((480_000, 1), np.float32))])])
    other = Stream("lathe", "acc", 0, "vibration", ACC.rate, 2, "<f4", "m/s2")
    mixed = [*normals(ACC, 1), Normal("odd", "s9", "", [Part(other, running(other, 3.0, 0))])]
    with pytest.raises(BadInput, match="odd: unit is m/s2"):
        commission(mixed)
    faster = dataclasses.replace(ACC, rate=Rate(4000))
    with pytest.raises(BadInput, match="odd: rate is 4000 Hz, but other recordings of lathe/acc have 2000 Hz"):
        commission([*normals(ACC, 1), Normal("odd", "s9", "", [Part(faster, running(faster, 3.0, 0))])])
    plc = dataclasses.replace(ACC, rate=Rate(10))
    with pytest.raises(BadInput, match="lathe/acc has 10 Hz; vibration is judged from 32 Hz on"):
        commission([Normal("plc", "s", "", [Part(plc, running(plc, 30.0, 0))])])


def test_silent_recordings_are_no_starts_and_no_hours() -> None:
    silence = [Normal(f"off {i}", f"off {i}", "", [Part(ACC, np.zeros((16_000, 2), np.float32))]) for i in range(3)]
    with_silence, without = (commission([*normals(ACC, 2), *more])[0] for more in (silence, []))
    assert (with_silence.hours, with_silence.starts) == (without.hours, without.starts)
    assert "Learned from 2 starts; 5 make the threshold reliable." in with_silence.notes
    assert any("silent windows were left out" in note for note in with_silence.notes)


def test_a_baseline_refuses_another_sensor(acc: Baseline) -> None:
    acc.check(ACC)
    for change in ({"unit": "m/s2"}, {"channels": 3}, {"modality": "acoustic"}):
        with pytest.raises(BadInput, match="commission this sensor anew"):
            acc.check(dataclasses.replace(ACC, **change))
    with pytest.raises(BadInput, match="commission again"):
        AnomalyScore(dataclasses.replace(acc, front_end="other"))


def test_a_start_that_is_a_copy_of_another_is_refused() -> None:
    """Left out, it would be judged by itself: no alarm, whatever the threshold, and alarms for ever afterwards."""
    one, other = normals(ACC, 2, seconds=5.0)
    again = dataclasses.replace(other, name="copy", start="c")
    with pytest.raises(BadInput, match=r"start 'c' is a copy of start|is a copy of start 'c'"):
        commission([one, other, again])


def test_a_recording_in_a_loop_is_told() -> None:
    """Not refused: a first look at the demonstration is one."""
    one = normals(ACC, 1, seconds=5.0)[0]
    (learned,) = commission([one, one, one])
    assert any("repeat others exactly" in line for line in learned.sentences())
    (fine,) = commission(normals(ACC, 3, seconds=5.0))
    assert not any("repeat" in line for line in fine.sentences())


@pytest.mark.parametrize("dead", [1, 3])
def test_a_dead_slow_sensor_teaches_nothing(dead: int) -> None:
    """All axes flat are no normal running; one flat axis of several is, as the others still say something."""
    recordings = normals(SLOW, 3)
    flat = []
    for recording in recordings:
        parts = [Part(SLOW, samples(recording).copy())]
        for part in parts:
            part.x[:, :dead] = 0.5
        flat.append(dataclasses.replace(recording, parts=parts))
    if dead == SLOW.channels:
        with pytest.raises(BadInput, match="in which every channel gives a signal"):
            commission(flat)
    else:
        assert commission(flat)
