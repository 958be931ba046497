"""Commissioning from a manifest: which of its recordings teach normal, read and handed to the learner."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

from models.anomaly.baseline import Baseline
from models.anomaly.commission import Normal, commission
from models.anomaly.embedding import Embedder
from pipeline.clips import read_clip
from pipeline.errors import BadInput
from pipeline.manifest import NORMAL_LABELS, Row, learning_rows, torn_recordings

Progress = Callable[[int, int, str], None]


def normal_rows(rows: Sequence[Row], normal: Collection[str] = NORMAL_LABELS, machine: str | None = None) -> list[Row]:
    """The rows that commissioning learns from: of the right split, label and machine, with samples in them.

    Raises:
        BadInput: there are none; says what the manifest has instead.
    """
    machines = sorted({r.machine for r in rows})
    if machine is not None and machine not in machines:
        raise BadInput("manifest", f"no machine '{machine}'; the manifest has {', '.join(machines)}")
    if twice := torn_recordings([r for r in rows if machine in {None, r.machine}], by_sensor=True):
        raise BadInput("leak", f"{twice}; starts are compared with each other, keep each whole")
    learning = [r for r in learning_rows(rows) if r.modality != "frames" and machine in {None, r.machine}]
    chosen = [r for r in learning if r.label in normal]
    if not chosen:
        labels = ", ".join(sorted({r.label for r in learning})) or "none"
        raise BadInput(
            "manifest",
            f"no row to learn from is labelled {', '.join(sorted(normal))}; the labels are {labels}, the machines "
            f"{', '.join(machines)}; name the normal ones with --normal",
        )
    return chosen


def commission_manifest(
    rows: Sequence[Row],
    normal: Collection[str] = NORMAL_LABELS,
    machine: str | None = None,
    progress: Progress | None = None,
    embedder: Embedder | None = None,
) -> list[Baseline]:
    """Learn a baseline per (machine, sensor) from the normal recordings of a manifest.

    Args:
        rows: of the manifest, see `read_manifest`.
        normal: labels that mean normal.
        machine: only this machine; None for all.
        progress: called with (done, total, name) as recordings are taken up.
        embedder: of sound; its embeddings are judged beside the log-Mel where left-out starts do not speak against it.

    Raises:
        BadInput: nothing to learn from, a recording that cannot be read, or recordings that do not belong together.
    """
    chosen = normal_rows(rows, normal, machine)

    def recordings() -> Iterator[Normal]:
        for done, row in enumerate(chosen):
            if progress is not None:
                progress(done, len(chosen), row.name)
            clip = read_clip(row)
            yield Normal(row.name, row.group, row.state, clip.pieces)
        if progress is not None:
            progress(len(chosen), len(chosen), "")

    return commission(recordings(), embedder=embedder)
