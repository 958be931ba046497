"""From the configuration of sensors to the sources that feed them."""

from __future__ import annotations

from collections.abc import Callable

from config.schema import Excerpt, Machine, MicrophoneSource, PlaybackSource, Sensor, Settings
from connectors.base import Source
from connectors.playback import Playback


def build_sources(settings: Settings) -> list[Source]:
    """A source for each sensor that has one here; sensors without are fed by another process.

    Raises:
        ConfigError: a source's settings make no sense together.
        MissingExtra: a technology is not installed.
    """
    makers: dict[type, Callable[[Machine, Sensor, object], Source]] = {
        PlaybackSource: _playback,
        MicrophoneSource: _microphone,
    }
    sources = [
        makers[type(sensor.source)](machine, sensor, sensor.source)
        for machine in settings.machines
        for sensor in machine.sensors
        if sensor.source is not None
    ]
    if settings.simulator is not None:
        from connectors.simulator.source import ShopSource  # numba is an extra

        s = settings.simulator
        sources.append(ShopSource(s.seed, normal_s=s.normal_s, duration_s=s.duration_s, speed=s.speed or None))
    return sources


def _playback(machine: Machine, sensor: Sensor, source: object) -> Source:
    assert isinstance(source, PlaybackSource)
    files = [
        {"path": file.path, "start_s": file.start_s, "end_s": file.end_s} if isinstance(file, Excerpt) else file
        for file in source.files
    ]
    return Playback(
        machine.name, sensor.name, sensor.modality, files, rate_hz=sensor.rate_hz, unit=sensor.unit,
        scale=sensor.scale, channels=range(sensor.channels), chunk_s=source.chunk_s, speed=source.speed,
        start_ns=source.start_ns, pause_s=source.pause_s, loop=source.loop,
    )  # fmt: skip


def _microphone(machine: Machine, sensor: Sensor, source: object) -> Source:
    assert isinstance(source, MicrophoneSource)
    from connectors.microphone import Microphone  # PyAudio is an extra

    return Microphone(
        machine.name, sensor.name, source.device, host_api=source.host_api, port=source.port,
        rate_hz=round(sensor.rate_hz), channels=sensor.channels, modality=sensor.modality, unit=sensor.unit,
        chunk_s=source.chunk_s, wait_for_device=True,
    )  # fmt: skip
