"""The benchmark's page: own figures by protocol, the published ones beside them where there are any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from models.probe.published import SOURCE, models, published
from models.probe.run import BASELINE
from models.probe.summary import Figure, Problem, Protocol
from models.probe.tasks import TASKS

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2530; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin-top: 2rem } h3 { font-size: 1rem }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 }
th, td { text-align: left; padding: .2rem .75rem .2rem 0; border-bottom: 1px solid #d8dee6; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.note { background: #fff6e0; padding: .5rem .75rem }
"""
_TITLES = {task.name: f"{task.name} {task.title}" for task in TASKS}


def page(title: str, body: Iterable[str]) -> str:
    """A whole HTML page without outside parts."""
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n<body>\n<h1>{escape(title)}</h1>\n" + "\n".join(body) + "\n</body>\n</html>\n"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: int = 1) -> str:
    """A table; columns from `numbers` on hold figures. Cells are escaped here."""
    heads = "".join(f"<th{_kind(i, numbers)}>{escape(h)}</th>" for i, h in enumerate(header))
    lines = "".join(
        "<tr>" + "".join(f"<td{_kind(i, numbers)}>{escape(cell)}</td>" for i, cell in enumerate(row)) + "</tr>\n"
        for row in rows
    )
    return f"<table><tr>{heads}</tr>\n{lines}</table>"


def render(problems: Sequence[Problem], provenance: Mapping[str, Any]) -> str:
    """The benchmark's page."""
    about = (
        "<p>Frozen features, a head trained on a fifth of the clips. A class's score is its F1, a machine's the mean "
        "of its classes. ± is the standard deviation over the repeats; brackets hold 95 % under resampling of what "
        f"belongs together. “Less baseline” compares with {escape(BASELINE)} on the same splits and draws.</p>"
    )
    parts = [about]
    for problem in problems:
        counts = ", ".join(f"{c} {int((problem.clips.label == c).sum())}" for c in problem.clips.labels)
        parts += [f"<h2>{escape(problem.name)}</h2>", f"<p>{len(problem.clips)} clips: {escape(counts)}.</p>"]
        parts += [f'<p class="note">{escape(note)}</p>' for note in problem.notes]
        for protocol in problem.protocols:
            parts += _protocol(problem, protocol)
    rows = ((key, str(value)) for key, value in provenance.items())
    parts += ["<h2>Provenance</h2>", table(("what", "value"), rows, numbers=2)]
    return page("Linear probes", parts)


def _protocol(problem: Problem, protocol: Protocol) -> list[str]:
    beside = published().get(problem.name, {}) if protocol.name == "paper" else {}
    rows = [
        (name, plus_minus(j.machine), f"[{j.machine.low:.3f}, {j.machine.high:.3f}]", _against(j.against))
        for name, j in protocol.judged.items()
    ]
    rows += [(f"{m} (published)", f"{s.mean:.3f} ± {s.std:.3f}", "", "") for m, s in beside.items()]
    kind = "paper" if protocol.plan.mode == "stretches" else protocol.plan.mode
    caution = f'<p class="note">{escape(protocol.plan.sentence)}.</p>' if kind == "paper" else ""
    best = protocol.judged[protocol.best]
    classes = [(_TITLES.get(c, c), *_class_cells(protocol, c, beside)) for c in best.classes]
    header = ["class", protocol.best, *([BASELINE] if protocol.best != BASELINE else [])]
    parts = [
        f"<h3>{escape(protocol.name)}: {len(protocol.plan.splits)} splits</h3>",
        caution or f"<p>{escape(protocol.plan.sentence)}.</p>",
        f"<p>Resampled for the brackets: {escape(protocol.units.name)}.</p>",
        table(("model", "machine F1", "95 %", "less baseline"), rows),
        table((*header, *(["IMPACT (published)"] if beside else [])), classes),
    ]
    if beside:
        parts.append(f"<p>Published: {escape(SOURCE)}; {', '.join(models())}.</p>")
    return parts


def _class_cells(protocol: Protocol, label: str, beside: Mapping[str, Any]) -> list[str]:
    names = [protocol.best, *([BASELINE] if protocol.best != BASELINE else [])]
    cells = [plus_minus(protocol.judged[name].classes[label]) for name in names]
    if beside:
        score = published().get(label, {}).get("IMPACT")
        cells.append("" if score is None else f"{score.mean:.3f} ± {score.std:.3f}")
    return cells


def plus_minus(figure: Figure) -> str:
    """Mean ± standard deviation."""
    return f"{figure.mean:.3f} ± {figure.std:.3f}"


def _against(value: Any) -> str:
    return "" if value is None else f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def _kind(column: int, numbers: int) -> str:
    return ' class="n"' if column >= numbers else ""
