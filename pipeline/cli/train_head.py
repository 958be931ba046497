"""`stethos train head`: a handful of labelled clips to a model package that says which state a machine is in."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click
import numpy as np

from models.heads.export import LOGMEL, Reads, write_head
from models.heads.head import KINDS, Kind
from models.heads.lesson import AUTO, Candidate, Evaluation, Lesson, better, evaluate, learn, plain
from models.heads.report import narrow, no_figure, render, tested, verdict
from models.impact.pooling import POOLINGS
from models.packages import VIBRATION, load
from models.packages.shipped import WEIGHTS, locate, packages_in
from models.probe.clips import Facts, columns
from models.probe.features import Encoder, Extractor, LogMelMean
from models.probe.vibration import VibrationMean
from pipeline.cli.probing import Source, apart, features_of, rows_of, vibration_of
from pipeline.cli.progress import progress_bar
from pipeline.cli.tracks import names_of, sources_of_track, sources_told
from pipeline.contents import CONTENTS, contents_of, cut_short, fitted
from pipeline.errors import BadInput
from pipeline.manifest import Row, alike, read_manifest, torn_groups, torn_recordings
from pipeline.messages import Float32
from pipeline.shelf import digest_of

_TOO_LITTLE = 20


@click.command()
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="CSV of labelled recordings of sound, or of vibration; or a folder LABEL/[GROUP/]FILE.",
)
@click.option("--modality", type=click.Choice(["sound", "vibration"]), help="Where the manifest has both.")
@click.option("--labels", "tracks", multiple=True, type=click.Path(path_type=Path), help="Audacity label track.")
@click.option("--audio", multiple=True, type=click.Path(path_type=Path), help="WAV, FLAC or MCAP of each --labels.")
@click.option("--fact", help="What the machine told while it was recorded, such as state, in place of --labels.")
@click.option("--sensor", default="", help="machine/sensor of an MCAP recording.")
@click.option("--encoder", "encoders", multiple=True, default=(AUTO,), show_default=True, help="PKG, logmel or auto.")
@click.option("--pooling", type=click.Choice([AUTO, *POOLINGS]), default=AUTO, show_default=True)
@click.option("--kind", type=click.Choice([AUTO, *KINDS]), default=AUTO, show_default=True, help="Kind of head.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the new model package.")
def head(
    manifest: Path | None,
    modality: str | None,
    tracks: tuple[Path, ...],
    audio: tuple[Path, ...],
    fact: str | None,
    sensor: str,
    encoders: tuple[str, ...],
    pooling: str,
    kind: str,
    seed: int,
    out: Path,
) -> int:
    """Train a head on labelled clips, beside the log-Mel baseline; OUT.html tells how good it is.

    With --encoder auto, or several, the best on left-out groups is taken; auto means the shipped encoders and logmel.
    Vibration is read by the features of the anomaly detector, since encoders hear sound.
    """
    if fact is not None and (tracks or manifest is not None or not audio):
        raise click.UsageError("--fact takes labels from --audio FILE.mcap: name it, without --manifest and --labels")
    if fact is None and ((manifest is None) == (not tracks) or len(tracks) != len(audio)):
        raise click.UsageError("name --manifest M.csv, or one --audio FILE for each --labels FILE, or --fact")
    if out.exists():
        raise BadInput("exists", f"{out}: exists already; packages never change, choose another name")
    labelled = _of_manifest(manifest, modality) if manifest else _of_sound(tracks, audio, fact, sensor)
    material, notes = _read(labelled, encoders, pooling)
    learned, passed = _learn(out.name, material, encoders, pooling, kind, seed)
    _report(out, material, learned, encoders, seed, [*notes, *passed])
    return 0


class _Material(NamedTuple):
    """What a head can be taught on: recordings, the split of each, what makes features of them, their unit."""

    sources: list[Source]
    splits: dict[str, str]
    extractors: list[Extractor]
    unit: str


class _Learned(NamedTuple):
    """What came of it; `taught` names the recordings that taught by their content."""

    lesson: Lesson
    candidates: list[Candidate]
    chosen: Candidate
    found: Sequence[Evaluation] | None
    taught: Mapping[str, Any]


_Labelled: TypeAlias = tuple[list[Source], dict[str, str], list[str]]
"""Recordings, the split of each (empty means that it teaches), and notes."""


def _read(labelled: _Labelled, encoders: Sequence[str], pooling: str) -> tuple[_Material, list[str]]:
    """Everything that can be refused before an hour is spent on embeddings, and notes."""
    sources, splits, notes = labelled
    rows = [s.row for s in sources]
    if wrong := alike({row.label for row in rows}):
        raise BadInput("labels", wrong)
    extractors, passed = pooled(_extractors(encoders, rows), encoders, pooling)
    return _Material(sources, splits, extractors, _unit(rows)), [*notes, *passed]


def _learn(
    name: str, material: _Material, encoders: Sequence[str], pooling: str, kind: str, seed: int
) -> tuple[_Learned, list[str]]:
    """Every candidate, the one that is chosen and how good it is, and notes."""
    sources, splits, extractors, unit = material
    with progress_bar() as bar:
        task = bar.add_task("learning", total=None)
        facts, features, left_out = features_of(
            name, sources, extractors, None, lambda t: bar.update(task, description=t[-60:])
        )
        lesson = _lesson(facts, splits)
        lesson.check(left_out)
        lesson.check_copies(next(iter(features.values())))
        kinds: Sequence[Kind] = KINDS if kind == AUTO else (kind,)  # type: ignore[assignment]

        def teach(some: Lesson) -> list[Candidate]:
            return [_candidate(some, e, unit, features, pooling, kinds, seed) for e in extractors]

        def pick(of: Sequence[Candidate]) -> Candidate:
            return _chosen(of, encoders)

        candidates = teach(lesson)
        chosen = pick(candidates)
        bar.update(task, description="judging")
        found = evaluate(lesson, candidates, teach, (pick, plain))
        bar.update(task, description="noting what taught")
        taught = contents_of([s.row for s in sources if splits[s.facts.recording] == "train"])
    return _Learned(lesson, candidates, chosen, found, taught), [*left_out, *_warnings(lesson)]


def _report(
    out: Path, material: _Material, learned: _Learned, encoders: Sequence[str], seed: int, notes: list[str]
) -> None:
    """Write the package and its page, and say what they are."""
    lesson, candidates, chosen, found, taught = learned
    fit_to_run = chosen.reads.encoder != VIBRATION or bool(material.unit)
    if not fit_to_run:
        notes.append(
            "No unit was told: this head judges recordings, a running machine refuses it; add the column unit."
        )
    training = fitted(_training(lesson, chosen, {"seed": seed, "notes": notes, CONTENTS: taught}))
    if short := cut_short(training):
        notes = [*notes, short]
        training["notes"] = [*training["notes"], short]
    digest = _write(out, lesson, candidates, chosen, found, notes, training)
    _tell(out, learned, notes)
    if fit_to_run:
        named = " ".join([*_beside(chosen.reads, encoders), str(out)])
        click.echo(f"on a running machine: stethos models promote {named} --machine NAME")
    click.echo(json.dumps({"package": str(out), "digest": digest, "report": str(_page(out))}))


def _of_manifest(path: Path, modality: str | None) -> _Labelled:
    rows = read_manifest(path)
    if torn := torn_groups(rows):
        raise BadInput("leak", f"{path}: the group {torn[0]!r} stands in more than one split; keep groups whole")
    if twice := torn_recordings(rows, classes=True):
        raise BadInput("leak", f"{path}: {twice}; keep recordings whole")
    senses, chosen = rows_of(path, rows, modality)
    marked = any(row.split == "train" for row in chosen)  # else all teach that are not marked otherwise
    sources, splits = [], {}
    for number, row in enumerate(chosen):
        name = f"{row.name}#{number}"
        sources.append(Source(row, Facts(name, 0.0, row.label, row.group, row.sensor, row.label)))
        splits[name] = row.split if marked or row.split else "train"
    others = len(rows) - len(chosen)
    notes = [f"{others} rows are no {senses} and were left out"] if others else []
    if idle := sum(split not in {"train", "test"} for split in splits.values()):
        notes.append(f"{idle} rows are of neither split, train nor test, and were left out")
    return sources, splits, notes


def _of_sound(tracks: Sequence[Path], audio: Sequence[Path], fact: str | None, sensor: str) -> _Labelled:
    """Regions of recordings: by a fact that was recorded, else by the label track of each."""
    sources, notes = [], []
    for number, (sound, name) in enumerate(zip(audio, names_of(audio), strict=True)):
        if fact is None:
            found, remarks = sources_of_track(tracks[number], sound, sensor, name)
        else:
            found, remarks = sources_told(sound, fact, sensor, name)
        sources += found
        notes += remarks
    if twice := torn_recordings([s.row for s in sources], classes=True):
        raise BadInput("leak", f"{', '.join(map(str, tracks or audio))}: {twice}")
    return sources, {s.facts.recording: "train" for s in sources}, notes


def _extractors(encoders: Sequence[str], rows: Sequence[Row]) -> list[Extractor]:
    """The baseline first, then the encoders that were asked for; for vibration there is the baseline alone."""
    if rows[0].modality == "vibration":
        if named := sorted(set(encoders) - {AUTO, LOGMEL}):
            raise BadInput("modality", f"{named[0]}: encoders hear sound; leave out --encoder for vibration")
        return [vibration_of(rows)]
    folders: list[Path] = []
    for name in encoders:
        if name == AUTO:
            folders += packages_in(WEIGHTS)
        elif name != LOGMEL:
            folders.append(locate(name))
    found: list[Extractor] = [LogMelMean()]
    for folder in dict.fromkeys(f.resolve() for f in folders):
        package = load(folder)
        if package.card.kind == "encoder":
            found.append(Encoder(folder.name.replace(" ", "_"), package))
        elif str(folder) in {str(Path(e).resolve()) for e in encoders}:
            raise BadInput("package", f"{folder}: is a {package.card.kind}, not an encoder")
    return apart(found)


def pooled(extractors: list[Extractor], encoders: Sequence[str], pooling: str) -> tuple[list[Extractor], list[str]]:
    """Those that have the pooling, before an hour is spent on embeddings; one that was named must have it."""
    if pooling == AUTO:
        return extractors, []
    without = [e for e in extractors if isinstance(e, Encoder) and pooling not in e.poolings]
    left = [e for e in extractors if e not in without]
    if without and (AUTO not in encoders or not any(isinstance(e, Encoder) for e in left)):
        has = ", ".join(without[0].poolings)
        raise BadInput("pooling", f"{without[0].name} has no pooling {pooling!r}: one of {has}")
    return left, [f"{e.name} has no pooling {pooling} and was left out." for e in without]


def _lesson(facts: Sequence[Facts], splits: dict[str, str]) -> Lesson:
    which = np.array([splits[f.recording] for f in facts], dtype=str)
    plain = [replace(f, recording=f.recording.rpartition("#")[0] or f.recording) for f in facts]
    return Lesson(columns(plain), np.flatnonzero(which == "train"), np.flatnonzero(which == "test"))


def _candidate(
    lesson: Lesson,
    extractor: Extractor,
    unit: str,
    features: dict[str, Float32],
    pooling: str,
    kinds: Sequence[Kind],
    seed: int,
) -> Candidate:
    mine = {k[len(extractor.name) :].strip(): x for k, x in features.items() if k.split(" ")[0] == extractor.name}
    reads = Reads(extractor.digest, extractor.name)
    if isinstance(extractor, VibrationMean):
        of = extractor.features
        reads = Reads(VIBRATION, VIBRATION, features=of.hash, rate_hz=of.rate.hz, unit=unit)
    elif isinstance(extractor, LogMelMean):
        reads = Reads()
    return learn(lesson, reads, mine, pooling, kinds, seed)


def _unit(rows: Sequence[Row]) -> str:
    """The one unit of recordings of vibration, whose levels the features hold; empty where nothing tells it."""
    units = {row.unit: row.name for row in rows if row.modality == "vibration"}
    if len(units) > 1:
        said = ", ".join(f"{name} has {unit or 'none'}" for unit, name in sorted(units.items()))
        raise BadInput("unit", f"the recordings differ in their unit: {said}; a head reads levels, bring them to one")
    return next(iter(units), "")


def _chosen(candidates: Sequence[Candidate], encoders: Sequence[str]) -> Candidate:
    """What was asked for; the better ones where that is a question."""
    asked = [c for c in candidates if not c.reads.plain]
    if AUTO in encoders or (asked and LOGMEL in encoders):
        return better(candidates)
    return max(asked, key=lambda c: np.nan_to_num(c.score)) if asked else candidates[0]


def _warnings(lesson: Lesson) -> list[str]:
    counts = {label: int((lesson.clips.label[lesson.learn] == label).sum()) for label in lesson.labels}
    few = [f"{label} ({n})" for label, n in counts.items() if n < _TOO_LITTLE]
    notes = [f"Few clips of {', '.join(few)}: {_TOO_LITTLE} or more of several occasions are better."] if few else []
    if unknown := lesson.unknown():
        notes.append(f"Test clips of labels that were never taught were not judged: {', '.join(unknown)}.")
    if untested := lesson.untested():
        notes.append(f"Classes that were taught and have no test clips were not judged: {', '.join(untested)}.")
    return notes


def _beside(reads: Reads, encoders: Sequence[str]) -> list[str]:
    """The encoder that must be promoted along with a head, as it was named, or as it ships."""
    if reads.plain:
        return []
    named = [name for name in encoders if name not in {AUTO, LOGMEL} and digest_of(locate(name)) == reads.encoder]
    return [*named, reads.name.removesuffix(f"@{reads.encoder[:8]}")][:1]


def _step_s(reads: Reads) -> float:
    """Seconds from one clip to the next: those of vibration overlap by half."""
    return 0.5 if reads.encoder == VIBRATION else 1.0


def _training(lesson: Lesson, chosen: Candidate, about: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of the training; `about` besides."""
    taught = lesson.clips.at(lesson.learn)
    training: dict[str, Any] = {
        "clips": {label: int((taught.label == label).sum()) for label in taught.labels},
        "groups": sorted(set(taught.group.tolist())),
        "hours": round(len(taught) * _step_s(chosen.reads) / 3600.0, 4),
    } | dict(about)
    if chosen.choice.head.kind == "linear":
        training["c"] = chosen.choice.c
    return training


def _write(
    out: Path,
    lesson: Lesson,
    candidates: Sequence[Candidate],
    chosen: Candidate,
    found: Sequence[Evaluation] | None,
    notes: Sequence[str],
    training: Mapping[str, Any],
) -> str:
    """The package and its page, which has all notes; returns the package's digest."""
    none = f"none, {'test clips of one class' if lesson.untested() else 'one occasion'} only"
    scores: dict[str, Any] = {
        "left_out_f1": {f"{c.reads.name} {c.reads.pooling}".strip(): dict(c.choice.scores) for c in candidates},
        "evaluation": none if found is None else found[0].document(),
    }
    if found is not None and not chosen.reads.plain:
        scores["logmel"] = found[1].document()
        scores["less_logmel"] = found[0].less(found[1]).document()
    # the page first: a package never changes, and one without its page could not be given it by the same command
    _page(out).parent.mkdir(parents=True, exist_ok=True)
    _page(out).write_text(render(out.name, lesson, candidates, chosen, found, notes), encoding="utf-8")
    return write_head(out, chosen.choice.head, chosen.reads, chosen.x[lesson.learn], training, scores).digest


def _page(out: Path) -> Path:
    return out.with_name(f"{out.name}.html")


def _tell(out: Path, learned: _Learned, notes: Sequence[str]) -> None:
    lesson, candidates, chosen, found, _ = learned
    head, reads = chosen.choice.head, f"{chosen.reads.name} {chosen.reads.pooling}".strip()
    click.echo(f"{out}: {head.kind.replace('_', '-')} head on {reads}, {', '.join(head.labels)}")
    click.echo(verdict(chosen, found, candidates))
    if found is None:
        click.echo(no_figure(lesson))
    else:
        own = found[0]
        m, clips = own.machine, int(own.table.sum())
        held = own.held if own.fair else f"{own.held}, of heads that one occasion of a class chose"
        click.echo(f"mean F1 {m.mean:.3f} [{m.low:.3f}, {m.high:.3f}]{tested(lesson)} on {clips} clips ({held})")
        if said := narrow(own):
            click.echo(said)
    for note in notes:
        click.echo(note)
