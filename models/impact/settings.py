"""Settings of a pretraining run; defaults after arXiv 2507.06481, 2401.03497 and 2212.07525."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Masking: TypeAlias = Literal["inverse_block", "eat_block", "random", "dispersion_weighted"]
FrameLoss: TypeAlias = Literal["t1", "t2", "t3"]
Utterance: TypeAlias = Literal["layers", "instance", "cls"]
EmaEvery: TypeAlias = Literal["step", "epoch"]
Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Mixing:
    """How clips are varied.

    Attributes:
        mix_share: share of clips that another sensor's clip is added to.
        mix_db: level of the added clip relative to the first, lowest and highest.
        noise_share: share of clips that coloured noise is added to.
        noise_db: level of the noise relative to the clip, lowest and highest.
        tilt_db: largest slope of the random spectral tilt, in dB from the lowest to the highest band.
        remix_share: share of cached images that another cached image is added to, in power, at each step.
    """

    mix_share: float = 0.3
    mix_db: tuple[float, float] = (-20.0, 0.0)
    noise_share: float = 0.3
    noise_db: tuple[float, float] = (-40.0, -10.0)
    tilt_db: float = 12.0
    remix_share: float = 0.3


@dataclass(frozen=True, slots=True)
class Pretraining:
    """One run.

    Attributes:
        size: name in `network.SIZES`.
        seed: of weights, masks and mixtures, and of crops unless `data_seed` is given.
        data_seed: of crops, so that several runs may share a pool.
        clips_per_epoch: one-second clips of an epoch.
        epochs: passes.
        batch: clips of a step.
        clones: masked versions of each clip that share one pass of stem and teacher.
        masking: how visible tokens are drawn.
        mask_ratio: share of tokens hidden from the student; 0.7 leaves int(16 · 0.3) = 4 of 16.
        block: side of a visible block in tokens.
        frame_loss: ``"t1"`` student's against teacher's decoded image, ``"t2"`` against the input, ``"t3"`` masked
            tokens' features.
        utterance: what the class token is pulled to; see `losses.utterance_target`.
        utterance_weight: its weight λ.
        huber_delta: of the frame loss.
        ema_every: after each step, or once an epoch.
        ema_start: decay at the first step.
        ema_end: decay at the last step; linear in between.
        ema_epoch: decay with ``ema_every = "epoch"``.
        lr_per_256: learning rate for a batch of 256; proportional to the batch.
        lr_end: where the cosine ends.
        warmup_share: share of the steps over which the rate rises.
        betas: of AdamW.
        weight_decay: of matrices; vectors and biases have none.
        clip_norm: largest norm of the gradient.
        mixing: variations.
        pool_clips: clips of which images are computed once and kept; 0 computes every image when it is needed.
        workers: threads that prepare the next batches.
        device: ``"auto"`` takes a GPU where there is one.
        precision: of the forward pass on a GPU.
        compile: whether torch compiles the student of a pretraining; for GPUs, on a CPU it takes minutes before the
            first step. Distillation does not compile.
        threads: of torch on the CPU; None leaves torch's choice.
        log_every: steps between two lines of the log, with monitors.
        checkpoint_every: steps between two checkpoints.
    """

    size: str = "base"
    seed: int = 0
    data_seed: int | None = None
    clips_per_epoch: int = 436_836
    epochs: int = 10
    batch: int = 256
    clones: int = 1
    masking: Masking = "inverse_block"
    mask_ratio: float = 0.7
    block: int = 2
    frame_loss: FrameLoss = "t2"
    utterance: Utterance = "layers"
    utterance_weight: float = 0.1
    huber_delta: float = 1.0
    ema_every: EmaEvery = "step"
    ema_start: float = 0.999
    ema_end: float = 0.9999
    ema_epoch: float = 0.6
    lr_per_256: float = 5e-4
    lr_end: float = 1e-6
    warmup_share: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 3.0
    mixing: Mixing = Mixing()
    pool_clips: int = 0
    workers: int = 1
    device: str = "auto"
    precision: Precision = "float32"
    compile: bool = False
    threads: int | None = None
    log_every: int = 100
    checkpoint_every: int = 500

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of an epoch: 1,706 at the paper's scale."""
        return max(1, self.clips_per_epoch // self.batch)

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.epochs * self.steps_per_epoch

    @property
    def warmup(self) -> int:
        """Steps over which the learning rate rises."""
        return round(self.warmup_share * self.steps)
