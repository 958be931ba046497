"""Targets and losses against their formulas in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.impact.losses import frame_loss, image_target, token_targets, utterance_loss, utterance_target
from models.impact.monitors import effective_rank, monitor
from models.impact.pretrain import Pretrainer
from models.impact.student import Student
from models.impact.teacher import teacher_of
from tests.models.impact.conftest import TINY, batches, settings


def layers(n: int = 3, shape: tuple[int, int, int] = (4, 17, 8)) -> list[torch.Tensor]:
    """Outputs of a few blocks."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) * (i + 1) + i for i in range(n)]


def norm(x: np.ndarray, axis: int) -> np.ndarray:
    """Zero mean, unit variance along an axis."""
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)


def test_token_targets() -> None:
    """Instance norm over tokens per layer, mean of layers, LayerNorm over channels."""
    found = layers()
    wanted = norm(np.mean([norm(x.numpy(), 1) for x in found], 0), 2)
    np.testing.assert_allclose(token_targets(found).numpy(), wanted, atol=1e-5)


def test_utterance_targets() -> None:
    """All three ways; the class token is no token of the average."""
    found = layers()
    patches = [x.numpy()[:, 1:] for x in found]
    mean = np.mean([norm(x, 2) for x in patches], (0, 2))
    np.testing.assert_allclose(utterance_target(found, "layers").numpy(), norm(mean, 1), atol=1e-5)
    instance = norm(np.mean([norm(x, 1) for x in patches], 0), 2).mean(1)
    np.testing.assert_allclose(utterance_target(found, "instance").numpy(), instance, atol=1e-5)
    plain = np.mean([x.numpy()[:, 0] for x in found], 0)
    np.testing.assert_allclose(utterance_target(found, "cls").numpy(), plain, atol=1e-5)
    with pytest.raises(ValueError, match="class token"):
        utterance_target(found, "cls", cls=False)


def test_instance_normed_mean_says_little() -> None:
    """The mean over tokens of what was centred over tokens: why `layers` is the default."""
    found = layers()
    assert float(utterance_target(found, "instance").std(0).mean()) < 0.1
    assert float(utterance_target(found, "layers").std(0).mean()) > 0.5


def test_image_target_is_the_mean_of_squares_standardised() -> None:
    """2 × 2 means, then zero mean and unit standard deviation per clip; any gain and offset of the input vanish."""
    x = torch.rand(2, 1, 128, 128)
    y = x.numpy().reshape(2, 1, 64, 2, 64, 2).mean((3, 5))
    wanted = (y - y.mean((1, 2, 3), keepdims=True)) / y.std((1, 2, 3), ddof=1, keepdims=True)
    np.testing.assert_allclose(image_target(x).numpy(), wanted, atol=1e-4)
    np.testing.assert_allclose(image_target(3 * x + 2).numpy(), wanted, atol=1e-4)


def test_frame_loss_is_huber() -> None:
    """Quadratic inside delta, linear outside: e²/2 and δ(|e| − δ/2)."""
    found = frame_loss(torch.tensor([0.5, 3.0]), torch.zeros(2), delta=1.0)
    assert float(found) == pytest.approx((0.5 * 0.25 + 2.5) / 2)
    assert float(utterance_loss(torch.tensor([1.0, 3.0]), torch.zeros(2))) == pytest.approx(5.0)


@pytest.mark.parametrize("kind", ["t1", "t2", "t3"])
@pytest.mark.parametrize("clones", [1, 3])
def test_total_is_frame_plus_tenth_of_utterance(kind: str, clones: int) -> None:
    """L = L_frame + 0.1 · L_utterance; gradients reach the student alone."""
    made = settings(frame_loss=kind, clones=clones)
    student = Student(TINY, made)
    teacher = teacher_of(student)
    keep = torch.tensor([0, 1, 4, 5]).expand(5, clones, 4).contiguous()
    noise = torch.randn(5 * clones, 16, 32) if kind == "t3" else None
    found = student(teacher, torch.rand(5, 1, 128, 128), keep, noise)
    total, frame, utterance = (float(x.detach()) for x in found[:3])
    assert total == pytest.approx(frame + 0.1 * utterance)
    assert found.prediction.shape == found.target.shape == (5 * clones, 32)
    found.total.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in student.encoder.parameters())


def test_t3_judges_masked_tokens_alone() -> None:
    """What the predictor says about visible tokens does not matter."""
    made = settings(frame_loss="t3")
    student = Student(TINY, made)
    keep = torch.tensor([[[0, 1, 4, 5]]])
    seen: list[torch.Tensor] = []
    student.head.register_forward_hook(lambda _m, _i, out: seen.append(out))
    student(teacher_of(student), torch.rand(1, 1, 128, 128), keep, torch.zeros(1, 16, 32)).frame.backward()
    out = seen[0]
    (grad,) = torch.autograd.grad(frame_loss(out[:, [2, 3]], torch.zeros(1, 2, 32)), out, retain_graph=False)
    assert (grad[:, [0, 1, 4, 5]] == 0).all()
    assert (grad[:, [2, 3]] != 0).any()


def test_effective_rank() -> None:
    """d for white data, 1 for a constant or a line."""
    generator = torch.Generator().manual_seed(1)
    white = torch.randn(4000, 8, generator=generator)
    assert effective_rank(white) == pytest.approx(8, abs=0.05)
    assert effective_rank(torch.ones(50, 8)) == 1.0
    assert effective_rank(torch.arange(50.0)[:, None] * torch.ones(1, 8)) == pytest.approx(1.0, abs=1e-3)


def test_monitors_raise_alarm_on_collapse() -> None:
    """A constant prediction or target is told; varied ones are not; not-a-number counts as collapse."""
    generator = torch.Generator().manual_seed(1)
    x, same = torch.randn(64, 8, generator=generator), torch.ones(64, 8)
    assert monitor(x, x).alarms == []
    assert monitor(x, x).cosine == pytest.approx(1.0)
    assert [a.split()[0] for a in monitor(same, same).alarms] == ["target_std", "prediction_std"]
    assert monitor(x, torch.full_like(x, torch.nan)).target_std != monitor(x, x).target_std
    assert monitor(x, torch.full_like(x, torch.nan)).alarms


def test_edge_is_not_pretrained() -> None:
    """Without class token there is nothing to pull."""
    from tests.models.impact.conftest import TINY_EDGE

    with pytest.raises(ValueError, match="distilled"):
        Student(TINY_EDGE, settings())


def test_masks_of_a_step_are_those_of_its_seed(tmp_path: Path) -> None:
    """The same step of the same run gives the same loss, another step another."""
    made = settings()
    run = Pretrainer(made, TINY, batches(made), tmp_path)
    images = torch.from_numpy(run.batches.make(0))[:4, None]
    run.student.eval()
    a, b, c = (float(run.losses(images, step)[0].detach()) for step in (0, 0, 1))
    assert a == b != c
