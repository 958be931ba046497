"""`stethos doctor`: what this machine can do, and what stands in the way."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from errno import EADDRINUSE
from pathlib import Path
from typing import NamedTuple

import click

from config.schema import Settings
from config.sources import MicrophoneSource
from pipeline.cli.configuration import checked
from pipeline.errors import StethosError, adding
from pipeline.fingerprint import platform_fingerprint
from pipeline.web import try_port

LEAST_FREE_BYTES = 1_000_000_000
_EXTRAS = {
    "influxdb": "influxdb_client", "kafka": "faust", "microphone": "pyaudio", "models": "onnxruntime",
    "mqtt": "paho.mqtt", "signature": "cryptography", "simulate": "numba", "train": "torch",
}  # fmt: skip


class Finding(NamedTuple):
    """One check: `state` is ok, note or bad."""

    name: str
    state: str
    text: str


@click.command()
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="Check this configuration too.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def doctor(config_file: Path | None, as_json: bool) -> int:
    """Check this machine, the optional parts, and a configuration. Exit code 1 if something stands in the way."""
    findings = [*_machine(), *_extras(), *_devices()]
    if config_file is not None:
        findings += _configuration(config_file)
    if as_json:
        click.echo(json.dumps([f._asdict() for f in findings], indent=2))
    else:
        signs = {"ok": "ok  ", "note": "note", "bad": "BAD "}
        for f in findings:
            click.echo(f"{signs[f.state]}  {f.name:<22}{f.text}")
    return 1 if any(f.state == "bad" for f in findings) else 0


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "bad", version)
    platform = platform_fingerprint()
    yield Finding("platform", "ok", ", ".join(f"{k} {v}" for k, v in platform.items() if isinstance(v, str))[:200])
    yield Finding("cores", "ok", str(os.cpu_count()))
    free = shutil.disk_usage(".").free
    yield Finding("free disk", "ok" if free > LEAST_FREE_BYTES else "bad", f"{free / 1e9:.1f} GB here")
    year = time.gmtime().tm_year
    yield Finding("clock", "ok" if year >= 2025 else "bad", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _extras() -> Iterator[Finding]:
    for extra, module in _EXTRAS.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            yield Finding(f"extra {extra}", "note", f"not installed ({error}): {adding(extra)}")
        else:
            yield Finding(f"extra {extra}", "ok", "installed")


def _devices() -> Iterator[Finding]:
    try:
        from connectors.portaudio import devices

        found = devices()
    except (ImportError, StethosError, OSError):
        return
    for device in found:
        yield Finding("sound device", "ok", str(device))
    if not found:
        yield Finding("sound device", "note", "none found")


def _configuration(path: Path) -> Iterator[Finding]:
    try:
        plan = checked(path)
    except StethosError as error:
        yield Finding("configuration", "bad", str(error))
        return
    settings = plan.settings
    yield Finding("configuration", "ok", f"{len(settings.machines)} machines, {plan.sensors} sensors")
    checks: list[tuple[str, Callable[[], None]]] = [
        ("state folder", lambda: _writable(settings.engine.state_dir)),
        ("recording folder", lambda: _writable(settings.recording.folder)),
        ("status port", lambda: _free(settings.status.host, settings.status.port)),
    ]
    for name, check in checks:
        try:
            check()
        except OSError as error:
            yield Finding(name, "bad", str(error))
        else:
            root = name.endswith("folder") and os.geteuid() == 0
            yield Finding(name, "ok", "usable by root, as whom this runs" if root else "usable")
    yield from _microphones(settings)


def _microphones(settings: Settings) -> Iterator[Finding]:
    """Which device each pattern means. One that is not there is no obstacle: the engine starts, and tries again."""
    wanted = [
        (f"{machine.name}/{sensor.name}", sensor.source)
        for machine in settings.machines
        for sensor in machine.sensors
        if isinstance(sensor.source, MicrophoneSource)
    ]
    if not wanted:
        return
    try:
        from connectors.portaudio import Choice, devices

        found = devices()
    except (ImportError, StethosError, OSError):  # `_extras` says why
        return
    for name, source in wanted:
        try:
            device = Choice(source.device, source.host_api, source.port).among(found)
        except StethosError as error:
            yield Finding(name, "note", str(error))
        else:
            yield Finding(name, "ok", str(device))


def _free(host: str, port: int) -> None:
    """Try to listen there.

    Raises:
        OSError: it could not; says what to do.
    """
    try:
        try_port(host, port)
    except OSError as error:
        mend = "an engine that runs holds it, or name another status.port" if error.errno == EADDRINUSE else ""
        raise OSError(": ".join(filter(None, [f"{host}, port {port}", error.strerror or str(error), mend]))) from error


def _writable(folder: Path) -> None:
    """Nothing is made: it would belong to whoever asks, and the service could not write into it."""
    if not folder.exists():
        parent = next(parent for parent in folder.absolute().parents if parent.exists())
        if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
            raise OSError(f"{folder}: cannot be made: {parent} is no folder that can be written")
        return
    probe = folder / ".stethos-doctor"
    probe.write_bytes(b"x")
    probe.unlink()
