"""The simulated shop as an installation: its configuration, and its streams in one recording."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

import config
from config.schema import Settings
from connectors.simulator.shop import Shop
from connectors.simulator.source import ShopSource
from pipeline.app import Plan, recording_start
from pipeline.messages import NS, Input
from pipeline.recording.recorder import Recorder
from pipeline.stages import LaneSettings
from pipeline.state import Store

START_NS = 1_700_000_000 * NS
"""Event time at which simulated recordings begin: 2023-11-14 22:13:20 UTC."""


def settings_of(shop: Shop) -> Settings:
    """The configuration of an installation that watches the shop."""
    machines: dict[str, dict[str, Any]] = {}
    for sensor in shop.sensors:
        entry = machines.setdefault(sensor.machine, {"name": sensor.machine, "sensor": []})
        entry["sensor"].append(
            {
                "name": sensor.name, "modality": sensor.modality, "rate_hz": sensor.rate_hz, "unit": sensor.unit,
                "scale": sensor.scale, "channels": sensor.channels,
            }
        )  # fmt: skip
    return config.build({"schema_version": 1, "site": "shop", "machine": list(machines.values())}, Path("shop.toml"))


def record_shop(
    seed: int, minutes: float, normal_s: float, out: Path, progress: Callable[[float], None] | None = None
) -> tuple[Path, Path]:
    """Write the shop's streams into ``shop.mcap`` with its configuration inside, and the truth into ``truth.json``."""
    out.mkdir(parents=True, exist_ok=True)
    shop = Shop(seed, normal_s)
    settings = settings_of(shop)
    lanes = tuple(LaneSettings(machine) for machine in settings.machines)
    state = out / ".state.sqlite"
    store = Store(state)
    start = recording_start(Plan(settings, lanes, state), store)
    store.close()
    for leftover in out.glob(".state.sqlite*"):
        leftover.unlink()
    recording, truth = out / "shop.mcap", out / "truth.json"
    with Recorder(recording, start, START_NS) as recorder:
        for message in messages(seed, minutes * 60.0, normal_s):
            recorder.write(message, message.t1_ns)
            if progress is not None:
                progress((message.t1_ns - START_NS) / NS)
    told = {
        "seed": seed,
        "start_ns": START_NS,
        "installation": shop.configuration(),
        "events": shop.truth(minutes * 60),
    }
    truth.write_bytes(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    return recording, truth


def messages(seed: int, seconds: float, normal_s: float) -> Iterator[Input]:
    """Everything the shop publishes, in time order."""
    source = ShopSource(seed, normal_s=normal_s, duration_s=seconds, speed=None)
    source.open({}, START_NS)
    try:
        while not source.exhausted:
            yield from source.poll(START_NS)
    finally:
        source.close()
