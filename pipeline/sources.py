"""From the configuration of sensors to the sources that feed them, with fast lanes beside those that have one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from config.fast_lane import Mqtt
from config.schema import Machine, Sensor, Settings
from config.sources import Excerpt, MicrophoneSource, PlaybackSource
from connectors.base import Source
from connectors.fastlane import FastLane, Outlet, RereadFastLane
from connectors.playback import Playback
from connectors.rotation import PulseReader, Reader, VoltageReader
from connectors.tachometer import RereadTachometer, Tachometer
from pipeline import drill_model
from pipeline.app import shelf_of
from pipeline.clock import Clock
from pipeline.fast import FastDetectors
from pipeline.stages import LaneSettings

FAST_CHUNK_S = 0.01
"""Length of chunks of a machine with a fast lane where the configuration names none."""


def build_sources(settings: Settings, clock: Clock) -> list[Source]:
    """A source for each sensor that has one here; sensors without are fed by another process.

    Args:
        settings: the configuration.
        clock: of the engine that polls them: a device dated by another would seem silent, or ahead, after a step.

    Raises:
        ConfigError: a source's settings make no sense together.
        MissingExtra: a technology is not installed.
    """
    makers: dict[type, Callable[[Machine, Sensor, object], Source]] = {
        PlaybackSource: _playback,
        MicrophoneSource: partial(_microphone, clock),
    }
    beside = _fast_lanes(settings, clock)
    sources = [
        beside(_tachometer(sensor, makers[type(sensor.source)](machine, sensor, sensor.source)), machine.fast_lane)
        for machine in settings.machines
        for sensor in machine.sensors
        if sensor.source is not None
    ]
    if settings.simulator is not None:
        from connectors.simulator.source import ShopSource  # numba is an extra

        s = settings.simulator
        shop = ShopSource(s.seed, normal_s=s.normal_s, duration_s=s.duration_s, speed=s.speed or None)
        sources.append(beside(shop, any(machine.fast_lane for machine in settings.machines)))
    return sources


def _fast_lanes(settings: Settings, clock: Clock) -> Callable[[Source, bool], Source]:
    """What puts a fast lane beside a source; all share the detectors of their machine and one connection."""
    fast = [machine for machine in settings.machines if machine.fast_lane]
    if not fast or settings.fast_lane.mqtt is None:
        return lambda source, _: source
    shelf = shelf_of(settings)
    listeners = {
        machine.name: FastDetectors(LaneSettings(machine, classifier=drill_model.configured(machine, shelf)))
        for machine in fast
    }
    hook = command_hook(settings.fast_lane.mqtt, settings.site, list(listeners), clock)

    def beside(source: Source, wanted: bool) -> Source:
        if not wanted:
            return source
        return (RereadFastLane if source.rereadable else FastLane)(source, listeners, hook)

    return beside


def command_hook(mqtt: Mqtt, site: str, machines: list[str], clock: Clock) -> Outlet:
    """The hook that sends alarms to a broker; it connects when the first lane is opened.

    Alarms expire by the clock that their events are dated by.

    Raises:
        ConfigError: a topic or a TLS file cannot be used.
        MissingExtra: paho-mqtt is not installed.
    """
    from connectors.mqtt_hook import MqttCommand  # paho-mqtt is an extra
    from connectors.mqtt_session import Broker

    broker = Broker(
        mqtt.host, mqtt.port, mqtt.client_id or "", mqtt.username,
        None if mqtt.password is None else mqtt.password.get_secret_value(), mqtt.tls, mqtt.ca_file, mqtt.cert_file,
        mqtt.key_file, mqtt.keepalive_s,
    )  # fmt: skip
    return MqttCommand(
        broker, topic=mqtt.topic, status_topic=mqtt.status_topic, site=site, machines=machines,
        expires_s=mqtt.expires_s, queue=mqtt.queue, clock_ns=clock.now_ns,
    )  # fmt: skip


def _chunk_s(machine: Machine, sensor: Sensor, source: PlaybackSource | MicrophoneSource) -> float:
    """As configured; a machine with a fast lane does not wait for the usual long chunks unless it is told to."""
    fast = machine.fast_lane and sensor.modality != "frames" and "chunk_s" not in source.model_fields_set
    return FAST_CHUNK_S if fast else source.chunk_s


def _channels(sensor: Sensor) -> int:
    """How many of a device's or file's channels are read: the sensor's, and that of its tachometer."""
    return max(sensor.channels, 0 if sensor.tachometer is None else sensor.tachometer.channel + 1)


def _tachometer(sensor: Sensor, source: Source) -> Source:
    """The source with a reader of its tachometer's channel, if it has one."""
    told = sensor.tachometer
    if told is None:
        return source
    reader: Reader
    if told.level is not None:
        reader = PulseReader(sensor.rate_hz, told.level, told.pulses_per_revolution, falling=told.edge == "falling")
    else:
        assert told.rpm_per_unit is not None
        reader = VoltageReader(sensor.rate_hz, told.rpm_per_unit)
    kind = RereadTachometer if source.rereadable else Tachometer
    return kind(source, reader, channel=told.channel, channels=sensor.channels, context=told.context)


def _playback(machine: Machine, sensor: Sensor, source: object) -> Source:
    assert isinstance(source, PlaybackSource)
    files = [
        {"path": file.path, "start_s": file.start_s, "end_s": file.end_s} if isinstance(file, Excerpt) else file
        for file in source.files
    ]
    return Playback(
        machine.name, sensor.name, sensor.modality, files, rate_hz=sensor.rate_hz, unit=sensor.unit,
        scale=sensor.scale, channels=range(_channels(sensor)), chunk_s=_chunk_s(machine, sensor, source),
        speed=source.speed, start_ns=source.start_ns, pause_s=source.pause_s, loop=source.loop,
    )  # fmt: skip


def _microphone(clock: Clock, machine: Machine, sensor: Sensor, source: object) -> Source:
    assert isinstance(source, MicrophoneSource)
    from connectors.microphone import Microphone  # PyAudio is an extra

    return Microphone(
        machine.name, sensor.name, source.device, host_api=source.host_api, port=source.port,
        rate_hz=round(sensor.rate_hz), channels=_channels(sensor), modality=sensor.modality, unit=sensor.unit,
        scale=sensor.scale, chunk_s=_chunk_s(machine, sensor, source), wait_for_device=True, clock=clock.now_ns,
    )  # fmt: skip
