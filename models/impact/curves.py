"""Training curves of a run as a picture: loss, effective rank, spread of the vectors, throughput."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import BadInput

_PANELS = (
    ("loss", ("loss", "frame_loss", "utterance_loss")),
    ("effective rank", ("effective_rank",)),
    ("standard deviation and cosine", ("target_std", "prediction_std", "cosine")),
    ("clips per second", ("clips_per_s",)),
)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Lines of a run's log; a last line that a kill cut short is left out."""
    path = folder / "log.jsonl"
    if not path.is_file():
        raise BadInput("missing", f"{folder}: holds no log.jsonl; name the folder of a training run")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def draw_curves(folder: Path) -> Path | None:
    """Write ``curves.png`` beside the log; None if nothing is logged yet."""
    lines = read_log(folder) if (folder / "log.jsonl").is_file() else []
    if not lines:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, (title, keys) in zip(figure.subplots(2, 2).flat, _PANELS, strict=True):
        for key in keys:
            points = [(line["step"], line[key]) for line in lines if key in line]
            if points:
                axes.plot(
                    *zip(*points, strict=True), label=key.replace("_", " "), marker="." if len(points) < 9 else ""
                )
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend()
    out = folder / "curves.png"
    new = folder / ".curves.png"
    figure.savefig(new, dpi=110, format="png")
    new.replace(out)
    return out
