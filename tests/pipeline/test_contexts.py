"""A context that falls silent is given up by decision, and taken back, also across a restart."""

from __future__ import annotations

from pathlib import Path

from pipeline.clock import ManualClock
from pipeline.messages import NS, Chunk, Context
from pipeline.shard import Shard
from pipeline.state import Store
from tests.engines.scenarios import T0, chunks, normal_noise, operating_states, stream


def test_given_up_after_ten_seconds_and_taken_back_after_a_restart(tmp_path: Path) -> None:
    """Windows that waited are judged as unknown; later ones know the state again."""
    settings = operating_states().settings
    acc = stream("acc", "vibration", 2000)
    data = [m for m in chunks(acc, normal_noise(acc, 60.0, 3)) if isinstance(m, Chunk)]
    clock, path = ManualClock(T0), tmp_path / "s.sqlite"
    shard = Shard("a", [settings], Store(path), clock)

    def play(shard: Shard, first_s: int, last_s: int, told: bool) -> None:
        for second in range(first_s, last_s):
            if told:
                shard.take(Context("m", "state", T0 + second * NS, "cut"))
            for chunk in data[second * 10 : second * 10 + 10]:
                shard.take(chunk)
            clock.sleep(1.0)
            shard.tick()

    play(shard, 0, 5, told=True)
    play(shard, 5, 30, told=False)
    assert [d.kind for d in Store(path).decisions()] == ["abandon"]
    states = {b.body["reasons"].get("state") for b in Store(path).read(0, ("score",), 10_000)}
    assert states == {"cut", "unknown"}
    shard.close()
    again = Shard("a", [settings], Store(path), clock)
    play(again, 30, 45, told=True)
    assert [d.kind for d in Store(path).decisions()] == ["abandon", "return"]
    newest = Store(path).latest("score", 1)[0]
    assert newest.body["reasons"]["state"] == "cut"
