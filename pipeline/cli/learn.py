"""`stethos commission` and `stethos validate`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from models.anomaly.store import load_all, save_all
from pipeline.cli.progress import progress_bar
from pipeline.commissioning import commission_manifest
from pipeline.errors import ConfigError
from pipeline.manifest import NORMAL_LABELS, read_manifest


def _labels(_ctx: click.Context, _param: click.Parameter, value: str) -> frozenset[str]:
    return frozenset(label.strip() for label in value.split(",") if label.strip()) if value else NORMAL_LABELS


_NORMAL = click.option(
    "--normal", default="", callback=_labels, help="Labels that mean normal. [default: good,healthy,normal,stable]"
)


@click.command()
@click.option("--manifest", type=click.Path(path_type=Path), help="CSV of labelled recordings.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder that the baselines go into.")
@_NORMAL
@click.option("--machine", help="Only this machine.")
@click.option("--live", is_flag=True, help="Learn from the running engine's recordings and put the result in force.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True)
@click.option("--config", "config_file", type=click.Path(path_type=Path), default=Path("stethos.toml"))
def commission(
    manifest: Path | None,
    out: Path | None,
    normal: frozenset[str],
    machine: str | None,
    live: bool,
    minutes: float,
    config_file: Path,
) -> int:
    """Learn what is normal for each sensor, from recordings (--manifest) or from a running engine (--live)."""
    if live:
        return _live(config_file, machine, minutes, out)
    if manifest is None or out is None:
        raise click.UsageError("name --manifest M.csv and --out DIR, or --live")
    with progress_bar() as bar:
        task = bar.add_task("commissioning", total=None)

        def progress(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name[-40:])

        baselines = commission_manifest(read_manifest(manifest), normal, machine, progress)
    for baseline, folder in zip(baselines, save_all(baselines, out), strict=True):
        for line in baseline.sentences():
            click.echo(line)
        click.echo(f"  → {folder}")
    return 0


def _live(config_file: Path, machine: str | None, minutes: float, out: Path | None) -> int:
    import config as configuration
    from pipeline.live_commissioning import commission_live

    settings = configuration.load(config_file)
    chosen = [m for m in settings.machines if machine in {None, m.name}]
    if not chosen:
        raise ConfigError(f"{config_file}: no machine '{machine}'")
    with progress_bar() as bar:
        task = bar.add_task("listening", total=minutes * 60)
        end = time.monotonic() + minutes * 60
        while (left := end - time.monotonic()) > 0:
            bar.update(task, completed=minutes * 60 - left)
            time.sleep(min(1.0, left))
    for line in commission_live(settings, chosen, minutes * 60, out or settings.engine.state_dir / "baselines"):
        click.echo(line)
    return 0


@click.command()
@click.option("--manifest", type=click.Path(path_type=Path), required=True, help="CSV of labelled recordings.")
@click.option("--baseline", type=click.Path(path_type=Path), help="Folder of commissioned baselines.")
@click.option(
    "--detector",
    help="chatter, drill_break or bearing, with the speeds and teeth that the manifest tells; anomaly or level of a "
    "--baseline.",
)
@_NORMAL
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the figures.")
def validate(manifest: Path, baseline: Path | None, detector: str | None, normal: frozenset[str], out: Path) -> int:
    """Score the test recordings of a manifest and write figures with confidence intervals.

    Give --baseline, --detector, or both.
    """
    from pipeline.validation.choice import validate_detector
    from pipeline.validation.validate import validate_baselines

    if baseline is None and detector is None:
        raise click.UsageError("name --baseline DIR or --detector NAME")
    with progress_bar() as bar:
        task = bar.add_task("scoring", total=None)

        def progress(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name[-40:])

        rows, known = read_manifest(manifest), None if baseline is None else load_all(baseline)
        if detector is not None:
            lines = validate_detector(detector, rows, known, normal, out, progress)
        else:
            assert known is not None
            lines = validate_baselines(rows, known, normal, out, progress)
    for line in lines:
        click.echo(line)
    return 0
