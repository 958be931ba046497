"""The detector of the lane: windows in, scores with their reasons out, judged by a baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from models.anomaly.baseline import Baseline, Cell
from models.anomaly.explain import reasons
from models.anomaly.vectors import Extraction
from operators.base import Windowed
from pipeline.errors import BadInput
from pipeline.messages import Float32, Message, Score, Window

StateOf = Callable[[int], str | None]
UNKNOWN_STATE = "unknown"
"""The operating state while nobody tells it; never commissioned, so that nothing is judged by it."""
_EXPLAINED_FROM = 0.5  # of the threshold
_MAX_STATES = 64


class AnomalyScore(Windowed):
    """`Window` → one `Score` per detector of the baseline (``anomaly``, ``level``); each window stands for itself.

    Takes the log-Mel windows of its sensor; for a sensor too slow for a log-Mel the one-second windows of samples.
    Incomplete and silent windows give no score. A window in an operating state that was never commissioned, or whose
    samples' power is no number, gives an incomplete score, which moves no counter and raises nothing.

    Args:
        baseline: what was learned; see `Baseline.check` for whether it fits the stream.
        state_of: tells the operating state at an event time in nanoseconds; None for a machine without states.

    Raises:
        BadInput: the baseline was learned with another front-end.
    """

    memory_s: ClassVar[float] = 0.0

    def __init__(self, baseline: Baseline, state_of: StateOf | None = None) -> None:
        self.baseline = baseline
        self.extraction = Extraction(baseline.modality, baseline.rate, baseline.channels)
        if self.extraction.hash != baseline.front_end:
            raise BadInput(
                "baseline",
                f"the baseline {baseline.settings} of {baseline.machine}/{baseline.sensor} was learned with the "
                f"front-end {baseline.front_end}, this version has {self.extraction.hash}; commission again",
            )
        self._state_of = state_of
        self._cells: dict[tuple[str | None, str], Cell | None] = {}

    def needs_from(self) -> Mapping[tuple[str, int], int]:
        """Nothing: each window stands for itself."""
        return {}

    def process(self, message: Message) -> Iterable[Message]:
        """Judge one window."""
        if not isinstance(message, Window):
            raise TypeError(f"AnomalyScore takes Window, not {type(message).__name__}")
        vectors = self.extraction.vectors(message)
        if not vectors:
            return []
        state = None if self._state_of is None else self._state_of(message.t_end_ns)
        return [self._score(message, detector, vectors, state) for detector in vectors]

    def _score(self, window: Window, detector: str, vectors: Mapping[str, Float32], state: str | None) -> Score:
        cell = self._cell(state, detector)
        if cell is None:
            text = f"operating state {state!r} was never commissioned"
            if state == UNKNOWN_STATE:
                text = "nobody told the operating state (state_context), so that nothing was judged"
            return self._message(window, detector, 0.0, 1.0, {"state": state, "text": text}, complete=False)
        if not np.isfinite(vectors[detector]).all():
            text = "samples far beyond anything that was learned: their power is no number"
            return self._message(window, detector, 0.0, cell.threshold, {"text": text}, complete=False)
        value, why = self._judge(cell, detector, vectors, state)
        if state:
            why["state"] = state
        if self.baseline.provisional:
            why["provisional"] = True
        return self._message(window, detector, value, cell.threshold, why)

    def _cell(self, state: str | None, detector: str) -> Cell | None:
        key = (state, detector)
        if key not in self._cells:
            if len(self._cells) >= _MAX_STATES:  # whatever a context says is a state
                self._cells.clear()
            self._cells[key] = self.baseline.cell(state, detector)
        return self._cells[key]

    def _judge(
        self, cell: Cell, detector: str, vectors: Mapping[str, Float32], state: str | None
    ) -> tuple[float, dict[str, Any]]:
        fused = cell.fusion.score(vectors[detector])
        why: dict[str, Any] = {"back_end": fused.decided_by, "z": fused.z}
        if fused.value > _EXPLAINED_FROM * cell.threshold:
            fusions = {name: beside.fusion for name in vectors if (beside := self._cell(state, name)) is not None}
            why |= reasons(vectors, fusions, detector, fused, self.extraction)
        return fused.value, why

    def _message(
        self,
        window: Window,
        detector: str,
        value: float,
        threshold: float,
        why: dict[str, Any],
        *,
        complete: bool = True,
    ) -> Score:
        stream = window.stream
        return Score(
            machine=stream.machine,
            sensors=(stream.sensor,),
            detector=detector,
            t_end_ns=window.t_end_ns,
            value=value,
            threshold=threshold,
            settings=self.baseline.settings,
            complete=complete,
            reasons=why,
            lineage=(window.span,),
        )
