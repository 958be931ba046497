"""`stethos spectra`: what the states of a machine sound like, as mean spectra with their spread."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import click

from models.probe.spectra import HIGHEST_HZ, Spectrum, SpectrumOf
from pipeline.cli.number import Number
from pipeline.cli.progress import progress_bar
from pipeline.clips import read_clip
from pipeline.errors import BadInput, MissingExtra
from pipeline.manifest import Row, read_manifest

_SAMPLED = frozenset({"acoustic", "stethoscope", "vibration"})
_MOST_PANELS = 24
_LONGEST_LABEL = 50


@click.command()
@click.option(
    "--manifest", type=click.Path(path_type=Path), required=True, help="CSV of labelled recordings, or their folder."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for spectra.csv and spectra.png.")
@click.option("--highest", type=Number(min=10.0), default=HIGHEST_HZ, show_default=True, help="Hertz.")
@click.option("--machine", help="Only this machine.")
@click.option("--sensor", help="Only this sensor.")
def spectra(manifest: Path, out: Path, highest: float, machine: str | None, sensor: str | None) -> int:
    """Mean and standard deviation in dB of the spectrum of each state, from segments of 2,048 samples."""
    rows = [
        row
        for row in read_manifest(manifest)
        if row.modality in _SAMPLED and machine in {None, row.machine} and sensor in {None, row.sensor}
    ]
    if not rows:
        raise BadInput("manifest", f"{manifest}: has no recording of sound or vibration that was asked for")
    found, notes = _collect(rows, highest)
    out.mkdir(parents=True, exist_ok=True)
    _table(out / "spectra.csv", found)
    shown = dict(islice(found.items(), _MOST_PANELS))
    _picture(out / "spectra.png", shown)
    for label, spectrum in found.items():
        click.echo(f"{label}: {spectrum.segments} segments")
    for note in notes:
        click.echo(f"left out: {note}")
    if len(shown) < len(found):
        click.echo(f"spectra.png shows the first {len(shown)} of {len(found)} labels, spectra.csv holds all of them")
    click.echo(f"→ {out / 'spectra.png'}")
    return 0


def _collect(rows: list[Row], highest: float) -> tuple[dict[str, Spectrum], list[str]]:
    """Label → spectrum, in alphabetical order; labels at several rates are kept apart by name."""
    states: dict[tuple[str, float], SpectrumOf] = {}
    notes: list[str] = []
    with progress_bar() as bar:
        task = bar.add_task("spectra", total=len(rows))
        for row in rows:
            bar.update(task, advance=1, description=row.name[-40:])
            try:
                clip = read_clip(row)
                rate = clip.stream.rate.hz
                state = states.setdefault((row.label, rate), SpectrumOf(rate, highest))
                for piece in clip.pieces:
                    state.take(piece.blocks())
            except BadInput as error:
                notes.append(str(error))
    rates = {label: sum(other == label for other, _ in states) for label, _ in states}
    found: dict[str, Spectrum] = {}
    for (label, rate), state in sorted(states.items()):
        name = label if rates[label] == 1 else f"{label} at {rate:g} Hz"
        try:
            found[name] = state.spectrum()
        except ValueError as error:
            notes.append(f"{name}: {error}")
    if not found:
        raise BadInput("short", f"no recording could be used; {notes[0]}")
    return found, notes


def _table(path: Path, found: Mapping[str, Spectrum]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "frequency_hz", "mean_db", "std_db", "segments"))
        for label, s in found.items():
            for f, mean, std in zip(s.frequency_hz.tolist(), s.mean_db.tolist(), s.std_db.tolist(), strict=True):
                writer.writerow((label, f"{f:.4f}", f"{mean:.4f}", f"{std:.4f}", s.segments))


def _short(label: str) -> str:
    """A label that a panel is wide enough for: its beginning and its end, where names of files differ."""
    half = _LONGEST_LABEL // 2
    return label if len(label) <= _LONGEST_LABEL else f"{label[:half]}…{label[-half:]}"


def _picture(path: Path, found: Mapping[str, Spectrum]) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("train", "drawing spectra") from error
    figure = Figure(figsize=(8.0, 1.0 + 2.2 * len(found)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    all_axes: Any = figure.subplots(len(found), 1, sharex=True, sharey=True, squeeze=False)
    for (label, s), axes in zip(found.items(), all_axes[:, 0], strict=True):
        axes.fill_between(s.frequency_hz, s.mean_db - s.std_db, s.mean_db + s.std_db, color="#2f6db5", alpha=0.25)
        axes.plot(s.frequency_hz, s.mean_db, color="#2f6db5", linewidth=0.9)
        title = f"{_short(label)} ({s.segments} segments, mean ± standard deviation)"
        axes.set_title(title, fontsize=9, loc="left", parse_math=False)
        axes.set_ylabel("dB")
        axes.grid(alpha=0.3)
    all_axes[-1, 0].set_xlabel("Frequency in Hz")
    figure.savefig(path, metadata={"Software": None})
