"""Vibration severity after ISO 10816-3:2009: broadband RMS velocity on non-rotating parts, and its zone.

Acceleration is integrated to velocity in the frequency domain, within 10 to 1000 Hz (from 2 Hz below 600 rpm). Zone A
is typical of newly commissioned machines, B allows unrestricted long-term operation, C operation for a limited time,
D is severe enough to cause damage. A value on a boundary belongs to the lower zone. Nothing is guessed: an undeclared
unit, a rate too low for the band or a machine out of scope is refused with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from operators.base import Windowed
from operators.spectral import hann
from pipeline.messages import Feature, Float32, Message, Stream, Window, axis_names

Support = Literal["rigid", "flexible"]
Zone = Literal["A", "B", "C", "D"]

ZONES: tuple[Zone, ...] = ("A", "B", "C", "D")
METRES_PER_S2 = {"m/s2": 1.0, "m/s²": 1.0, "m/s^2": 1.0, "g": 9.80665, "mg": 9.80665e-3}
UPPER_HZ = 1000.0
NYQUIST_MARGIN = 0.95
LEAST_POWER_KW = 15.0
SPEEDS_RPM = 120.0, 15_000.0
_BESIDE = 0.25  # of a line: half a sample more in a window of a second moves that of 1000 Hz so far at 2.1 kHz
PERIODS = 5  # of the lower band edge that a window must hold
TOLERANCE = 1e-4  # relative error of the integration: so near to a limit, a value lies on it


class Limits(NamedTuple):
    """Zone limits in mm/s of RMS velocity, with the text that they come from."""

    ab: float
    bc: float
    cd: float
    edition: str
    provenance: str


_TABLE = "ISO 10816-3:2009, RMS velocity on non-rotating parts, by machine group and support"
LIMITS: dict[tuple[int, Support], Limits] = {
    (1, "rigid"): Limits(2.3, 4.5, 7.1, "ISO 10816-3:2009", _TABLE),
    (1, "flexible"): Limits(3.5, 7.1, 11.0, "ISO 10816-3:2009", _TABLE),
    (2, "rigid"): Limits(1.4, 2.8, 4.5, "ISO 10816-3:2009", _TABLE),
    (2, "flexible"): Limits(2.3, 4.5, 7.1, "ISO 10816-3:2009", _TABLE),
}


@dataclass(frozen=True, slots=True)
class Asset:
    """What the standard must know of a machine.

    Group 1: above 300 kW, or shaft height of 315 mm or more. Group 2: 15 to 300 kW, shaft height 160 to 315 mm.
    """

    group: Literal[1, 2]
    support: Support
    power_kw: float | None = None
    shaft_height_mm: float | None = None
    speed_rpm: float | None = None

    @property
    def limits(self) -> Limits:
        """Those of the standard."""
        return LIMITS[self.group, self.support]

    @property
    def lower_hz(self) -> float:
        """Lower edge of the band."""
        return 2.0 if self.speed_rpm is not None and self.speed_rpm < 600 else 10.0


def refusal(stream: Stream, asset: Asset) -> str | None:
    """Why a stream of this machine cannot be assessed, or None if it can."""
    if stream.unit not in METRES_PER_S2:
        return f"the unit {stream.unit!r} is not an acceleration: declare m/s2, g or mg"
    if stream.rate.hz * NYQUIST_MARGIN < 2 * UPPER_HZ:
        return (f"a rate of {stream.rate.hz:g} Hz is too low for {UPPER_HZ:g} Hz: "
                f"at least {2 * UPPER_HZ / NYQUIST_MARGIN:.0f} Hz is needed")  # fmt: skip
    if (asset.group, asset.support) not in LIMITS:
        return f"group {asset.group}, support {asset.support!r}: the standard knows groups 1 and 2, rigid and flexible"
    if asset.speed_rpm is not None and not asset.speed_rpm > 0:
        return f"a speed of {asset.speed_rpm:g} rpm: a machine at rest has no vibration severity"
    return _out_of_scope(asset)


def _out_of_scope(asset: Asset) -> str | None:
    power, height, speed = asset.power_kw, asset.shaft_height_mm, asset.speed_rpm
    least, most = SPEEDS_RPM
    if speed is not None and not least <= speed <= most:
        return f"a speed of {speed:g} rpm is out of scope: ISO 10816-3 covers {least:g} to {most:g} rpm"
    if power is not None and not power >= LEAST_POWER_KW:
        return f"a power of {power:g} kW is out of scope: ISO 10816-3 begins at {LEAST_POWER_KW:g} kW"
    if asset.group == 2 and power is not None and power > 300:
        return f"a machine of {power:g} kW belongs to group 1, not 2"
    if asset.group == 2 and height is not None and height >= 315:
        return f"a shaft height of {height:g} mm belongs to group 1, not 2"
    if asset.group == 1 and power is not None and power <= 300 and (height is None or height < 315):
        return f"a machine of {power:g} kW belongs to group 1 only with a shaft height of 315 mm or more"
    return None


def zone_of(velocity_mm_s: float, limits: Limits) -> Zone:
    """The zone of an RMS velocity; a value on a boundary, within 0.01 %, belongs to the lower zone."""
    above = sum(velocity_mm_s > limit * (1 + TOLERANCE) for limit in limits[:3])
    return ZONES[above]


def alarm_limit(baseline_mm_s: float, limits: Limits) -> float:
    """ALARM in mm/s: the baseline plus a quarter of B/C, not above 1.25 times B/C."""
    return min(baseline_mm_s + 0.25 * limits.bc, 1.25 * limits.bc)


def least_length(rate_hz: float, lower_hz: float) -> int:
    """Samples that a window must hold to resolve the lower edge of the band."""
    return int(np.ceil(PERIODS * rate_hz / lower_hz))


def velocity_rms(x: NDArray[np.floating], rate_hz: float, lower_hz: float = 10.0, upper_hz: float = UPPER_HZ
                 ) -> NDArray[np.float64]:  # fmt: skip
    """RMS velocity within a band from acceleration.

    The mean is removed and a Hann window laid on; the lines of its spectrum within the band are divided by (2πf)² and
    summed, corrected for the window's power (Parseval). The window spreads a tone over neighbouring lines with a
    variance of a third of a line squared, which would overestimate the convex 1/f² by (df/f)²; the weights take this
    off. Error for tones: about 0.01 % at the tenth line, 0.1 % at the sixth.

    Args:
        x: acceleration in m/s², shape (n, channels).
        rate_hz: sample rate.
        lower_hz: lower edge of the band. A tone on an edge reads 0.89 of what it is, one a line within it all.
        upper_hz: upper edge of the band.

    Returns:
        float64, shape (channels,), in m/s.

    Raises:
        ValueError: fewer than five periods of the lower edge, or an upper edge above half the rate.
    """
    n = len(x)
    if n < least_length(rate_hz, lower_hz):
        raise ValueError(f"{n} samples at {rate_hz:g} Hz are fewer than {PERIODS} periods of {lower_hz:g} Hz")
    if upper_hz > rate_hz / 2:
        raise ValueError(f"the band ends at {upper_hz:g} Hz, above half the rate of {rate_hz:g} Hz")
    wide = x.astype(np.float64)
    taper = hann(n)
    spectrum = np.abs(np.fft.rfft((wide - wide.mean(axis=0)) * taper[:, None], axis=0)) ** 2
    line = np.arange(len(spectrum))
    # a window of a second holds half a sample more or less where the rate is no whole number: its lines lie beside
    first, last = int(np.ceil(lower_hz * n / rate_hz - _BESIDE)), int(np.floor(upper_hz * n / rate_hz + _BESIDE))
    kept = line[first : last + 1]
    weights = (1 - 1.0 / kept**2) / (2 * np.pi * kept * rate_hz / n) ** 2
    power = (spectrum[first : last + 1] * weights[:, None]).sum(axis=0)
    result: NDArray[np.float64] = np.sqrt(2 * power / (n * (taper**2).sum()))
    return result


class Severity(Windowed):
    """`Window` of acceleration samples → `Feature` named ``severity``.

    Values: ``rms_velocity_mm_s``, the largest over the axes, and ``x.rms_velocity_mm_s``, ... for each; ``zone`` of
    the largest, 1 for A to 4 for D; ``limit_ab_mm_s``, ``limit_bc_mm_s``, ``limit_cd_mm_s``.

    Args:
        stream: the stream that the windows come from.
        asset: the machine.

    Raises:
        ValueError: the stream cannot be assessed; the text of `refusal`.
    """

    memory_s: ClassVar[float] = 0.0

    def __init__(self, stream: Stream, asset: Asset) -> None:
        reason = refusal(stream, asset)
        if reason is not None:
            raise ValueError(f"{stream.machine}/{stream.sensor}: {reason}")
        self.stream = stream
        self.asset = asset
        self.limits = asset.limits
        self._names = [f"{axis}.rms_velocity_mm_s" for axis in axis_names(stream.channels)]
        self._factor = METRES_PER_S2[stream.unit]
        self._fixed = {f"limit_{name}_mm_s": getattr(self.limits, name) for name in ("ab", "bc", "cd")}

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Nothing: each window stands for itself."""
        return {}

    def process(self, message: Message) -> Iterable[Message]:
        """Assess one window; an incomplete one gives an incomplete feature, and so does one without any signal."""
        if not isinstance(message, Window):
            raise TypeError(f"Severity takes Window, not {type(message).__name__}")
        usable = message.complete and bool(np.ptp(message.values, axis=0).any())  # a torn cable is no quiet machine
        values = self._values(message.values) if usable else {}
        return [Feature(self.stream.machine, (self.stream.sensor,), "severity", message.t_end_ns, values,
                        usable, (message.span,))]  # fmt: skip

    def _values(self, x: Float32) -> dict[str, float]:
        acceleration = x.astype(np.float64) * self._factor
        velocity = (1000 * velocity_rms(acceleration, self.stream.rate.hz, self.asset.lower_hz)).tolist()
        largest = max(velocity)
        zone = ZONES.index(zone_of(largest, self.limits)) + 1
        head = {"rms_velocity_mm_s": largest, "zone": float(zone)}
        return head | dict(zip(self._names, velocity, strict=True)) | self._fixed
