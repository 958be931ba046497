"""The live view in a terminal: machines, levels, scores, alarms, from the durable log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipeline.state import Store
from pipeline.status import overview

_BAR = 24
_ALARMS = 6
_LOOK = {"alarm": "bold red", "abnormal": "yellow", "no data": "red", "sensor": "yellow", "normal": "green"}


class View:
    """Redraws the state of all machines.

    Args:
        state: path of the durable state.
        address: of the status page, shown at the foot.
        evidence: folder of evidence, to say where to look.
        problems: what sources and sinks complain about now.
    """

    def __init__(
        self,
        state: Path,
        address: str = "",
        evidence: Path | None = None,
        problems: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._store = Store(state)
        self._address = address
        self._evidence = evidence
        self._problems = problems
        self._live = Live(refresh_per_second=4, screen=False)
        self._live.start()

    def update(self) -> None:
        """Draw once more."""
        self._live.update(render(overview(self._store, self._evidence), self._address, self._problems()))

    def close(self) -> None:
        """Leave the last picture on the screen."""
        self.update()
        self._live.stop()


def render(state: dict[str, Any], address: str = "", problems: Sequence[str] = ()) -> RenderableType:
    """The picture of a state as `overview` gives it, and of what is wrong with the run itself."""
    table = Table(expand=True, pad_edge=False, box=None)
    for name in ("machine", "condition", "sensor · detector", "level", "score", "threshold", "", "sensor health"):
        table.add_column(name)
    health = {(h["machine"], h["sensor"]): h for h in state["health"]}
    for machine, detectors in sorted(state["machines"].items()):
        rows: list[tuple[str | Text, ...]] = []
        for key, series in sorted(detectors.items()):
            _, value, threshold = series[0]
            sensor = key.split(" · ")[0]
            level = state["levels"].get(f"{machine}/{sensor}", "")
            score, limit = ("–" if number is None else f"{number:8.2f}" for number in (value, threshold))
            bar, said = _bar(value, threshold), _health(health.get((machine, sensor)))
            rows.append((Text(key), level, score, limit, bar, said))
        for told in [one for one in state["states"] if one["machine"] == machine]:
            key = "+".join(told["sensors"]) + " · " + told["detector"]
            sure = "" if told["probability"] is None else f"{told['probability']:.0%}"
            rows.append((Text(key), "", Text(told["state"]), sure, "", ""))
        for (of, sensor), told in sorted(health.items()):
            if of == machine and not any(key.startswith(sensor + " ") for key in detectors):
                level = state["levels"].get(f"{machine}/{sensor}", "")
                rows.append((Text(sensor), level, "", "", "", _health(told)))
        word = state["conditions"][machine]
        for number, row in enumerate(rows or [("",) * 6]):  # a machine that says nothing is shown, too
            table.add_row(Text(machine), Text("" if number else word, style=_LOOK.get(word, "dim")), *row)
    first = sorted(state["alarms"], key=lambda alarm: alarm["cleared"] is not None)[:_ALARMS]  # active ones
    alarms = [_alarm(alarm, state["evidence"]) for alarm in first]
    foot = Text(f"{time.strftime('%H:%M:%S %Z')}   {address}", style="dim")
    body: list[RenderableType] = [Panel(table, title="stethos")]
    if state["quiet"]:
        newest = "" if state["newest_ns"] is None else f"; the newest result is of {_time(state['newest_ns'])}"
        body.append(Text(f"{state['quiet']}{newest}", style="bold red"))
    if alarms:
        body.append(Panel(Group(*alarms), title=f"alarms: {state['active']} active", border_style="red"))
    if problems:
        body.append(Panel(Group(*map(Text, problems)), title="problems", border_style="yellow"))
    return Group(*body, foot)


def _bar(value: float | None, threshold: float | None) -> Text:
    if value is None or threshold is None:
        return Text("·" * _BAR, style="dim")
    share = max(0.0, min(2.0, value / threshold)) / 2.0 if threshold else 0.0
    full = round(share * _BAR)
    return Text("█" * full + "·" * (_BAR - full), style="red" if value > threshold else "green")


def _health(health: dict[str, Any] | None) -> Text:
    if health is None:
        return Text("–", style="dim")
    if health["state"] == "normal":
        return Text("normal", style="green")
    return Text(f"{health['state'].replace('_', ' ')}: {', '.join(health['reasons'])}", style="yellow")


def _time(t_ns: int) -> str:
    """In the zone that the foot names, with the date if that is not today's."""
    then = time.localtime(t_ns / 1e9)
    return time.strftime("%H:%M:%S" if then[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M:%S", then)


def _alarm(alarm: dict[str, Any], evidence: dict[str, Any]) -> Text:
    raised = alarm["raised"]
    line = Text(f"{_time(raised['t_ns'])} ", style="dim" if alarm["cleared"] else "bold red")
    line.append(raised["text"], style="dim" if alarm["cleared"] else "red")
    for part in evidence.get(raised["alarm"], {}).get("parts", []):
        files = [f"{word}: {part[kind]}" for word, kind in (("listen", "sound"), ("look", "picture")) if kind in part]
        line.append("\n         " + "   ".join(files), style="dim")
    return line
