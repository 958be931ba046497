"""What is configured now; standing alarms of anything else are historical."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.messages import Record


@dataclass(frozen=True)
class Roster:
    """The machines, sensors and detectors of a configuration.

    Nobody clears the alarm of a machine or a detector that was taken out of the configuration, and nobody says that a
    sensor is back. What was told of it before this run is of the past; what comes during the run is not: with Kafka a
    worker may know machines that its sinks have not heard of yet.

    Attributes:
        sensors: of each machine.
        since: place in the log behind which this run's results lie.
        unasked: detectors that a machine could have, or had, and has not; with ``|sensor`` those that a sensor has not.
    """

    sensors: Mapping[str, Sequence[str]]
    since: int
    unasked: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def past(self, record: Record) -> bool:
        """Whether an alarm, health or state is of what nobody has configured, and was told before this run."""
        if record.seq > self.since:
            return False
        body = record.body
        told = {body["sensor"]} if "sensor" in body else set(body["sensors"])
        gone, detector = self.unasked.get(record.machine, ()), body.get("detector")
        if detector in gone or (detector and all(f"{detector}|{sensor}" in gone for sensor in told)):
            return True
        return told.isdisjoint(self.sensors.get(record.machine, ()))
