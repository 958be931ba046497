"""Severity: AC-V of ISO 10816-3, against closed-form tones."""

from __future__ import annotations

import numpy as np
import pytest

from operators.severity import (
    LIMITS,
    ZONES,
    Asset,
    Limits,
    Severity,
    Support,
    alarm_limit,
    refusal,
    velocity_rms,
    zone_of,
)
from pipeline.messages import Feature, Segment, Window
from tests.operators.pieces import ANCHOR, column, stream

ROWS = sorted(LIMITS)
ASSET = Asset(1, "rigid", power_kw=500)


def acceleration(
    frequency: float, velocity_mm_s: float, rate: int, seconds: float = 1.0, phase: float = 0.4
) -> np.ndarray:
    """A sine in m/s² whose velocity has this RMS, on top of gravity."""
    t = np.arange(round(rate * seconds)) / rate
    amplitude = np.sqrt(2) * velocity_mm_s / 1000 * 2 * np.pi * frequency
    return np.asarray(9.80665 + amplitude * np.sin(2 * np.pi * frequency * t + phase))


def measured(x: np.ndarray, rate: int, unit: str = "m/s2", asset: Asset = ASSET) -> Feature:
    source = stream(rate, unit, modality="vibration")
    (feature,) = Severity(source, asset).process(Window(source, 0, len(x), 7, column(x)))
    assert isinstance(feature, Feature)
    return feature


def test_the_table() -> None:
    """The four rows as published."""
    assert {key: limits[:3] for key, limits in LIMITS.items()} == {
        (1, "rigid"): (2.3, 4.5, 7.1),
        (1, "flexible"): (3.5, 7.1, 11.0),
        (2, "rigid"): (1.4, 2.8, 4.5),
        (2, "flexible"): (2.3, 4.5, 7.1),
    }
    assert {limits.edition for limits in LIMITS.values()} == {"ISO 10816-3:2009"}
    assert all("ISO 10816-3:2009" in limits.provenance for limits in LIMITS.values())


@pytest.mark.parametrize(("group", "support"), ROWS)
@pytest.mark.parametrize("boundary", [0, 1, 2])
@pytest.mark.parametrize("rate", [2560, 5000, 25_600])
def test_a_boundary_belongs_to_the_lower_zone(group: int, support: Support, boundary: int, rate: int) -> None:
    """AC-V1: a 50 Hz sine exactly at each boundary, and one per mille above it."""
    asset = Asset(group, support)  # type: ignore[arg-type]
    limit = LIMITS[group, support][:3][boundary]
    at = measured(acceleration(50, limit, rate), rate, asset=asset)
    above = measured(acceleration(50, limit * 1.001, rate), rate, asset=asset)
    assert at.values["zone"] == boundary + 1
    assert above.values["zone"] == boundary + 2
    assert zone_of(limit, LIMITS[group, support]) == ZONES[boundary]


@pytest.mark.parametrize("limits", LIMITS.values())
def test_what_lies_within_the_integrations_error_of_a_limit_lies_on_it(limits: Limits) -> None:
    """An error of 0.01 %."""
    for zone, above, limit in zip("ABC", "BCD", limits[:3], strict=True):
        assert zone_of(limit * (1 + 0.9e-4), limits) == zone
        assert zone_of(limit * (1 + 1.1e-4), limits) == above


@pytest.mark.parametrize("frequency", [20, 20.37, 159.2, 900])
@pytest.mark.parametrize("rate", [2106, 2560, 25_600])
@pytest.mark.parametrize(("unit", "factor"), [("m/s2", 1.0), ("g", 9.80665), ("mg", 9.80665e-3)])
def test_integration(frequency: float, rate: int, unit: str, factor: float) -> None:
    """AC-V2: within 2 % (in fact 0.02 %) of the closed form, in every unit."""
    feature = measured(acceleration(frequency, 3.0, rate) / factor, rate, unit)
    assert feature.values["rms_velocity_mm_s"] == pytest.approx(3.0, rel=2e-4)


def test_one_g_at_159_hz() -> None:
    """The textbook value: 1 m/s² RMS at 159.155 Hz is 1 mm/s RMS."""
    t = np.arange(5000) / 5000
    x = np.sqrt(2) * np.sin(1000 * t)
    assert velocity_rms(x[:, None], 5000)[0] * 1000 == pytest.approx(1.0, rel=1e-4)


def test_noise_against_its_density() -> None:
    """White acceleration noise of density S: v² = S/(4π²) · (1/10 - 1/1000), within the statistics of 60 s."""
    rate, rng = 4000, np.random.default_rng(0)
    x = rng.standard_normal((60 * rate, 1))
    expected = np.sqrt(2 / rate / (4 * np.pi**2) * (1 / 10 - 1 / 1000))
    assert velocity_rms(x, rate)[0] == pytest.approx(expected, rel=0.05)


def test_outside_the_band_nothing_counts() -> None:
    """5 and 1200 Hz are left out; below 600 rpm 5 Hz counts."""
    for frequency in (5, 1200):
        assert measured(acceleration(frequency, 5.0, 8000), 8000).values["rms_velocity_mm_s"] < 0.02
    slow = Asset(1, "rigid", speed_rpm=400)
    assert slow.lower_hz == 2
    assert Asset(1, "rigid", speed_rpm=600).lower_hz == 10
    x = acceleration(5, 5.0, 4000, seconds=2.5)
    assert measured(x, 4000, asset=slow).values["rms_velocity_mm_s"] == pytest.approx(5, rel=2e-3)


@pytest.mark.parametrize(
    ("rate", "unit", "asset", "reason"),
    [
        (5000, "FS", ASSET, "unit 'FS'"),
        (5000, "", ASSET, "unit ''"),
        (2105, "g", ASSET, "too low"),
        (2000, "g", ASSET, "at least 2105 Hz"),
        (5000, "g", Asset(1, "rigid", power_kw=14.9, shaft_height_mm=400), "out of scope"),
        (5000, "g", Asset(2, "rigid", power_kw=float("nan")), "out of scope"),
        (5000, "g", Asset(1, "rigid", power_kw=200), "315 mm or more"),
        (5000, "g", Asset(1, "rigid", power_kw=200, shaft_height_mm=314), "315 mm or more"),
        (5000, "g", Asset(1, "rigid", power_kw=300), "315 mm or more"),
        (5000, "g", Asset(2, "rigid", power_kw=301), "belongs to group 1"),
        (5000, "g", Asset(2, "rigid", shaft_height_mm=315), "belongs to group 1"),
        (5000, "g", Asset(3, "rigid"), "groups 1 and 2"),  # type: ignore[arg-type]
        (5000, "g", Asset(1, "rigid", speed_rpm=0), "at rest"),
        (5000, "g", Asset(1, "rigid", speed_rpm=119), "120 to 15000 rpm"),
        (5000, "g", Asset(1, "rigid", speed_rpm=15_001), "120 to 15000 rpm"),
    ],
)
def test_refusals(rate: int, unit: str, asset: Asset, reason: str) -> None:
    """AC-V3: refused with a reason, never guessed."""
    source = stream(rate, unit)
    assert reason in (refusal(source, asset) or "")
    with pytest.raises(ValueError, match="m/s: "):
        Severity(source, asset)


def test_what_is_just_allowed() -> None:
    """2106 Hz, 15 kW, group 1 by shaft height or by power alone, the largest of group 2."""
    assert refusal(stream(2106, "g"), Asset(2, "rigid", power_kw=15)) is None
    assert refusal(stream(5000, "mg"), Asset(1, "rigid", power_kw=200, shaft_height_mm=315)) is None
    assert refusal(stream(5000, "mg"), Asset(1, "rigid", power_kw=301)) is None
    assert refusal(stream(5000, "mg"), Asset(2, "rigid", power_kw=300, shaft_height_mm=314)) is None


def test_alarm_rule() -> None:
    """AC-V5: the published example 0.8 + 0.25 · 4.5 = 1.925, capped at 1.25 · 4.5."""
    limits = LIMITS[1, "rigid"]
    assert alarm_limit(0.8, limits) == pytest.approx(1.925)
    assert alarm_limit(5.0, limits) == pytest.approx(5.625)


@pytest.mark.parametrize("rate", [51_200 / 3, 51_200 / 7, 12_800.5, 2106.4, 8000.0])
def test_edges_of_the_band_at_rates_that_are_no_whole_numbers(rate: float) -> None:
    """A window of a second holds half a sample more or less: the edge's own line must not fall out of the band."""
    t = np.arange(round(rate)) / rate
    for frequency, share in ((10.0, 0.893), (10.5, 0.9865), (11.0, 1.0), (999.0, 1.0), (1000.0, 0.935)):
        x = 2.8e-3 * np.sqrt(2) * 2 * np.pi * frequency * np.sin(2 * np.pi * frequency * t + 0.3)
        assert 1000 * float(velocity_rms(x[:, None], rate)[0]) == pytest.approx(2.8 * share, rel=0.03)


@pytest.mark.parametrize("value", [0.0, 9.81])
def test_a_torn_cable_is_no_quiet_machine(value: float) -> None:
    """A flat line gives no number; one living axis does."""
    source = stream(5000, "m/s2", channels=2)
    x = np.full((5000, 2), value, np.float32)
    (flat,) = Severity(source, ASSET).process(Window(source, 0, 5000, 7, x))
    assert isinstance(flat, Feature) and not flat.complete and not flat.values
    x[:, 1] = acceleration(100, 2.0, 5000)
    (half,) = Severity(source, ASSET).process(Window(source, 0, 5000, 7, x))
    assert isinstance(half, Feature) and half.values["rms_velocity_mm_s"] == pytest.approx(2.0, rel=1e-3)


def test_axes_and_incomplete_windows() -> None:
    """The largest axis decides; an incomplete window stays incomplete; too short a window is refused."""
    source = stream(5000, "m/s2", channels=3)
    x = np.stack([acceleration(100, v, 5000) for v in (1.0, 5.0, 2.0)], axis=1).astype(np.float32)
    operator = Severity(source, ASSET)
    (feature,) = operator.process(Window(source, 0, 5000, 7, x))
    assert isinstance(feature, Feature) and feature.name == "severity" and feature.lineage[0] == ("s", 0, 0, 5000)
    expected = {"x.rms_velocity_mm_s": 1.0, "y.rms_velocity_mm_s": 5.0, "z.rms_velocity_mm_s": 2.0}
    expected |= {"rms_velocity_mm_s": 5.0, "zone": 3.0}
    expected |= {"limit_ab_mm_s": 2.3, "limit_bc_mm_s": 4.5, "limit_cd_mm_s": 7.1}
    assert feature.values == pytest.approx(expected, rel=1e-4)
    (lost,) = operator.process(Window(source, 0, 5000, 7, np.empty((0, 0), np.float32), complete=False))
    assert isinstance(lost, Feature) and not lost.complete and not lost.values
    assert operator.needs_from() == {}
    with pytest.raises(ValueError, match="periods"):
        operator.process(Window(source, 0, 400, 7, x[:400]))
    with pytest.raises(ValueError, match="half the rate"):
        velocity_rms(x, 1500)
    with pytest.raises(TypeError, match="Window"):
        operator.process(Segment(source, ANCHOR, 0, x))
