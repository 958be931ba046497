"""Which message of a stateful operator's input comes behind which, when devices restart and their clocks step back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.messages import Span


class Order:
    """The newest message taken in: its event time, and the epoch of each sensor that it came from.

    A later stream of a sensor comes behind an earlier one even where its times lie before: the device began anew with
    a clock that had been ahead. Within a stream, event time decides; so it does for marks of a sensor that was given
    up, whose epoch -1 is none.
    """

    __slots__ = ("_epochs", "_t_ns")

    def __init__(self) -> None:
        self._t_ns: int | None = None
        self._epochs: dict[str, int] = {}

    @property
    def t_ns(self) -> int | None:
        """Event time of the newest message."""
        return self._t_ns

    def behind(self, t_ns: int, lineage: Iterable[Span]) -> bool:
        """Whether a message comes behind the newest one."""
        if self._t_ns is None:
            return True
        known = self._epochs
        turns = {
            (span.epoch > known[span.sensor]) - (span.epoch < known[span.sensor])
            for span in lineage
            if span.sensor in known and span.epoch >= 0
        }
        return False if -1 in turns else 1 in turns or t_ns > self._t_ns

    def restarts(self, t_ns: int) -> bool:
        """Whether a message that comes behind the newest one has an earlier time: what was timed begins anew."""
        return self._t_ns is not None and t_ns <= self._t_ns

    def take(self, t_ns: int, lineage: Iterable[Span]) -> None:
        """It is the newest now."""
        self._t_ns = t_ns
        self._epochs.update((span.sensor, span.epoch) for span in lineage if span.epoch >= 0)

    @property
    def epochs(self) -> dict[str, int]:
        """By sensor, the stream that the newest message came from."""
        return dict(self._epochs)

    def restore(self, t_ns: int | None, epochs: Mapping[str, int]) -> None:
        """Go on from a snapshot; earlier versions kept no epochs."""
        self._t_ns, self._epochs = t_ns, {name: int(epoch) for name, epoch in epochs.items()}
