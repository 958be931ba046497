"""The moving average, to the letter."""

from __future__ import annotations

import pytest
import torch

from models.impact.network import Encoder
from models.impact.settings import Pretraining
from models.impact.teacher import decay_after, follow, teacher_of
from tests.models.impact.conftest import TINY, settings


def test_follow_is_exact() -> None:
    """θt ← m θt + (1 − m) θs for every parameter; running statistics are copied; no gradient."""
    student = Encoder(TINY)
    teacher = teacher_of(student)
    with torch.no_grad():
        for p in student.parameters():
            p.add_(torch.randn_like(p))
    student.train()
    student(torch.rand(4, 1, 128, 128))
    before = [p.clone() for p in teacher.parameters()]
    follow(teacher, student, 0.9)
    for old, new, own in zip(before, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(new, (0.9 * old.double() + 0.1 * own.double()).float(), rtol=1e-6, atol=1e-7)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not teacher.training
    mean = "stem.norm.running_mean"
    assert torch.equal(teacher.get_buffer(mean), student.get_buffer(mean))


def test_decay_per_step_is_linear() -> None:
    """From the first value at step 0 to the last at the last step."""
    s = Pretraining(clips_per_epoch=256 * 10, epochs=10, ema_start=0.999, ema_end=0.9999)
    assert s.steps == 100
    assert decay_after(s, 0) == pytest.approx(0.999)
    assert decay_after(s, 99) == pytest.approx(0.9999)
    assert decay_after(s, 33) == pytest.approx(0.999 + 33 / 99 * 0.0009)


def test_decay_per_epoch_acts_at_its_end_alone() -> None:
    """Ten epochs of 0.8 leave 0.8¹⁰ = 0.107 of the first teacher."""
    s = settings(ema_every="epoch", ema_epoch=0.8, clips_per_epoch=64, epochs=10)
    decays = [decay_after(s, i) for i in range(s.steps)]
    assert [i for i, d in enumerate(decays) if d is not None] == list(range(3, 40, 4))
    left = 1.0
    for d in decays:
        left *= 1.0 if d is None else d
    assert left == pytest.approx(0.8**10)


def test_paper_scale() -> None:
    """1,706 steps an epoch, 17,060 in all, 853 of warm-up."""
    s = Pretraining()
    assert (s.steps_per_epoch, s.steps, s.warmup) == (1706, 17_060, 853)
