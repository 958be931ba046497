"""`stethos bench impact`: linear probes on DINOS, or on any labelled recordings, in both protocols."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np

from connectors.evidence import slug
from models.packages import load
from models.packages.shipped import locate
from models.probe import dinos, splits
from models.probe.clips import Clips, Facts, columns
from models.probe.features import Encoder, Extractor, LogMelMean, OpenSmile, digest_of, has_opensmile
from models.probe.metrics import units
from models.probe.published import agreement, largest_deviation, published
from models.probe.report import render
from models.probe.run import BASELINE, MAJORITY, RULES, HeadName, Tables, judge, keep, kept, models_of
from models.probe.summary import Problem, Protocol, class_rows, document, machine_rows, summarise, write_rows
from pipeline.cli.probing import Source, apart, features_of, rows_of, vibration_of
from pipeline.cli.progress import progress_bar
from pipeline.errors import BadInput
from pipeline.manifest import Row, alike, read_manifest, torn_recordings
from pipeline.messages import Float32
from pipeline.results import plain


@dataclass(frozen=True, slots=True)
class Settings:
    """What a result depends on besides clips and features."""

    repeats: int
    seed: int
    heads: tuple[HeadName, ...]


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder with the layout of DINOS.")
@click.option(
    "--manifest", type=click.Path(path_type=Path), help="CSV of labelled recordings of sound or vibration, or a folder."
)
@click.option("--modality", type=click.Choice(["sound", "vibration"]), help="Where the manifest has both.")
@click.option("--encoder", "encoders", multiple=True, type=click.Path(path_type=Path), help="Encoder package; several.")
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for the figures; a run resumes in it."
)
@click.option("--json", "lines", type=click.Path(path_type=Path), help="Append the machines' figures, as JSON lines.")
@click.option("--problem", default="machine", show_default=True, help="Manifest column whose values are judged apart.")
@click.option("--label", default="label", show_default=True, help="Manifest column of the classes.")
@click.option("--only", multiple=True, help="Only this value of --problem; several.")
@click.option("--head", "heads", multiple=True, type=click.Choice(["logistic", "two_layer"]), help="Both by default.")
@click.option("--repeats", type=click.IntRange(2, 100), default=splits.REPEATS, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def impact(
    data: Path | None,
    manifest: Path | None,
    modality: str | None,
    encoders: tuple[Path, ...],
    out: Path,
    lines: Path | None,
    problem: str,
    label: str,
    only: tuple[str, ...],
    heads: tuple[HeadName, ...],
    repeats: int,
    seed: int,
) -> int:
    """Linear probes as in the IMPACT paper (20 % train, ten repeats) and without leaks, beside simple baselines."""
    if (data is None) == (manifest is None):
        raise click.UsageError("name --data DIR (layout of DINOS) or --manifest M.csv")
    sources = _of_dinos(data) if data else _of_manifest(manifest, problem, label, modality) if manifest else {}
    if unknown := sorted(set(only) - set(sources)):
        raise BadInput("manifest", f"no {problem} {unknown[0]!r}; there are {', '.join(sources)}")
    extractors = _extractors(sources, encoders)
    settings = Settings(repeats, seed, heads or ("logistic", "two_layer"))
    with progress_bar() as bar:
        task = bar.add_task("probing", total=None)

        def notice(text: str) -> None:
            bar.update(task, description=text[-60:])

        chosen = {name: found for name, found in sources.items() if not only or name in only}
        problems = [_problem(name, found, extractors, settings, out, notice) for name, found in chosen.items()]
    if data is not None or (manifest is not None and dinos.is_dinos_csv(manifest)):
        problems = [_with_remarks(p) for p in problems]
    _write(problems, _provenance(extractors, settings), out, lines)
    return 0


def _extractors(sources: Mapping[str, Sequence[Source]], encoders: Sequence[Path]) -> list[Extractor]:
    """The baseline, and for sound the encoders and what is installed beside them."""
    rows = [source.row for found in sources.values() for source in found]
    if rows and rows[0].modality == "vibration":
        if encoders:
            raise BadInput("modality", f"{encoders[0]}: encoders hear sound; leave out --encoder for vibration")
        return [vibration_of(rows)]
    extractors: list[Extractor] = [LogMelMean(), *(encoder_of(path) for path in encoders)]
    return apart([*extractors, OpenSmile()] if has_opensmile() else extractors)


def encoder_of(folder: Path) -> Encoder:
    """The encoder package in a folder, or that of its name which ships, under the folder's name."""
    return Encoder(folder.resolve().name.replace(" ", "_"), load(locate(str(folder))))


def _of_dinos(folder: Path) -> dict[str, list[Source]]:
    return _of_files(dinos.read_layout(folder), folder)


def _of_files(files: Sequence[dinos.File], folder: Path) -> dict[str, list[Source]]:
    found: dict[str, list[Source]] = {}
    for file in files:
        name = str(file.path.relative_to(folder))
        row = Row(name, file.path, file.label, file.group, file.machine, file.sensor, "acoustic")
        if file.first_s is not None:
            row = replace(row, start_s=file.first_s, end_s=file.first_s + 1.0)
        facts = Facts(name, file.second, file.label, file.group, file.sensor, file.condition)
        found.setdefault(file.machine, []).append(Source(row, facts, 0.0))
    return found


def _with_remarks(problem: Problem) -> Problem:
    counts = {label: int((problem.clips.label == label).sum()) for label in problem.clips.labels}
    notes = [*problem.notes, *dinos.remarks(problem.name, counts)]
    for protocol in problem.protocols:
        if protocol.name == "paper":
            learned = {name: j.machine.mean for name, j in protocol.judged.items() if _learned(name)}
            notes += [text] if (text := agreement(problem.name, learned)) else []
    return replace(problem, notes=tuple(notes))


def _learned(name: str) -> bool:
    """Whether an encoder's features were judged."""
    return name.split(" ", maxsplit=1)[0] not in {MAJORITY, "logmel", "opensmile"}


def _of_manifest(path: Path, problem: str, label: str, modality: str | None) -> dict[str, list[Source]]:
    if dinos.is_dinos_csv(path):
        return _of_files(dinos.read_csv(path), path.parent)
    found: dict[str, list[Source]] = {}
    rows = read_manifest(path)
    if twice := torn_recordings(rows):
        raise BadInput("leak", f"{path}: {twice}; keep recordings whole")
    for row in rows_of(path, rows, modality)[1]:
        cells = row.cells()
        for column in (problem, label):
            if column not in cells:
                known = ", ".join(cells)
                raise BadInput("manifest", f"{path}: no column {column!r} whose values are classes; there are {known}")
            if not cells[column]:
                raise BadInput("manifest", f"{path}: {row.name} has nothing in the column {column!r}")
        facts = Facts(row.name, 0.0, cells[label], row.group, row.sensor, cells[label])
        found.setdefault(cells[problem], []).append(Source(row, facts))
    for sources in found.values():
        if wrong := alike({source.facts.label for source in sources}):
            raise BadInput("labels", f"{path}: {wrong}")
    return found


def _problem(
    name: str,
    sources: list[Source],
    extractors: list[Extractor],
    settings: Settings,
    out: Path,
    notice: Callable[[str], None],
) -> Problem:
    facts, features, notes = features_of(name, sources, extractors, out / "features" / slug(name), notice)
    if not facts:
        raise BadInput("manifest", f"{name}: no clip could be used; {notes[0] if notes else 'there are no recordings'}")
    clips = columns(facts)
    plans: list[tuple[str, Clips, splits.Plan]] = []
    for title, problem_clips, make in _protocols(clips, settings):
        try:
            plans.append((title, problem_clips, make()))
        except BadInput as error:
            if error.reason in {"one_class", "one_group"}:
                raise BadInput(error.reason, f"{name}: {error}") from error
            notes.append(f"{title}: not run; {error}")
    digests = {e.name: digest_of(facts, f"{RULES} {settings!r}", e.digest, _hash(e, features)) for e in extractors}
    protocols = []
    for title, problem_clips, plan in plans:
        runs = _Runs(out / "runs" / slug(name) / slug(title), digests, settings, lambda t: notice(f"{name}: {t}"))
        protocols.append(runs.judged(title, problem_clips, plan, features))
    return Problem(name, clips, tuple(protocols), tuple(notes))


def _hash(extractor: Extractor, features: Mapping[str, Float32]) -> str:
    """Over an extractor's features: recordings may be replaced by others of the same name, length and label."""
    digest = hashlib.sha256()
    for key in sorted(k for k in features if k.split(" ")[0] == extractor.name):
        digest.update(f"{key} {features[key].shape}".encode())
        digest.update(features[key].tobytes())
    return digest.hexdigest()


def _protocols(clips: Clips, settings: Settings) -> Iterator[tuple[str, Clips, Callable[[], splits.Plan]]]:
    yield "paper", clips, lambda: splits.paper(clips, settings.repeats, settings.seed)
    yield "leak-free", clips, lambda: splits.leak_free(clips, settings.repeats, settings.seed)
    merged = clips.by_condition()
    sensors = [str(s) for s in np.unique(clips.sensor)]
    for learn, hear in ((a, b) for a in sensors for b in sensors if a != b):

        def make(learn: str = learn, hear: str = hear) -> splits.Plan:
            plan = splits.leak_free(merged, settings.repeats, settings.seed)
            return splits.cross_sensor(merged, plan, learn, hear)

        yield f"trained on {learn}, tested on {hear}", merged, make


@dataclass(frozen=True, slots=True)
class _Runs:
    """Confusions of one protocol, those of an earlier run taken over."""

    folder: Path
    digests: Mapping[str, str]
    settings: Settings
    notice: Callable[[str], None]

    def judged(self, title: str, clips: Clips, plan: splits.Plan, features: Mapping[str, Float32]) -> Protocol:
        tables: dict[str, Tables] = {}
        drawn = units(clips)
        for model in models_of(features, self.settings.heads):
            path = self.folder / f"{model.name.replace(' ', '_')}.npz"
            digest = self.digests[model.features.split(" ")[0] or "logmel"]
            arrays: dict[str, Any] | None = kept(path, digest)
            if arrays is None:
                x = features.get(model.features)
                arrays = {"tables": judge(clips, plan, drawn, x, model, self.settings.seed, self.notice)}
                keep(path, digest, arrays)
            tables[model.name] = arrays["tables"]
        return summarise(title, clips, plan, drawn, tables)


def _provenance(extractors: Sequence[Extractor], settings: Settings) -> dict[str, Any]:
    return {
        "command": " ".join(["stethos", *sys.argv[1:]]),
        "seed": settings.seed,
        "repeats": settings.repeats,
        "extractors": {e.name: e.digest for e in extractors},
        "versions": {name: version(name) for name in ("numpy", "scipy")} | {"python": platform.python_version()},
        "machine": platform.machine(),
        "openSMILE": "computed" if has_opensmile() else "not installed, not computed",
        "published": f"Table 3 equals the class means of Table 4 within {largest_deviation():.1e}",
    }


def _write(problems: list[Problem], provenance: Mapping[str, Any], out: Path, lines: Path | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(plain(document(problems, provenance)), indent=1, ensure_ascii=False, allow_nan=False)
    (out / "summary.json").write_text(text + "\n", encoding="utf-8")
    rows: list[dict[str, Any]] = plain(list(machine_rows(problems)))
    write_rows(out / "machines.csv", rows)
    write_rows(out / "classes.csv", plain(list(class_rows(problems))))
    (out / "report.html").write_text(render(problems, provenance), encoding="utf-8")
    for problem in problems:
        for protocol in problem.protocols:
            click.echo(f"{problem.name}, {protocol.name} ({protocol.plan.mode})")
            for name, j in protocol.judged.items():
                against = "" if j.against is None or name == BASELINE else f"  {j.against.value:+.3f} to the baseline"
                click.echo(f"  {name:34s} {j.machine.mean:.4f} ± {j.machine.std:.4f}{against}")
            if protocol.name == "paper":
                for name, score in published().get(problem.name, {}).items():
                    click.echo(f"  {name + ' (published)':34s} {score.mean:.4f} ± {score.std:.4f}")
        for note in problem.notes:
            click.echo(f"  {note}")
    click.echo(f"→ {out / 'report.html'}")
    if lines is not None:
        with lines.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({"benchmark": "impact", **row}, allow_nan=False) + "\n" for row in rows)
