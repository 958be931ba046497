"""A sensor whose connector is gone: marks by the worker, a failure in its health, nothing of it in old recordings."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from pipeline.codec import decode
from pipeline.messages import NS, Anchor, Chunk, Input, Mark
from tests.engines.scenarios import chunks, normal_noise, stream
from tests.kafka.plant import PATIENCE_S, Plant, Running
from tests.kafka.test_publisher import records
from tests.servers.kafka import KafkaServer

MACHINE = """[[machine]]
name = "{name}"
[[machine.sensor]]
name = "{sensor}"
modality = "{modality}"
rate_hz = {rate}
unit = "{unit}"
{source}"""

LIVE = 'source = {type = "microphone", device = "none"}'


def toml() -> str:
    """Machines that lose their only sensor, never hear of theirs, and play an old recording."""
    mic = {"sensor": "mic", "modality": "acoustic", "rate": 16000, "unit": "FS"}
    acc = {"sensor": "acc", "modality": "vibration", "rate": 2000, "unit": "m/s2"}
    return "schema_version = 1\n" + "\n".join(
        (
            MACHINE.format(name="dies", source=LIVE, **mic),
            MACHINE.format(name="never", source=LIVE, **mic),
            MACHINE.format(name="nobody", source="", **acc),
            MACHINE.format(name="old", source="", **acc),
        )
    )


def of(name: str, messages: list[Input], t0_ns: int) -> list[Input]:
    """The messages as a machine's, begun at a time."""
    made: list[Input] = []
    for message in messages:
        assert isinstance(message, Chunk)
        made.append(replace(message, stream=replace(message.stream, machine=name), anchor=Anchor(0, t0_ns)))
    return made


def test_sensors_without_a_connector_are_given_up(broker: KafkaServer, prefix: str, tmp_path: Path) -> None:
    """Live and gone, configured and never heard of: failures. Long past, or nobody's: none. A takeover goes on."""
    mic, acc = stream("mic", "acoustic", 16000), stream("acc", "vibration", 2000)
    with Running(Plant(toml(), {}, ()), broker, tmp_path, prefix) as running:
        running.start("w0")
        running.wait_ready("w0")
        now = time.time_ns()
        live = of("dies", chunks(mic, normal_noise(mic, 3.0, 1)), now - 3 * NS)
        old = of("old", chunks(acc, normal_noise(acc, 3.0, 2)), now - 86_400 * NS)
        running.publish_all(live + old)
        health = wait_for_failures(running, {"dies", "never"})
        assert health == {"dies": ["normal", "failure"], "never": ["failure"], "old": ["normal"]}
        marks = given_up(running, broker)
        assert {m.stream.machine for m in marks} == {"dies", "never"}
        first = next(m for m in marks if m.stream.machine == "dies")
        assert first.n0 == live[-1].n1 and first.stream.epoch == 0
        assert first.t0_ns == live[-1].t1_ns
        running.kill("w0")
        before = len(marks)
        running.start("w1")
        running.wait_ready("w1")
        until = time.monotonic() + PATIENCE_S
        while len(marks := given_up(running, broker)) < before + 4:
            assert time.monotonic() < until, running.log()
            time.sleep(0.5)
        for machine in ("dies", "never"):  # marks follow each other without a gap, whoever wrote them
            mine = [m for m in marks if m.stream.machine == machine]
            joined = {m.stream.epoch: [x for x in mine if x.stream.epoch == m.stream.epoch] for m in mine}
            assert all(a.n1 >= b.n0 for run in joined.values() for a, b in pairwise(run))
        alive = of("dies", chunks(replace(mic, epoch=1), normal_noise(mic, 3.0, 3)), time.time_ns() - 2 * NS)
        running.publish_all(alive)
        until = time.monotonic() + PATIENCE_S
        while states(running)["dies"][-1] != "normal":
            assert time.monotonic() < until, running.log()
        assert states(running)["dies"] == ["normal", "failure", "normal"]


def states(running: Running) -> dict[str, list[str]]:
    """By machine, the states that its sensors' health went through."""
    found: dict[str, list[str]] = {}
    for record in sorted(running.results(), key=lambda r: r.t_ns):
        if record.topic == "health":
            found.setdefault(record.machine, []).append(record.body["state"])
    return found


def wait_for_failures(running: Running, machines: set[str]) -> dict[str, list[str]]:
    """Until these machines' sensors have failed."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found = states(running)
        if {name for name, said in found.items() if said[-1] == "failure"} == machines:
            return found
        assert time.monotonic() < until, (found, running.log())
        time.sleep(0.5)


def given_up(running: Running, broker: KafkaServer) -> list[Mark]:
    """The marks that stand in the logs because nobody published."""
    found = []
    for topic in ("raw.acoustic", "raw.vibration"):
        for number in range(running.partitions):
            for record in records(broker, running.client.topic(topic), number):
                message = decode(record.headers, record.value)
                if isinstance(message, Mark) and message.reason == "abandoned":
                    found.append(message)
    return found
