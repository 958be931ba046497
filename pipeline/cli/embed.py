"""`stethos embed`: one embedding per second of the recordings of a manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np

from models.impact.pooling import POOLINGS
from models.impact.pooling import check as check_pooling
from models.packages import load
from models.packages.shipped import locate
from models.probe.features import Encoder, Extractor, LogMelMean
from models.probe.seconds import Second, seconds
from pipeline.cli.progress import progress_bar
from pipeline.clips import read_clip
from pipeline.errors import BadInput, ConfigError, StateError
from pipeline.manifest import Row, read_manifest
from pipeline.messages import Float32

_BATCH = 32
LOGMEL = "logmel"


@click.command()
@click.option("--manifest", type=click.Path(path_type=Path), required=True, help="CSV of recordings of sound.")
@click.option("--model", required=True, help="Folder of an encoder package, name of a shipped one, or 'logmel'.")
@click.option("--pooling", type=click.Choice(POOLINGS), help="How tokens become a vector. [default: the card's]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="NPZ file.")
@click.option("--skip", is_flag=True, help="Leave out recordings that cannot be used instead of stopping.")
def embed(manifest: Path, model: str, pooling: str | None, out: Path, skip: bool) -> int:
    """Write embeddings of recordings: arrays `embedding` (n, d) float32, `path`, `start_s`, `label`, `group`, `silent`.

    Recordings are resampled to 48 kHz, averaged over channels and cut into seconds; a rest shorter than half a second
    is left out, a longer one filled with zeros. Seconds of digital silence are marked: their images mean nothing.
    """
    if out.suffix != ".npz":
        raise ConfigError(f"--out {out}: must end in .npz")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")
    rows = read_manifest(manifest)
    extractor, how = _extractor(model, pooling)
    found: list[tuple[Row, Second]] = []
    vectors: list[Float32] = []
    with progress_bar() as bar:
        task = bar.add_task("embedding", total=len(rows))
        for row in rows:
            bar.update(task, description=row.name[-40:])
            try:
                some = [(row, second) for second in _seconds(row)]
            except BadInput as error:
                if not skip:
                    raise
                click.echo(f"left out: {error}", err=True)
                some = []
            clips = [second for _, second in some]
            vectors += [extractor.vectors(clips[at : at + _BATCH])[how] for at in range(0, len(clips), _BATCH)]
            found += [(row, _light(second)) for row, second in some]
            bar.advance(task)
    if not found:
        raise BadInput("manifest", f"{manifest}: none of its {len(rows)} recordings gave a second of sound")
    _write(out, np.concatenate(vectors), found)
    silent = sum(second.silent for _, second in found)
    click.echo(
        f"{len(found)} seconds of {len({id(row) for row, _ in found})} recordings, {silent} of them silent → {out}"
    )
    return 0


def _extractor(model: str, pooling: str | None) -> tuple[Extractor, str]:
    if model == LOGMEL:
        if pooling is not None:
            raise ConfigError("--pooling: 'logmel' has none; leave it out")
        return LogMelMean(), ""
    try:
        package = load(locate(model))
    except StateError as error:
        raise ConfigError(str(error)) from None
    encoder = Encoder(package.card.name, package)
    how = pooling or package.card.pooling
    check_pooling(how, package.card.cls)
    return encoder, how


def _seconds(row: Row) -> Iterator[Second]:
    for piece in read_clip(row).pieces:
        yield from seconds(piece)


def _light(second: Second) -> Second:
    """What is still needed of a second once it is embedded."""
    nothing = np.empty(0, np.float32)
    return Second(second.start_s, nothing, nothing, second.silent, second.clipped)


def _write(out: Path, embedding: Float32, found: list[tuple[Row, Second]]) -> None:
    partial = out.with_name(f".{out.name}.{os.getpid()}.npz")
    try:
        np.savez(
            partial,
            embedding=embedding,
            path=np.array([row.name for row, _ in found]),
            start_s=np.array([second.start_s for _, second in found], np.float64),
            label=np.array([row.label for row, _ in found]),
            group=np.array([row.group for row, _ in found]),
            silent=np.array([second.silent for _, second in found]),
        )
        partial.replace(out)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
