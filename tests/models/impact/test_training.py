"""Runs: they learn without collapse, and an interrupted one equals an uninterrupted one to the bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from models.impact import checkpoint
from models.impact.curves import draw_curves, read_log
from models.impact.pretrain import Pretrainer
from models.impact.settings import Pretraining
from models.impact.training import facts_for_card, learning_rate, optimiser
from pipeline.errors import BadInput, StateError
from tests.models.impact.conftest import TINY, batches, settings

ROOT = Path(__file__).parents[3]


def run(folder: Path, made: Pretraining, until: int | None = None) -> Pretrainer:
    """A tiny run up to its end or a step."""
    found = Pretrainer(made, TINY, batches(made), folder)
    found.run(until=until)
    found.batches.close()
    return found


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """What the newest checkpoint holds."""
    newest = checkpoint.newest(folder)
    assert newest is not None
    return checkpoint.load(newest)[0]


@pytest.mark.parametrize("kind", ["t2", "t3"])
def test_two_hundred_steps_without_collapse(tmp_path: Path, kind: str) -> None:
    """The loss is finite and falls; no alarm stands at the end; vectors still span the space."""
    made = settings(frame_loss=kind, clips_per_epoch=200 * 8, epochs=1, batch=8, checkpoint_every=500, log_every=20)
    run(tmp_path, made)
    log = read_log(tmp_path)
    assert [line["step"] for line in log] == list(range(20, 201, 20))
    losses = [line["frame_loss"] for line in log]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.95 * losses[0]
    assert log[-1]["alarms"] == []
    assert log[-1]["effective_rank"] > 2


@pytest.mark.parametrize("over", [{}, {"frame_loss": "t3", "clones": 2}, {"masking": "dispersion_weighted"}])
def test_resumed_run_equals_uninterrupted(tmp_path: Path, over: dict[str, object]) -> None:
    """Weights, teacher, optimiser and log, bit for bit."""
    made = settings(**over)
    run(tmp_path / "whole", made)
    for until in (3, 8, None):
        run(tmp_path / "parts", made, until)
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[k], parts[k]) for k in whole)
    a, b = ([{**x, "clips_per_s": 0} for x in read_log(tmp_path / name)] for name in ("whole", "parts"))
    assert a == b


def test_a_run_that_is_asked_to_stop_loses_no_step(tmp_path: Path) -> None:
    """A checkpoint where it stopped, between two of its own; what goes on ends as one that never stopped."""
    made = settings(checkpoint_every=500)
    run(tmp_path / "whole", made)
    asked = Pretrainer(made, TINY, batches(made), tmp_path / "parts")
    asked.run(stop=lambda: asked.step == 7)
    asked.batches.close()
    assert [p.name for p in (tmp_path / "parts").glob("step-*")] == ["step-00000007"]
    run(tmp_path / "parts", made)
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_a_run_killed_before_its_first_checkpoint_logs_no_step_twice(tmp_path: Path) -> None:
    """What a run logged that left no checkpoint is written again."""
    made = settings()
    (tmp_path / "log.jsonl").write_text('{"loss": 9.0, "step": 4}\n{"loss": 9.0, "st')
    run(tmp_path, made)
    assert [line["step"] for line in read_log(tmp_path)] == [4, 8, 12]


def test_seed_decides(tmp_path: Path) -> None:
    """Another seed, other weights; the same seed, the same file."""
    names = [("a", 1), ("b", 1), ("c", 2)]
    hashes = []
    for name, seed in names:
        run(tmp_path / name, settings(seed=seed, epochs=1))
        newest = checkpoint.newest(tmp_path / name)
        assert newest is not None
        hashes.append(json.loads((newest / "state.json").read_text())["sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_kill_loses_at_most_the_last_interval(tmp_path: Path) -> None:
    """SIGKILL in the middle: the newest checkpoint is whole, and the run that goes on ends as one never killed."""
    code = (
        "import sys; from pathlib import Path; from tests.models.impact.test_training import run, settings;"
        "import torch; torch.set_num_threads(1);"
        "run(Path(sys.argv[1]), settings(checkpoint_every=1))"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "killed")], cwd=ROOT)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "killed").glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    made = settings(checkpoint_every=1)
    assert run(tmp_path / "killed", made).step == made.steps
    run(tmp_path / "whole", made)
    a, b = tensors(tmp_path / "killed"), tensors(tmp_path / "whole")
    assert all(torch.equal(a[k], b[k]) for k in b)


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    """A flipped byte, a missing file, a newer format, no checkpoint: each with its reason; two are kept."""
    run(tmp_path, settings())
    kept = sorted(path.name for path in tmp_path.glob("step-*"))
    assert kept == ["step-00000010", "step-00000012"]
    newest = tmp_path / kept[-1]
    data = bytearray((newest / "state.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "state.safetensors").write_bytes(data)
    with pytest.raises(StateError, match="damaged"):
        checkpoint.load_encoder(tmp_path)
    note = json.loads((tmp_path / kept[0] / "state.json").read_text())
    (tmp_path / kept[0] / "state.json").write_text(json.dumps(note | {"format": 99}))
    with pytest.raises(StateError, match="newer"):
        checkpoint.load(tmp_path / kept[0])
    with pytest.raises(BadInput, match="no checkpoint"):
        checkpoint.load_encoder(tmp_path / "nothing")


def test_a_full_disk_is_told_and_loses_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sentence; what was half written is gone, also that of a run which was killed, and makes room."""
    made = settings()
    folder = tmp_path / "run"
    Pretrainer(made, TINY, batches(made), folder).run(until=5)
    (folder / ".step-00000007.new").mkdir()

    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full)
        with pytest.raises(StateError, match=r"cannot be written: .*No space left .*run the same command"):
            Pretrainer(made, TINY, batches(made), folder).run(until=10)
    assert sorted(path.name for path in folder.iterdir()) == ["log.jsonl", "step-00000005"]
    again = Pretrainer(made, TINY, batches(made), folder)
    again.run(until=10)
    whole = Pretrainer(made, TINY, batches(made), tmp_path / "whole")
    whole.run(until=10)
    for name, wanted in whole.encoder.state_dict().items():
        assert (again.encoder.state_dict()[name] == wanted).all(), name


@pytest.mark.parametrize("note", ["[]", "3", '{"format": 1, "step": 5, "sha256": "SHA"}'])
def test_notes_that_are_no_checkpoints_are_refused(tmp_path: Path, note: str) -> None:
    made = settings()
    run = Pretrainer(made, TINY, batches(made), tmp_path)
    saved = run.save()
    told = json.loads((saved / "state.json").read_text())
    (saved / "state.json").write_text(note.replace("SHA", told["sha256"]))
    with pytest.raises(StateError, match=r"is damaged: .*; delete it"):
        checkpoint.load(saved)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    """A run does not go on as another one; how often it saves may change."""
    run(tmp_path, settings(), until=5)
    with pytest.raises(StateError, match="mask_ratio"):
        run(tmp_path, settings(mask_ratio=0.5))
    assert run(tmp_path, settings(checkpoint_every=100)).step == 12


def test_unfinite_loss_stops_the_run(tmp_path: Path) -> None:
    """With the step and the mend; the last checkpoint stays."""
    made = settings(checkpoint_every=1)
    found = Pretrainer(made, TINY, batches(made), tmp_path)
    found.run(until=2)
    with torch.no_grad():
        found.encoder.blocks[0].ffn[0].weight.fill_(torch.nan)  # type: ignore[index]
    with pytest.raises(StateError, match="step 3: lower lr_per_256 and train in another folder"):
        found.run()
    with pytest.raises(StateError, match="train in another folder"):
        run(tmp_path, settings(checkpoint_every=1, lr_per_256=1e-6))
    assert checkpoint.newest(tmp_path) == tmp_path / "step-00000002"


def test_learning_rate() -> None:
    """Linear warm-up to lr · batch / 256, then half a cosine down to the end value."""
    s = Pretraining(clips_per_epoch=51_200, epochs=1, batch=512, warmup_share=0.1, lr_per_256=1e-3, lr_end=1e-6)
    assert learning_rate(s, 0) == pytest.approx(2e-4)
    assert learning_rate(s, 9) == pytest.approx(2e-3)
    assert learning_rate(s, 55) == pytest.approx((2e-3 + 1e-6) / 2, rel=1e-3)
    assert learning_rate(s, 100) == pytest.approx(1e-6)


def test_no_weight_decay_on_vectors(tmp_path: Path) -> None:
    """Biases, norms and the class token are not pulled to zero."""
    made = settings()
    student = Pretrainer(made, TINY, batches(made), tmp_path).student
    decayed, free = optimiser({"student": student}, made).param_groups
    assert decayed["weight_decay"] == 0.05
    assert free["weight_decay"] == 0.0
    assert any(p is student.encoder.cls_token for p in free["params"])
    assert all(p.ndim > 1 for p in decayed["params"])


def test_log_curves_and_card(tmp_path: Path) -> None:
    """A picture, and what the card tells."""
    run(tmp_path, settings())
    picture = draw_curves(tmp_path)
    assert picture is not None
    assert picture.read_bytes()[:4] == b"\x89PNG"
    facts = facts_for_card(tmp_path)
    assert (facts["steps"], facts["clips_seen"]) == (12, 192)
    assert facts["last"]["step"] == 12
    encoder, _ = checkpoint.load_encoder(tmp_path)
    with torch.no_grad():
        assert encoder(torch.rand(1, 1, 128, 128)).shape == (1, 17, 32)
