"""`stethos commission` and `stethos validate`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from config.schema import NAME
from models.anomaly.baseline import Baseline
from models.anomaly.embedding import Embedder
from models.anomaly.store import load_all, save_all
from models.impact.pooling import POOLINGS
from pipeline.cli.number import Number
from pipeline.cli.progress import progress_bar
from pipeline.commissioning import commission_manifest
from pipeline.errors import BadInput, ConfigError, StateError
from pipeline.manifest import NORMAL_LABELS, Labels, Row, read_manifest

_SIGN_S = 15.0
"""A running engine writes counters at least once a second; one that is busy starting takes longer."""
_NO_ENGINE = "no engine works on it: start `stethos run` with this configuration first"
_ENDED = "its engine has ended or hangs; nothing was learned: what was recorded before is not what you wanted learned"
_ON_KAFKA = (
    "what comes in is from Kafka, whose workers keep no recordings to learn from: learn from files with --manifest, "
    "and put the result in force with `stethos baseline use FOLDER --engine kafka`"
)


def _labels(_ctx: click.Context, _param: click.Parameter, value: str) -> frozenset[str]:
    return Labels(label.strip() for label in value.split(",") if label.strip()) if value else NORMAL_LABELS


_NORMAL = click.option(
    "--normal", default="", callback=_labels, help="Labels that mean normal. [default: good,healthy,normal,stable]"
)


@click.command()
@click.option("--manifest", type=click.Path(path_type=Path), help="CSV of labelled recordings, or their folder.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder that the baselines go into.")
@_NORMAL
@click.option("--machine", help="Only this machine.")
@click.option("--encoder", help="Encoder of sound (PKG, or the name of one that ships) to judge beside the log-Mel.")
@click.option("--pooling", type=click.Choice(POOLINGS), default="band", show_default=True, help="Of the --encoder.")
@click.option("--live", is_flag=True, help="Learn from the running engine's recordings and put the result in force.")
@click.option("--minutes", type=Number(min=0, min_open=True), default=10.0, show_default=True)
@click.option("--config", "config_file", type=click.Path(path_type=Path), default=Path("stethos.toml"))
def commission(
    manifest: Path | None,
    out: Path | None,
    normal: frozenset[str],
    machine: str | None,
    encoder: str | None,
    pooling: str,
    live: bool,
    minutes: float,
    config_file: Path,
) -> int:
    """Learn what is normal for each sensor, from recordings (--manifest) or from a running engine (--live).

    An engine on Kafka keeps no recordings: learn from files, then `stethos baseline use FOLDER --engine kafka`.

    With --encoder the embedding of sound becomes a detector of its own, unless starts that were left out speak against
    it; the outcome says why. With --live it is the encoder that the machine runs, and the restarts of its sensor in
    that time are the starts.
    """
    if live and (manifest is not None or normal != NORMAL_LABELS):
        raise click.UsageError("--live learns what the engine records from now on: leave out --manifest and --normal")
    if live:
        return _live(config_file, machine, minutes, out, None if encoder is None else _embedder(encoder, pooling))
    if manifest is None or out is None:
        raise click.UsageError("name --manifest M.csv and --out DIR, or --live")
    rows = read_manifest(manifest)
    unheard = _unheard(rows, encoder)
    embedder = None if encoder is None else _embedder(encoder, pooling)
    with progress_bar() as bar:
        task = bar.add_task("commissioning", total=None)

        def progress(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name[-40:])

        baselines = commission_manifest(rows, normal, machine, progress, embedder)
    for sensor in unheard:
        click.echo(f"{sensor}: vibration, which no encoder hears; learned without")
    try:
        folders = save_all(baselines, out)
    except OSError as error:  # a full disk's names no file
        raise StateError(f"{out}: the baselines cannot be written: {error.strerror or error}") from error
    for baseline, folder in zip(baselines, folders, strict=True):
        for line in (*baseline.sentences(), *_unnameable(baseline)):
            click.echo(line)
        click.echo(f"  → {folder}")
    return 0


def _unnameable(baseline: Baseline) -> Iterator[str]:
    """What a person learns too late otherwise: configurations name machines and sensors by plain words alone."""
    for kind, name in (("machine", baseline.machine), ("sensor", baseline.sensor)):
        if not re.match(NAME, name):
            yield f"No configuration can name the {kind} {name!r}: plain letters, digits, '_', '.', '-' alone."


def _unheard(rows: Sequence[Row], encoder: str | None) -> list[str]:
    """Sensors whose recordings an encoder does not hear.

    Raises:
        BadInput: there are no others.
    """
    if encoder is None:
        return []
    if not any(row.modality in {"acoustic", "stethoscope"} for row in rows):
        raise BadInput("modality", f"{encoder}: encoders hear sound; leave out --encoder for vibration")
    return sorted({f"{row.machine}/{row.sensor}" for row in rows if row.modality == "vibration"})


def _embedder(encoder: str, pooling: str) -> Embedder:
    from models.anomaly.encoder import PackageEmbedder  # ONNX Runtime only where a model runs
    from models.packages import load
    from models.packages.shipped import locate

    return PackageEmbedder(load(locate(encoder)), pooling)


def _live(
    config_file: Path, machine: str | None, minutes: float, out: Path | None, embedder: Embedder | None
) -> int:  # fmt: skip
    import config as configuration
    from pipeline.asking import state_of
    from pipeline.live_commissioning import commission_live, heard_by
    from pipeline.state import Store

    settings = configuration.load(config_file)
    chosen = [m for m in settings.machines if machine in {None, m.name}]
    if not chosen:
        raise ConfigError(f"{config_file}: no machine '{machine}'")
    if not settings.recording.enabled:
        raise ConfigError(f"{config_file}: recording.enabled is false, but this learns from what the engine records")
    state = state_of(settings)
    embedders = {} if embedder is None else heard_by(settings, chosen, embedder)
    store = Store(state)
    results, counters = store.last_seq(), store.metrics()
    begun_ns = {m.name: store.newest_ns(m.name) or 0 for m in chosen}
    moved = False
    with progress_bar() as bar:
        task = bar.add_task("listening", total=minutes * 60)
        began = sign = time.monotonic()
        while (left := began + minutes * 60 - time.monotonic()) > 0 or not moved:  # else nobody would ever obey
            bar.update(task, completed=minutes * 60 - left)
            if (now := store.metrics()) != counters:
                counters, sign, moved = now, time.monotonic(), True
            if time.monotonic() - sign > _SIGN_S:
                why = _ENDED if moved else _NO_ENGINE if results == store.last_seq() else _ON_KAFKA
                raise StateError(f"{state}: {why}")
            time.sleep(min(1.0, max(left, 0.05)))
    store.close()
    folder = out or settings.engine.state_dir / "baselines"
    for line in commission_live(settings, chosen, minutes * 60, folder, begun_ns, embedders):
        click.echo(line)
    return 0


@click.command()
@click.option(
    "--manifest", type=click.Path(path_type=Path), required=True, help="CSV of labelled recordings, or their folder."
)
@click.option("--baseline", type=click.Path(path_type=Path), help="Folder of commissioned baselines.")
@click.option(
    "--detector",
    help="chatter, tooth_loss, drill_break, drill_missing, drill_wear, head_break, head_silent, bearing, severity or "
    "severity_change, with what the manifest tells (speed, teeth, bearing, ISO group); anomaly, level or embedding "
    "of a --baseline.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="For head_break and head_silent: the configuration that says where the head's bits and microphones are.",
)
@click.option("--model", type=click.Path(path_type=Path), help="Package of a head (stethos train head).")
@click.option(
    "--search",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Where the encoder of the head or of the baseline may lie besides; several.",
)
@_NORMAL
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the figures.")
def validate(
    manifest: Path,
    baseline: Path | None,
    detector: str | None,
    config: Path | None,
    model: Path | None,
    search: tuple[Path, ...],
    normal: frozenset[str],
    out: Path,
) -> int:
    """Score the test recordings of a manifest and write figures with confidence intervals.

    Give --baseline, --detector or both, or --model: a head, whose encoder is found beside it, among the packages that
    ship, or under --search; that of a baseline, too. Without a column split, groups that it learned from are left out.
    """
    if model is None and baseline is None and detector is None:
        raise click.UsageError("name --baseline DIR, --detector NAME or --model PKG")
    if model is not None and (baseline is not None or detector is not None):
        raise click.UsageError("--model judges alone: leave out --baseline and --detector")
    if search and model is None and baseline is None:
        raise click.UsageError("--search is for the encoder of a --model or of a --baseline")
    with progress_bar() as bar:
        task = bar.add_task("scoring", total=None)

        def progress(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=name[-40:])

        rows = read_manifest(manifest)
        if model is not None:
            from pipeline.validation.classifier import validate_model

            lines = validate_model(model, rows, normal, out, progress, search)
        else:
            known = None if baseline is None else load_all(baseline)
            lines = _validated(rows, known, detector, normal, out, progress, search, config)
    for line in lines:
        click.echo(line)
    return 0


def _validated(
    rows: Sequence[Row],
    known: Mapping[tuple[str, str], Baseline] | None,
    detector: str | None,
    normal: frozenset[str],
    out: Path,
    progress: Callable[[int, int, str], None],
    search: Sequence[Path],
    config: Path | None,
) -> list[str]:
    from models.packages.shipped import WEIGHTS
    from pipeline.shelf import Shelf
    from pipeline.validation.baseline import embedders
    from pipeline.validation.choice import validate_detector
    from pipeline.validation.validate import validate_baselines

    made = embedders(known or {}, Shelf((*search, WEIGHTS)))
    if detector is not None:
        return validate_detector(detector, rows, known, normal, out, progress, made, config)
    assert known is not None
    return validate_baselines(rows, known, normal, out, progress, made)
