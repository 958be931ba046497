"""The validation report: one HTML file without outside parts, for reading and for filing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

from pipeline.manifest import Row
from pipeline.validation.delays import distribution
from pipeline.validation.metrics import Metric
from pipeline.validation.scorer import Judged, Validation

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2530; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #d8dee6; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.note { background: #fff6e0; padding: .5rem .75rem }
svg text { font: 12px system-ui, sans-serif; fill: #1d2530 }
"""
_LISTED = 20
_MEANING = {
    "auc": "area under the ROC curve over recordings; 0.5 is chance",
    "pauc_0.1": "the same up to 10 % false positives, standardised (McClish); 0.5 is chance",
    "recall": "abnormal recordings that were called abnormal",
    "precision": "recordings called abnormal that were",
    "balanced_accuracy": "mean of the recalls of the classes",
    "macro_f1": "mean F1 of the classes",
    "delay_s_p50": "median seconds from onset to alarm",
    "delay_s_p99": "99th percentile of seconds from onset to alarm",
    "false_alarms_per_hour": "alarms raised per hour of normal running",
    "false_alarms_per_day": "alarms raised per day of normal running",
}


def render(result: Validation, normal: Collection[str]) -> str:
    """The whole page."""
    groups = len({row.group for row, _ in result.judged})
    counts = f"{len(result.judged)} recordings in {groups} groups were scored; {len(result.unscored)} could not be."
    parts = [
        f"<h1>Validation: {escape(result.title)}</h1>",
        f"<p>{counts}</p>",
        *(f'<p class="note">{escape(note)}</p>' for note in result.notes),
        "<h2>Figures</h2>",
        _figures(result.metrics),
    ]
    if result.comparison:
        own = {k: result.metrics[k] for k in ("auc", "pauc_0.1")}
        parts += ["<h2>Beside trivial baselines and its own parts</h2>", _comparison(own, result.comparison)]
        parts.append("<p>What always says “normal” has an AUC of 0.5 and misses every fault.</p>")
    parts += ["<h2>Scores of recordings by label</h2>", _strip(result.judged)]
    if delays := distribution(result.judged):
        parts += ["<h2>Share of faults that were told so long after their onset</h2>", delays]
    parts += ["<h2>Misjudged recordings</h2>", _misjudged(result.judged, normal)]
    if result.unscored:
        listed = ((escape(row.name), escape(why)) for row, why in result.unscored[:_LISTED])
        parts += ["<h2>Not scored</h2>", _table(("recording", "why"), listed)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>stethos validation</title>\n'
        f"<style>{_STYLE}</style>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _figures(metrics: Mapping[str, Metric]) -> str:
    lines = (
        (name, f"{m.value:.3f}", _interval(m), str(m.n), _MEANING.get(name, "")) for name, m in sorted(metrics.items())
    )
    return _table(("figure", "value", "95 % interval", "recordings", "meaning"), lines, numbers=(1, 2, 3))


def _interval(metric: Metric) -> str:
    return f"{metric.low:.3f} to {metric.high:.3f}" if metric.bounded else "too few groups"


def _comparison(own: Mapping[str, Metric], others: Mapping[str, Mapping[str, Metric]]) -> str:
    def line(name: str, metrics: Mapping[str, Metric]) -> tuple[str, str, str, str]:
        a, p = metrics["auc"], metrics["pauc_0.1"]
        return name, f"{a.value:.3f}", _interval(a), f"{p.value:.3f}"

    lines = [line("this result", own), *(line(escape(name), m) for name, m in sorted(others.items()))]
    return _table(("score", "AUC", "95 % interval", "pAUC 0.1"), lines, numbers=(1, 2, 3))


def _misjudged(judged: Sequence[tuple[Row, Judged]], normal: Collection[str]) -> str:
    wrong = [
        (row, j) for row, j in judged if (j.label != row.label if j.label else j.decision != (row.label not in normal))
    ]
    wrong.sort(key=lambda pair: -pair[1].score)
    lines = [
        (escape(row.name), escape(row.label), escape(j.label) or ("abnormal" if j.decision else "normal"),
         f"{j.score:.2f}", escape(j.why))
        for row, j in (wrong[:_LISTED] if len(wrong) <= 2 * _LISTED else [*wrong[:_LISTED], *wrong[-_LISTED:]])
    ]  # fmt: skip
    if not lines:
        return "<p>None.</p>"
    return _table(("recording", "label", "decided", "score", "strongest reason"), lines, numbers=(3,))


def _strip(judged: Sequence[tuple[Row, Judged]]) -> str:
    """One row of dots per label over the score axis."""
    labels = sorted({row.label for row, _ in judged})
    scores = [j.score for _, j in judged]
    low, high = min([*scores, 0.0]), max([*scores, 1.0])
    left, width, step = 170, 700, 28
    span = (high - low) or 1.0

    def x(score: float) -> float:
        return left + width * (score - low) / span

    marks = [
        f'<circle cx="{x(j.score):.1f}" cy="{step * labels.index(row.label) + 18}" r="4" fill="#2f6db5" '
        f'fill-opacity="0.5"><title>{escape(row.name)}: {j.score:.3f}</title></circle>'
        for row, j in judged
    ]
    names = [f'<text x="0" y="{step * i + 22}">{escape(label[:24])}</text>' for i, label in enumerate(labels)]
    height = step * len(labels) + 24
    axis = [f'<text x="{x(v):.1f}" y="{height - 4}" text-anchor="middle">{v:.2f}</text>' for v in (low, high)]
    return (
        f'<svg viewBox="0 0 {left + width + 30} {height}" role="img" aria-label="scores by label">'
        + "".join([*names, *marks, *axis])
        + "</svg>"
    )


def _table(header: Sequence[str], lines: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; cells are HTML already."""
    head = "".join(f"<th>{h}</th>" for h in header)
    body = "\n".join(
        "<tr>" + "".join(f"<td{' class=n' if i in numbers else ''}>{c}</td>" for i, c in enumerate(line)) + "</tr>"
        for line in lines
    )
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"
