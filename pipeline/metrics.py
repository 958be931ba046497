"""The engine's integer counters under Prometheus' names, with bounded labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Labels = tuple[tuple[str, str], ...]
Families = dict[str, dict[Labels, int | float]]


def families(shards: Mapping[str, Mapping[str, Any]], sinks: Mapping[str, Mapping[str, int]]) -> Families:
    """All counters by metric name and labels.

    Args:
        shards: what each shard (and the intake) published, as `Shard.metrics` gives it.
        sinks: deliveries' counters by sink.
    """
    made: Families = {}

    def put(name: str, value: float, **labels: str) -> None:
        key = tuple(sorted(labels.items()))
        family = made.setdefault(name, {})
        family[key] = family.get(key, 0) + value

    for shard, body in shards.items():
        for name, value in body.get("counts", {}).items():
            kind, _, reason = name.partition(".")
            put("engine_events_total", value, shard=shard, kind=kind, reason=reason)
        if "waiting_bytes" in body:
            put("queue_bytes", body["waiting_bytes"], queue=shard)
        for machine, lane in body.get("machines", {}).items():
            _lane(put, machine, lane)
    for sink, counts in sinks.items():
        put("sink_records_total", counts.get("delivered", 0), sink=sink)
        put("sink_dropped_total", counts.get("rejected", 0) + counts.get("lost", 0), sink=sink)
        if "lag" in counts:
            put("sink_lag_records", counts["lag"], sink=sink)
        put("sink_retries_total", counts.get("busy", 0) + counts.get("failed", 0), sink=sink)
    return made


def _lane(put: Any, machine: str, lane: Mapping[str, Any]) -> None:
    for name, value in lane["counts"].items():
        kind, _, what = name.partition(".")
        if kind == "in":
            put("messages_total", value, machine=machine, modality=what)
        elif kind == "stage":
            put("stage_messages_total", value, machine=machine, stage=what)
        elif kind == "late":
            put("late_messages_total", value, machine=machine, reason=what)
        elif kind == "dead":
            put("refused_messages_total", value, machine=machine, reason=what)
        elif kind == "again":
            put("reread_messages_total", value, machine=machine)
    for stage, ns in lane["spent_ns"].items():
        put("stage_ns_total", ns, machine=machine, stage=stage)
