"""`stethos train impact`: pretrain an acoustic encoder on recordings without labels, or distil a small one."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from rich.progress import TaskID, TextColumn

from config.pretrain import PretrainConfig, load_pretrain
from models.packages.shipped import locate
from pipeline.cli.progress import progress_bar
from pipeline.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from rich.progress import Progress

    from models.impact.crops import Crops
    from models.impact.settings import Pretraining
    from models.impact.training import Trainer
    from pipeline.cli.packaging import Judges


@click.command()
@click.option("--manifest", type=click.Path(path_type=Path), required=True, help="Folder, CSV or MCAP recording.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="TOML with settings of the run.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the model package.")
@click.option("--size", type=click.Choice(["base", "small", "edge"]), help="Over that of the configuration.")
@click.option("--teacher", type=click.Path(path_type=Path), help="Package or run to distil from; `edge` needs one.")
@click.option(
    "--begin",
    "--widen",
    "start",
    type=click.Path(path_type=Path),
    help="Package or run to begin from: of the same size or half.",
)
@click.option("--pool", type=click.Path(path_type=Path), help="Folder of pooled images.  [default: that of the run]")
@click.option("--work", type=click.Path(path_type=Path), help="Folder of the run.  [default: OUT.training]")
@click.option("--name", help="Of the model.  [default: impact-SIZE]")
@click.option("--version", default="1", show_default=True, help="Of the model.")
@click.option(
    "--held-out", type=click.Path(path_type=Path), help="As --manifest: recordings that calibrate the 8-bit package."
)
@click.option(
    "--labelled", type=click.Path(path_type=Path), help="Labelled recordings: the card tells what 8 bits cost on them."
)
@click.option("--until", type=click.IntRange(min=1), help="Stop after so many steps in all; the same command goes on.")
def impact(
    manifest: Path,
    config_file: Path | None,
    out: Path,
    size: str | None,
    teacher: Path | None,
    start: Path | None,
    pool: Path | None,
    work: Path | None,
    name: str | None,
    version: str,
    held_out: Path | None,
    labelled: Path | None,
    until: int | None,
) -> int:
    """Pretrain an encoder (or distil one with --teacher) and write it as a package.

    The run lives in its own folder with checkpoints, log.jsonl and curves.png. Stopped by Ctrl-C it saves its step;
    killed at any moment, the same command goes on from its last checkpoint, to the bit on a CPU. All settings and their
    defaults: docs/how-to/pretrain.md.
    """
    if teacher is not None and start is not None:
        raise click.UsageError("--begin goes on with a pretraining, --teacher distils: name one of them")
    config = load_pretrain(config_file, size=size)
    if config.size == "edge" and teacher is None:
        raise click.UsageError("size edge is distilled: name --teacher, a package or the folder of a run")
    teacher, start = (locate(str(p)) if p is not None and not p.exists() else p for p in (teacher, start))
    if out.exists():
        raise ConfigError(f"--out {out}: exists already; name another folder")
    try:
        import safetensors  # noqa: F401
        import soxr  # noqa: F401

        from models.impact import training  # noqa: F401
    except ImportError as error:
        raise MissingExtra("train", "pretraining") from error
    judges = _judges(held_out, labelled)
    folder = work or out.with_name(out.name + ".training")
    run, crops = _prepare(manifest, config, Folders(folder, pool or folder, teacher, start), judges)
    told = _train(run, until)
    _curves(folder)
    click.echo(f"{folder}: step {run.step} of {run.settings.steps}")
    if run.step < run.settings.steps:
        click.echo("not finished: run the same command to go on; no package is written yet")
        return 128 + told[0] if told else 0
    _package(folder, out, crops, judges, (name or f"impact-{config.size}", version))
    return 0


def _judges(held_out: Path | None, labelled: Path | None) -> Judges:
    """What the package will be made with, refused before the training where it cannot serve."""
    from pipeline.cli.packaging import Judges, judgeable, labelled_sources
    from pipeline.pretraining import check, takes_of

    takes = None if held_out is None else takes_of(held_out)
    check(takes or ())
    sources = [] if labelled is None else labelled_sources(labelled)
    if sources:
        with progress_bar() as bar:
            task = bar.add_task("labelled", total=None)
            left_out = judgeable(sources, lambda text: bar.update(task, description=text[-60:]))
        if left_out:
            more = f" ({len(left_out) - 1} more such)" if len(left_out) > 1 else ""
            click.echo(f"--labelled: {left_out[0]}{more}")
    return Judges(takes, sources)


def _package(folder: Path, out: Path, crops: Crops, judges: Judges, named: tuple[str, str]) -> None:
    from models.impact.export import Facts
    from models.impact.training import facts_for_card
    from pipeline.cli.packaging import package_run

    name, version = named
    with progress_bar() as bar:
        task = bar.add_task("packaging", total=None)

        def notice(text: str) -> None:
            bar.update(task, description=text[-60:])

        facts = Facts(name=name, version=version, training=facts_for_card(folder))
        package = package_run(folder, out, crops, facts, judges, notice)
    click.echo(f"{out}: {package.digest}")


def settings_of(config: PretrainConfig) -> Pretraining:
    """The configuration as what the training code takes."""
    from models.impact.settings import Mixing, Pretraining

    values: dict[str, Any] = config.model_dump()
    return Pretraining(**values | {"mixing": Mixing(**values["mixing"])})


class Folders(NamedTuple):
    """Where the run lives, its images lie, and what it learns from."""

    run: Path
    pool: Path
    teacher: Path | None
    begin: Path | None


def _prepare(manifest: Path, config: PretrainConfig, folders: Folders, judges: Judges) -> tuple[Trainer, Crops]:
    from models.impact.begin import Beginning
    from models.impact.checkpoint import newest
    from models.impact.crops import Crops
    from models.impact.distil import Distiller, teacher_from
    from models.impact.images import Batches, Pool
    from models.impact.network import size_of
    from models.impact.pretrain import Pretrainer
    from models.impact.training import device_of
    from pipeline.cli.packaging import apart_from
    from pipeline.pretraining import check, takes_of

    settings, size = settings_of(config), size_of(config.size)
    seed = settings.seed if settings.data_seed is None else settings.data_seed
    crops = Crops(takes_of(manifest), settings.mixing, seed)
    hours = {source: round(value, 4) for source, value in crops.hours().items()}
    for name, value in hours.items():
        click.echo(f"{name}: {value:.2f} h")
    click.echo(f"{len(crops.takes)} takes of {len(crops.sensors)} sensors, {settings.steps} steps")
    about: dict[str, Any] = {
        "hours": hours,
        "takes": len(crops.takes),
        "sensors": len(crops.sensors),
        "digest": crops.digest,
    }
    apart_from(judges, crops)
    device_of(settings)  # what can be refused at once, before hours of reading
    teacher = None if folders.teacher is None else teacher_from(folders.teacher)
    beginning = None
    if folders.begin is not None:
        beginning = Beginning(folders.begin)
        beginning.check(size)
        about["began_as"] = beginning.name + (", widened" if beginning.encoder.width != size.width else "")
    if newest(folders.run) is None:  # what a run has begun with, it has read
        click.echo("reading everything once, before the first step")
        with progress_bar() as bar:
            task = bar.add_task("reading", total=sum(take.seconds for take in crops.takes))
            check(crops.takes, lambda done_s: bar.update(task, completed=done_s))
    source: Any = crops
    if settings.pool_clips:
        with progress_bar() as bar:
            task = bar.add_task("log-Mel images", total=settings.pool_clips)
            source = Pool(
                folders.pool, crops, settings.pool_clips, lambda done, _: bar.update(task, completed=done)
            ).images
    batches = Batches(source, settings.batch, settings.seed, settings.mixing, settings.workers)
    if teacher is not None:
        return Distiller(settings, size, batches, folders.run, teacher, about), crops
    return Pretrainer(settings, size, batches, folders.run, about, beginning), crops


def _train(run: Trainer, until: int | None) -> list[int]:
    """Train; gives the signals that stopped it."""
    if run.step:
        click.echo(f"going on from step {run.step}")
    with _asked() as told, progress_bar(TextColumn("{task.fields[figures]}")) as bar:
        task = bar.add_task("training", total=run.settings.steps, completed=run.step, figures="")

        def report(line: Mapping[str, Any]) -> None:
            _report(bar, task, line)

        run.run(report, until, lambda: bool(told))
    return told


@contextmanager
def _asked() -> Iterator[list[int]]:
    """Signals that asked to stop after the step that is under way; the second one stops at once."""
    told: list[int] = []
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in found.items() if handler is not signal.SIG_IGN}  # as in a `... &`

    def ask(number: int, _: FrameType | None) -> None:
        told.append(number)
        for one, handler in before.items():
            signal.signal(one, handler)
        with suppress(OSError, RuntimeError):  # the same Ctrl-C has ended `| tee`; or a line is half written
            click.echo("stopping after this step; once more stops at once and loses it", err=True)

    try:
        for number in before:
            signal.signal(number, ask)
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(bar: Progress, task: TaskID, line: Mapping[str, Any]) -> None:
    figures = f"loss {line['loss']:.4f} · {line['clips_per_s']:.0f} clips/s · rank {line['effective_rank']:.1f}"
    bar.update(task, completed=line["step"], figures=figures)
    for alarm in line["alarms"]:
        bar.console.print(f"step {line['step']}: may be collapsing: {alarm}")


def _curves(folder: Path) -> None:
    from models.impact.curves import draw_curves

    picture = draw_curves(folder)
    if picture is not None:
        click.echo(str(picture))
