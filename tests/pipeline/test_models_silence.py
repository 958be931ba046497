"""Digital silence is shown to no model: its image is noise at full level, or all ones."""

from __future__ import annotations

import numpy as np

from pipeline.messages import NS
from pipeline.stages import LaneSettings
from tests.engines.hostile import run_straight
from tests.engines.scenarios import T0, chunks, end, learned_models, machine, normal_noise, stream


def test_a_muted_microphone_is_in_no_state_and_raises_no_alarm() -> None:
    """Neither an embedding nor a score of it, while sensor health says that it is flat."""
    mic, models = stream("mic", "acoustic", 32_000), learned_models()
    settings = LaneSettings(machine(mic, model=models.config.model_dump(by_alias=True)), models=models)
    x = np.concatenate([normal_noise(mic, 4.0, 7), np.zeros((8 * 32_000, 1), "<i2")])
    records = run_straight(settings, {"mic": [*chunks(mic, x), end(mic, len(x))]})
    told = [r for r in records if r.topic in {"embedding", "machine_state", "score", "alarm"}]
    assert any(r.topic == "embedding" for r in told)
    assert not [r for r in told if r.t_ns > T0 + round(5.5 * NS) and r.topic != "alarm"]
    assert not [r for r in told if r.topic == "alarm" and r.body["transition"] == "raised"]
    assert any(r.topic == "health" and r.body["state"] == "failure" for r in records)
