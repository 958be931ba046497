"""`stethos train drill`: autoencoders, synthetic sounds and the drill classifier as a model package."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pipeline.cli.bench_drill import vae_options, vae_training
from pipeline.cli.number import Number
from pipeline.cli.progress import progress_bar
from pipeline.errors import BadInput


@click.command()
@click.option("--sounds", type=click.Path(path_type=Path), help="Clips: normal/ and anomaly/ (and groups.csv).")
@click.option(
    "--manifest", type=click.Path(path_type=Path), help="Instead: whole holes, fractures with onset_s; for a stream."
)
@click.option(
    "--threshold",
    type=Number(0, 1, True, True),
    default=0.5,
    show_default=True,
    help="Of the probability, for the card.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the package; must not exist.")
@click.option(
    "--arm", default="none", show_default=True, help='What is added to the sounds, e.g. "classical 1x", "vae 1x".'
)
@click.option("--synthetic", type=click.IntRange(min=2), help="Also write so many synthetic sounds, to OUT-synthetic.")
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Of the leak-free scores.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@vae_options
def drill(
    out: Path, sounds: Path | None, manifest: Path | None, threshold: float, arm: str, synthetic: int | None,
    folds: int, seed: int, **vae: Any,
) -> int:  # fmt: skip
    """Train a classifier of very short drill sounds; its card holds leak-free scores beside those without additions.

    With --manifest it learns the package that [machine.drill] classifier names. Nothing is added then.

    Choose the arm by `stethos bench drill`. Work in progress is kept in OUT-work and gone on from.
    """
    if (sounds is None) == (manifest is None):
        raise BadInput("no_sounds", "give either --sounds or --manifest")
    if out.exists():
        raise BadInput("exists", f"{out}: exists already; packages never change, choose another name")
    training = vae_training(seed, **vae)
    if sounds is None:
        if manifest is None or arm != "none" or synthetic:
            raise BadInput("unknown_arm", "nothing can be added to whole holes: leave --arm and --synthetic away")
        return _of_holes(manifest, out, threshold, folds, seed)
    from models.drill.arms import ARMS
    from models.drill.data import digest, load
    from models.drill.export import train_classifier, write_classifier

    arms = {a.name: a for a in ARMS if a.kind != "vae only"}
    if arm not in arms:
        raise BadInput("unknown_arm", f"there is no arm '{arm}'; choose from {', '.join(arms)}")
    known = load(sounds)
    work = out.with_name(f"{out.name}-work")
    with progress_bar() as bar:
        bar.add_task("training", total=None)
        model, levels, scores = train_classifier(known, arms[arm], training, work, folds, seed)
        about = {"sounds": len(known), "sha256": digest(known), "added": arm, "seed": seed}
        if "vae" in arm:
            about["autoencoder"] = asdict(training)
        package = write_classifier(out, model, levels, about, scores, threshold=threshold)
        if synthetic:
            _write_sounds(known, training, work, out.with_name(f"{out.name}-synthetic"), synthetic)
    for name, value in scores.items():
        click.echo(f"{name}: {value}")
    click.echo(f"{package.folder}  {package.digest[:16]}")
    return 0


def _of_holes(manifest: Path, out: Path, threshold: float, folds: int, seed: int) -> int:
    """The classifier for a stream; rows with split=test are left alone."""
    import hashlib

    import numpy as np

    from models.drill.cells import seed_of
    from models.drill.export import write_classifier
    from models.drill.holes import cut, joined, train
    from pipeline.clips import read_clip
    from pipeline.manifest import NORMAL_LABELS, learning_rows, read_manifest, torn_groups, torn_recordings

    parts = []
    everything = read_manifest(manifest)
    if torn := torn_groups(everything):
        raise BadInput("leak", f"{manifest}: the group {torn[0]!r} stands in more than one split; keep groups whole")
    if twice := torn_recordings(everything, classes=True):
        raise BadInput("leak", f"{manifest}: {twice}; keep recordings whole")
    rows = learning_rows(everything)
    with progress_bar() as bar:
        task = bar.add_task("recordings", total=len(rows))
        for row in rows:
            bar.update(task, advance=1)
            if row.label not in NORMAL_LABELS and row.onset_s is None:
                raise BadInput("no_onset", f"{row.name}: '{row.label}' is no normal label, and onset_s is not told")
            clip = read_clip(row)
            x = np.concatenate([block for piece in clip.pieces for block in piece.blocks()]).astype(np.float64)
            onset = None if row.label in NORMAL_LABELS or row.onset_s is None else row.onset_s - row.start_s
            parts.append((row.group, cut(x, clip.stream.rate.hz, onset, seed_of(seed, row.name), row.name)))
        holes = joined(parts)
        model, scores = train(holes, folds, seed)
    about = {
        "recordings": len(rows), "rows": len(holes.target), "fractures": int(holes.target.sum()), "added": "none",
        "seed": seed, "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
    }  # fmt: skip
    package = write_classifier(out, model, holes.x, about, scores, stream=True, threshold=threshold)
    for name, value in scores.items():
        click.echo(f"{name}: {value}")
    click.echo(f"{package.folder}  {package.digest[:16]}")
    return 0


def _write_sounds(known: Any, training: Any, work: Path, folder: Path, count: int) -> None:
    """Synthetic sounds of the autoencoders of all sounds, in the layout that they were read in but without a table."""
    import soundfile

    from models.drill.arms import Additions
    from models.drill.data import CLASSES, RATE_HZ, centred, labels
    from models.drill.synthesis import Batch

    real = Batch(centred(known), labels(known), tuple(frozenset({s.event}) for s in known))
    made = Additions(real, training, ("all",), work / "networks").synthetic(count)
    for i, (x, target) in enumerate(zip(made.x, made.target, strict=True)):
        path = folder / CLASSES[int(target)] / f"{i:04d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, x, RATE_HZ, "PCM_24")
