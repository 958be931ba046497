"""The training loop that pretraining and distillation share: schedule, optimiser, log, checkpoints, resumption.

All chance is drawn from (seed, step), so a run that was interrupted and resumed equals one that was not, to the bit on
a CPU with the same number of threads.
"""

from __future__ import annotations

import json
import math
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.impact import checkpoint
from models.impact.images import Batches
from models.impact.network import Size
from models.impact.settings import Pretraining
from pipeline.errors import BadInput, StateError

Report = Callable[[Mapping[str, Any]], None]
_FREE = ("pool_clips", "workers", "device", "threads", "compile", "log_every", "checkpoint_every")
"""Settings that a resumed run may change."""


def learning_rate(settings: Pretraining, step: int) -> float:
    """Rate of step `step` (from 0): linear rise over the warm-up, then half a cosine down to `lr_end`."""
    top = settings.lr_per_256 * settings.batch / 256
    if step < settings.warmup:
        return top * (step + 1) / settings.warmup
    share = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.lr_end + 0.5 * (top - settings.lr_end) * (1 + math.cos(math.pi * share))


def optimiser(modules: Mapping[str, nn.Module], settings: Pretraining) -> torch.optim.AdamW:
    """AdamW without weight decay on biases and other one-dimensional parameters."""
    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if max(p.shape) < p.numel()], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if max(p.shape) == p.numel()], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr_per_256, betas=settings.betas)


def device_of(settings: Pretraining) -> torch.device:
    """Where a run computes.

    Raises:
        BadInput: the settings name a device that is not there.
    """
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput("device", f"device = '{settings.device}': no GPU is at hand; choose 'auto' or 'cpu'")
    return torch.device(auto if settings.device == "auto" else settings.device)


class Trainer(ABC):
    """A run in a folder: resumes from the newest checkpoint that it finds there.

    Args:
        settings: of the run.
        size: shape of what is trained.
        batches: images of each step.
        folder: for checkpoints, ``log.jsonl`` and ``curves.png``.
        about: what a checkpoint tells of the data.

    Raises:
        StateError: the folder holds a run with other settings, or a damaged checkpoint.
        BadInput: the settings name a device that is not there, or a mask that cannot be drawn.
    """

    def __init__(
        self, settings: Pretraining, size: Size, batches: Batches, folder: Path, about: Mapping[str, Any] | None = None
    ) -> None:
        self.settings, self.size, self.batches, self.folder = settings, size, batches, folder
        self.about = dict(about or {})
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.device = device_of(settings)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.modules = {name: module.to(self.device) for name, module in self.build().items()}
        self.learning = {name: m for name, m in self.modules.items() if name in self.trained}
        self.optimiser = optimiser(self.learning, settings)
        self.step = 0
        folder.mkdir(parents=True, exist_ok=True)
        if (found := checkpoint.newest(folder)) is not None:
            self._restore(found)
        self._forget()

    trained: tuple[str, ...] = ("student",)
    """Modules that learn by gradient."""

    @abstractmethod
    def build(self) -> dict[str, nn.Module]:
        """All modules of the run by name; created under the run's seed."""

    @abstractmethod
    def losses(self, images: Tensor, step: int) -> tuple[Tensor, Callable[[], dict[str, Any]]]:
        """Loss of a batch (B, 1, 128, 128), and its figures for the log, computed when asked for."""

    def after_step(self, step: int) -> None:  # noqa: B027 - nothing follows where there is no teacher to move
        """What follows the optimiser's step: the teacher, for one."""

    def run(
        self, report: Report | None = None, until: int | None = None, stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Train up to the last step, or to step `until`.

        Args:
            report: called with the figures of each line of the log.
            until: stop (with a checkpoint) after so many steps in all.
            stop: asked after every step whether to stop there, with a checkpoint.
        """
        s, last = self.settings, self.settings.steps if until is None else min(until, self.settings.steps)
        for module in self.learning.values():
            module.train()
        mark, done = time.monotonic(), self.step
        while self.step < last:
            log = (self.step + 1) % s.log_every == 0 or self.step + 1 == s.steps
            figures = self._one(log)
            if figures is not None:
                spent = max(1e-9, time.monotonic() - mark)
                figures["clips_per_s"] = round((self.step - done) * s.batch / spent, 2)
                mark, done = time.monotonic(), self.step
                self._log(figures, report)
            stopped = stop()
            if stopped or self.step % s.checkpoint_every == 0 or self.step == last:
                self.save()
            if stopped:
                return

    def _one(self, log: bool) -> dict[str, Any] | None:
        s, step = self.settings, self.step
        images = torch.from_numpy(self.batches.get(step, s.steps)).to(self.device)[:, None]
        rate = learning_rate(s, step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=s.precision == "bfloat16"):
            loss, figures = self.losses(images, step)
        if not bool(torch.isfinite(loss)):
            mend = "lower lr_per_256 and train in another folder (--work)"
            raise StateError(f"the loss is not finite at step {step + 1}: {mend}")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for module in self.learning.values() for p in module.parameters()]
        norm = nn.utils.clip_grad_norm_(parameters, s.clip_norm)
        self.optimiser.step()
        self.after_step(step)
        self.step += 1
        if not log:
            return None
        return {"step": self.step, "loss": float(loss.detach()), "lr": rate, "grad_norm": float(norm), **figures()}

    def _log(self, figures: dict[str, Any], report: Report | None) -> None:
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures, sort_keys=True) + "\n")
        if report:
            report(figures)

    def save(self) -> Path:
        """Write a checkpoint now."""
        tensors: dict[str, Tensor] = {}
        for name, module in self.modules.items():
            tensors |= {f"{name}.{key}": x for key, x in module.state_dict().items()}
        for name, p in self._named():
            tensors |= {f"optimiser.{key}.{name}": x for key, x in self.optimiser.state.get(p, {}).items()}
        facts = {"settings": asdict(self.settings), "size": checkpoint.size_facts(self.size), "data": self.about}
        return checkpoint.save(self.folder, self.step, tensors, facts)

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return [(f"{m}.{k}", p) for m, module in self.learning.items() for k, p in module.named_parameters()]

    def _restore(self, found: Path) -> None:
        tensors, facts = checkpoint.load(found)
        ours, theirs = json.loads(json.dumps(asdict(self.settings))), facts["settings"]
        other = [k for k in ours if k not in _FREE and ours[k] != theirs.get(k)]
        if other:
            k = other[0]
            raise StateError(
                f"{self.folder}: its run has {k} = {theirs.get(k)!r}, this one {ours[k]!r}; resume with the same "
                "settings or train in another folder"
            )
        for what, key in (
            ("recordings", "digest"),
            ("teacher", "teacher"),
            ("weights of the teacher", "teacher_digest"),
        ):
            mine = self.about.get(key)
            its = facts["data"].get(key, mine if key == "teacher_digest" else None)  # runs of before have none
            if mine != its:
                told = f" ({its}, not {mine})" if key == "teacher" else ""
                raise StateError(f"{self.folder}: its run had other {what}{told}; train in another folder")
        self._began(facts["data"].get("began_as", ""))
        for name, module in self.modules.items():
            prefix = f"{name}."
            module.load_state_dict({k.removeprefix(prefix): x for k, x in tensors.items() if k.startswith(prefix)})
        for name, p in self._named():
            state = {k: tensors[f"optimiser.{k}.{name}"] for k in ("step", "exp_avg", "exp_avg_sq")}
            self.optimiser.state[p] = {k: x if k == "step" else x.to(self.device) for k, x in state.items()}
        self.step = int(facts["step"])

    def _began(self, its: str) -> None:
        """Hold on to what the run began as, which a resumed one need not name; the run named may have gone on since."""
        mine = self.about.get("began_as", "")
        if mine and re.sub(r"step \d+", "", mine) != re.sub(r"step \d+", "", its):
            raise StateError(
                f"{self.folder}: its run began as {its or 'drawn weights'}, not as {mine}; leave out --begin to go on "
                "with it, or train in another folder"
            )
        if its:
            self.about["began_as"] = its

    def _forget(self) -> None:
        """Drop lines of the log that lie after the checkpoint: they will be written again."""
        path = self.folder / "log.jsonl"
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= self.step]
            path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def facts_for_card(folder: Path) -> dict[str, Any]:
    """What the card of a model tells of its run: data by source, settings, steps, the last line of the log.

    Args:
        folder: of the run, with at least one checkpoint.

    Raises:
        BadInput: there is none.
    """
    found = checkpoint.newest(folder)
    if found is None:
        raise BadInput("missing", f"{folder}: holds no checkpoint")
    facts = json.loads((found / "state.json").read_text(encoding="utf-8"))
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines() if (folder / "log.jsonl").is_file() else []
    steps, settings = facts["step"], facts["settings"]
    return {
        "data": facts["data"],
        "steps": steps,
        "clips_seen": steps * settings["batch"],
        "hours_seen": round(steps * settings["batch"] / 3600, 2),
        "settings": settings,
        "last": json.loads(lines[-1]) if lines else {},
    }
