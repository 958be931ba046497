"""Configuration of `stethos train impact`: TOML, unknown keys refused, every key optional."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from config.closed import Closed
from pipeline.errors import ConfigError

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class MixingConfig(Closed):
    """How clips are varied."""

    mix_share: Share = Field(0.3, description="share of clips that another sensor's clip is added to")
    mix_db: tuple[float, float] = Field((-20.0, 0.0), description="its level, lowest and highest")
    noise_share: Share = Field(0.3, description="share of clips that coloured noise is added to")
    noise_db: tuple[float, float] = Field((-40.0, -10.0), description="its level, lowest and highest")
    tilt_db: float = Field(12.0, ge=0, le=60, description="largest random spectral slope over all bands")
    remix_share: Share = Field(0.3, description="share of pooled images that another one is added to at each step")

    @model_validator(mode="after")
    def _in_order(self) -> MixingConfig:
        if self.mix_db[0] > self.mix_db[1] or self.noise_db[0] > self.noise_db[1]:
            raise ValueError("levels are given as lowest, highest")
        return self


class PretrainConfig(Closed):
    """One run of pretraining or distillation."""

    size: Literal["base", "small", "edge"] = "base"
    seed: int = Field(0, ge=0)
    data_seed: int | None = Field(None, ge=0, description="of the crops, to share a pool; default: seed")
    clips_per_epoch: int = Field(436_836, ge=1, description="one-second clips; the paper's epoch has 436,836")
    epochs: int = Field(10, ge=1)
    batch: int = Field(256, ge=2, le=65_536)
    clones: int = Field(1, ge=1, le=64, description="masked versions of a clip that share stem and teacher")
    masking: Literal["inverse_block", "eat_block", "random", "dispersion_weighted"] = "inverse_block"
    mask_ratio: float = Field(0.7, gt=0, lt=1)
    block: int = Field(2, ge=1, le=8)
    frame_loss: Literal["t1", "t2", "t3"] = "t2"
    utterance: Literal["layers", "instance", "cls"] = "layers"
    utterance_weight: float = Field(0.1, ge=0)
    huber_delta: float = Field(1.0, gt=0)
    ema_every: Literal["step", "epoch"] = "step"
    ema_start: Decay = 0.999
    ema_end: Decay = 0.9999
    ema_epoch: Decay = 0.6
    lr_per_256: float = Field(5e-4, gt=0, description="learning rate for a batch of 256, proportional to the batch")
    lr_end: float = Field(1e-6, ge=0)
    warmup_share: Share = 0.05
    betas: tuple[Decay, Decay] = (0.9, 0.95)
    weight_decay: float = Field(0.05, ge=0)
    clip_norm: float = Field(3.0, gt=0)
    mixing: MixingConfig = MixingConfig()
    pool_clips: int = Field(0, ge=0, description="clips whose images are computed once and kept; 0 keeps none")
    workers: int = Field(1, ge=1, le=64, description="threads that prepare the next batches")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = Field(
        False, description="torch compiles the student; for GPUs: on a CPU minutes go by before the first step"
    )
    threads: int | None = Field(None, ge=1, le=256, description="of torch on the CPU; default: torch's choice")
    log_every: int = Field(100, ge=1, description="steps between two lines of the log")
    checkpoint_every: int = Field(500, ge=1, description="steps between two checkpoints")


def load_pretrain(path: Path | None, **over: Any) -> PretrainConfig:
    """The configuration of a file (defaults without one), with the named keys replaced where they are not None.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown or has no sense; names it.
    """
    raw: dict[str, Any] = {}
    if path is not None:
        try:
            raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {error}") from None
        except (ValueError, RecursionError) as error:  # as in `config._parsed`
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
    raw |= {key: value for key, value in over.items() if value is not None}
    try:
        return PretrainConfig.model_validate(raw)
    except ValidationError as error:
        where = path or "options"
        raise ConfigError("\n".join(_line(where, item) for item in error.errors())) from None


def _line(where: Path | str, item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "the whole"
    if item["type"] == "extra_forbidden":
        known = MixingConfig if len(item["loc"]) > 1 else PretrainConfig
        return f"{where}: {key}: unknown key; known are {', '.join(known.model_fields)}"
    return f"{where}: {key}: {item['msg']} (got {item.get('input')!r})"[:400]
