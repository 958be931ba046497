"""A small shop with truth: a mill that sometimes chatters, a drill press that breaks bits, a motor whose bearing fails.

Each microphone also hears the neighbours, the hall, and events that concern no machine. Every sample is a pure
function of seed, sensor and index, so that reading can begin anywhere and a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from connectors.simulator import shop_drill, shop_mill, shop_motor
from connectors.simulator.ambience import ambience
from connectors.simulator.microphone_model import FULL_SCALE, Microphone, Pickup, machine_sound
from connectors.simulator.rotation import Rotation
from connectors.simulator.seeds import generator, uniform
from connectors.simulator.shop_parts import Fact, Sensor, Truth
from connectors.simulator.tracks import Track

_SOUND_HZ = 48_000


class Shop:
    """The machines ``mill-1``, ``drill-1`` and ``motor-1`` with their five sensors.

    Args:
        seed: of everything, 0 or more.
        normal_s: no event before; chatter and a break follow soon after, the bearing's fault ten seconds later.

    Attributes:
        sensors: of all machines.

    Raises:
        MissingExtra: numba is not installed.
    """

    def __init__(self, seed: int, normal_s: float = 60.0) -> None:
        self.seed, self.normal_s = seed, normal_s
        self._mill = shop_mill.ShopMill(seed, normal_s)
        self._drill = shop_drill.ShopDrill(seed, normal_s)
        self._motor = shop_motor.ShopMotor(seed, normal_s)
        sounds = self._sounds()
        self.sensors: tuple[Sensor, ...] = (
            _sound(shop_mill.NAME, 960, sounds[shop_mill.NAME]),
            Sensor(
                machine=shop_mill.NAME,
                name="spindle",
                modality="vibration",
                rate_hz=shop_mill.VIBRATION_HZ,
                chunk=512,
                dtype="<i2",
                unit="m/s2",
                scale=shop_mill.FULL_SCALE_M_S2 / FULL_SCALE,
                track=self._mill.vibration,
            ),
            _sound(shop_drill.NAME, 960, sounds[shop_drill.NAME]),
            _sound(shop_motor.NAME, 4800, sounds[shop_motor.NAME]),
            Sensor(
                machine=shop_motor.NAME,
                name="bearing",
                modality="vibration",
                rate_hz=shop_motor.VIBRATION_HZ,
                chunk=2560,
                dtype="<f4",
                unit="m/s2",
                scale=1.0,
                track=self._motor.vibration,
            ),
        )

    def truth(self, until_s: float) -> list[dict[str, Any]]:
        """What happened before `until_s` s from the start, by onset, ready for JSON; ``end_s`` is null if it lasts."""
        found: list[Truth] = [t for m in (self._mill, self._drill, self._motor) for t in m.truth(until_s)]
        found = sorted((t for t in found if t.onset_s < until_s), key=lambda t: (t.onset_s, t.machine))
        return [_told(t) for t in found]

    def facts(self, second: int) -> Iterator[tuple[str, Fact]]:
        """Machine and slow fact, of all machines, at a whole second from the start."""
        yield from ((shop_mill.NAME, fact) for fact in self._mill.facts(second))
        yield from ((shop_drill.NAME, fact) for fact in self._drill.facts(second))
        yield from ((shop_motor.NAME, fact) for fact in self._motor.facts(second))

    def configuration(self) -> dict[str, Any]:
        """What an installation would know about the shop: machines, sensors, tool and bearing data. No truth."""
        geometry = self._motor.motor.geometry
        known: Mapping[str, dict[str, Any]] = {
            shop_mill.NAME: {"kind": "mill", "teeth": self._mill.job.cut.tool.teeth},
            shop_drill.NAME: {"kind": "drill", "spindles": 1},
            shop_motor.NAME: {"kind": "motor", "bearing": geometry._asdict(), "gear_teeth": self._motor.motor.teeth},
        }
        return {
            "machines": [
                {"id": name, **facts, "sensors": [_described(s) for s in self.sensors if s.machine == name]}
                for name, facts in known.items()
            ]
        }

    def _sounds(self) -> dict[str, Track]:
        """Microphones; each hears its neighbours' machines more softly and later, and the hall."""
        machines: dict[str, tuple[Track, Rotation, Pickup]] = {
            shop_mill.NAME: (self._mill.work, self._mill.rotation, self._mill.pickup),
            shop_drill.NAME: (self._drill.work, self._drill.rotation, self._drill.pickup),
            shop_motor.NAME: (self._motor.work, self._motor.rotation, self._motor.pickup),
        }
        dry = {name: machine_sound(*machine, self.seed, name) for name, machine in machines.items()}
        tracks: dict[str, Track] = {}
        for name, (_, _, pickup) in machines.items():
            rng = generator(self.seed, "shop", "place", name)
            others: list[tuple[Track, float, int]] = [
                (ambience(_SOUND_HZ, self.seed, name), 10.0 ** (-uniform(rng, 14.0, 22.0) / 20.0), 0)
            ]
            for neighbour, sound in dry.items():
                if neighbour != name:
                    gain, delay = 10.0 ** (-uniform(rng, 24.0, 34.0) / 20.0), int(rng.integers(200, 2000))
                    others.append((sound, gain, delay))
            tracks[name] = Microphone(dry[name], pickup, seed=self.seed, name=name, others=tuple(others)).track
        return tracks


def _sound(machine: str, chunk: int, track: Track) -> Sensor:
    return Sensor(
        machine=machine,
        name="microphone",
        modality="acoustic",
        rate_hz=_SOUND_HZ,
        chunk=chunk,
        dtype="<i2",
        unit="FS",
        scale=1.0 / FULL_SCALE,
        track=track,
    )


def _described(sensor: Sensor) -> dict[str, Any]:
    return {
        "id": sensor.name,
        "modality": sensor.modality,
        "rate_hz": sensor.rate_hz,
        "channels": sensor.channels,
        "dtype": sensor.dtype,
        "unit": sensor.unit,
        "scale": sensor.scale,
        "chunk": sensor.chunk,
    }


def _told(truth: Truth) -> dict[str, Any]:
    return {
        "machine": truth.machine,
        "event": truth.event,
        "onset_s": truth.onset_s,
        "end_s": None if truth.end_s == inf else truth.end_s,
        **truth.more,
    }
