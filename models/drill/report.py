"""Tables (CSV), figures (PNG), provenance (JSON) and one HTML page of the drill experiment."""

from __future__ import annotations

import base64
import csv
import html
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models.drill.claims import published, published_coherence, published_gain_p
from models.drill.figures import draw
from models.drill.summary import Summary, as_json
from models.metrics import Interval

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;border-bottom:1px solid #ddd;"
    "text-align:left}img{max-width:100%}"
)
Rows = list[list[str]]


def interval(v: Interval, digits: int = 3) -> str:
    """``value (low to high)``."""
    return f"{v.value:.{digits}f} ({v.low:.{digits}f} to {v.high:.{digits}f})"


def percent(v: Interval) -> str:
    """``value % (low to high)``."""
    return f"{100 * v.value:.1f} % ({100 * v.low:.1f} to {100 * v.high:.1f})"


def tables(summary: Summary) -> dict[str, Rows]:
    """All tables, first row the heading; names are file names without ending."""
    return {
        "published": _published(),
        "paper-protocol": _paper(summary),
        "leak-free": _leak_free(summary),
        "similarity": _similarity(summary),
    }


def _published() -> Rows:
    rows = [["network", "set", "right", "accuracy, Wilson 95 %", "here"]]
    for p in published():
        here = "trained here too" if p.repeated else "published only"
        rows.append([p.network, p.what, f"{p.right}/{p.count}", percent(p.interval), here])
    return rows


def _paper(summary: Summary) -> Rows:
    rows = [["classifier", "set", "first division, Wilson 95 %", "mean ± std", "divisions", "recall of anomalies",
             "recorded items", "synthetic items"]]  # fmt: skip
    for r in summary.paper:
        made = "" if r.synthetic is None else f"{100 * r.synthetic:.1f} %"
        rows.append([r.classifier, r.what, percent(r.first), f"{100 * r.mean:.1f} ± {100 * r.spread:.1f} %",
                     str(r.divisions), f"{100 * r.anomalies:.1f} %", f"{100 * r.recorded:.1f} %", made])  # fmt: skip
    return rows


def _leak_free(summary: Summary) -> Rows:
    rows = [["classifier", "training", "repeats", "AUC", "accuracy", "recall without false alarm", "gain of AUC",
             "McNemar p", "augmentation"]]  # fmt: skip
    for r in summary.leak_free:
        compared = ["", "", ""]
        if r.gain is not None:
            compared = [interval(r.gain.auc), f"{r.gain.mcnemar_p:.3f}", r.gain.verdict]
        rows.append([r.classifier, r.arm, str(r.repeats), interval(r.auc), percent(r.accuracy), percent(r.recall),
                     *compared])  # fmt: skip
    return rows


def _similarity(summary: Summary) -> Rows:
    rows = [["measure", *(f"{name}: {what}" for name in summary.similar for what in ("synthetic", "recorded"))]]
    if not summary.similar:
        return rows

    def line(label: str, values: Iterable[str]) -> None:
        rows.append([label, *values])

    pairs = [p for s in summary.similar.values() for p in (s.synthetic, s.recorded)]
    line("peak of the cross-correlation (median)", (f"{p.correlation:.3f}" for p in pairs))
    line("the same for white noise", (f"{p.correlation_noise:.3f}" for p in pairs))
    line("pairs above noise at 5 %", (f"{100 * p.correlation_significant:.0f} %" for p in pairs))
    line("largest coherence (median)", (f"{p.coherence:.3f}" for p in pairs))
    line("pairs with p of the maximum ≤ 0.05", (f"{100 * p.coherence_significant:.0f} %" for p in pairs))
    line("log-spectral distance, 1-22 kHz", (f"{p.log_spectral_db:.1f} dB" for p in pairs))
    for label, values in (
        ("MMD² (permutation p)", [f"{s.mmd:.3f} ({s.mmd_p:.3f})" for s in summary.similar.values()]),
        ("told apart (0.5 is perfect)", [f"{s.c2st:.2f} (p {s.c2st_p:.3f})" for s in summary.similar.values()]),
        ("nearest training sound", [f"{s.nearest:.2f}" for s in summary.similar.values()]),
        ("diversity (aim 0.7-1.3)", [f"{s.diversity:.2f}" for s in summary.similar.values()]),
    ):  # fmt: skip
        rows.append([label, *(cell for v in values for cell in (v, ""))])
    return rows


def sentences(summary: Summary) -> list[str]:
    """What may be said, by the claim rule; nothing else is said anywhere."""
    out = [
        f"{summary.sounds} sounds of {summary.events} events; {summary.done} of {summary.expected} cells are finished."
    ]
    if not summary.events_known:
        out.append("The events are not known: every file counts as its own, and microphones of one stroke may leak.")
    judged = [r for r in summary.leak_free if r.gain is not None and not r.arm.startswith("vae only")]
    for name in dict.fromkeys(r.classifier for r in judged):
        own = [r for r in judged if r.classifier == name]
        for verdict, text in (("helps", "helps"), ("harms", "harms"), ("not shown", "is not shown to help or harm")):
            arms = [r.arm for r in own if r.gain is not None and r.gain.verdict == verdict]
            if arms:
                out.append(f"{name}: augmentation {text} with {', '.join(arms)}.")
    if judged:
        out.append(f"{len(judged)} comparisons at 95 % each: one in twenty would exclude 0 by chance.")
    p = published_gain_p()
    out.append(f"The published gain, 64 of 68 against 35 of 40, has Fisher's p = {p:.2f}: it is not significant.")
    if summary.leaks:
        k = summary.leaks
        out.append(
            f"Leaks of the paper's protocol, mean over divisions: of {k['validation']:.0f} validation items "
            f"{k['synthetic']:.1f} are synthetic, {k['seen_by_vae']:.1f} are recordings that the autoencoder learned "
            f"from, {k['split_events']:.1f} have another microphone of their stroke in the training set."
        )
    if summary.chance is not None:
        c = summary.chance
        peaks = "/".join(f"{v:.2f}" for v in sorted(published_coherence(), reverse=True))
        out.append(
            f"The published coherence ({peaks}): by the same method independent noise exceeds the highest value in "
            f"{100 * c.above_highest:.0f} % of trials, and reaches all three below 10 kHz in {100 * c.reach_all:.1f} %."
        )
    return out


def provenance(settings: Mapping[str, Any], digest: str, seconds: float) -> dict[str, Any]:
    """What the figures depend on."""
    packages = ("numpy", "scipy", "torch", "matplotlib", "stethos")
    return {
        "paper": "arXiv 2209.11527",
        "sounds_sha256": digest,
        "settings": settings,
        "versions": {name: version(name) for name in packages},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu_seconds_of_this_call": round(seconds, 1),
    }


def write(summary: Summary, out: Path, origin: Mapping[str, Any]) -> list[Path]:
    """Write everything into a folder.

    Args:
        summary: what was measured.
        out: folder.
        origin: from `provenance`.

    Returns:
        Paths of the files.
    """
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for name, rows in tables(summary).items():
        made.append(out / f"{name}.csv")
        with made[-1].open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    figures = draw(summary, out)
    for name, content in (("results", as_json(summary)), ("provenance", dict(origin))):
        made.append(out / f"{name}.json")
        made[-1].write_text(json.dumps(content, indent=1, default=float, allow_nan=False), encoding="utf-8")
    made.append(out / "report.html")
    made[-1].write_text(page(summary, figures, origin), encoding="utf-8")
    return made + figures


def page(summary: Summary, figures: Sequence[Path], origin: Mapping[str, Any]) -> str:
    """The report as one HTML page with its figures inside."""
    said = "".join(f"<li>{html.escape(s)}</li>" for s in sentences(summary))
    parts = [f"<h1>Drill failures from short sounds</h1><ul>{said}</ul>"]
    for name, rows in tables(summary).items():
        head = "".join(f"<th>{html.escape(c)}</th>" for c in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows[1:])
        parts.append(f"<h2>{html.escape(name)}</h2><table><tr>{head}</tr>{body}</table>")
    for figure in figures:
        data = base64.b64encode(figure.read_bytes()).decode()
        parts.append(f'<p><img alt="{figure.stem}" src="data:image/png;base64,{data}"></p>')
    parts.append(f"<h2>Provenance</h2><pre>{html.escape(json.dumps(origin, indent=1, default=float))}</pre>")
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Drill paper</title><style>{_STYLE}</style>{"".join(parts)}</html>'  # noqa: E501 - one line of markup
