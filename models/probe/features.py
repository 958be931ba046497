"""Features of clips by every extractor at once: images are made, used and forgotten, so that memory stays small."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from models.impact.pooling import POOLINGS, pool, time_mean
from models.packages import Package
from models.probe.clips import Facts
from models.probe.seconds import LENGTH, Second
from models.probe.vibration import Shake
from operators.mel import PAPER
from pipeline.errors import BadInput, MissingExtra
from pipeline.messages import Float32

_BATCH = 32


class Extractor(Protocol):
    """What turns clips into feature vectors."""

    @property
    def name(self) -> str:
        """For tables and files."""

    @property
    def digest(self) -> str:
        """Changes with everything that a vector depends on."""

    def vectors(self, clips: Sequence[Any]) -> dict[str, Float32]:
        """Pooling → features (n, k) of seconds of sound, or of vibration; an empty pooling where there is one only."""


@dataclass(frozen=True, slots=True)
class LogMelMean:
    """The simple baseline: mean over time of the log-Mel with its 128 bands kept."""

    name: str = "logmel"
    digest: str = f"logmel {PAPER.hash}"

    def vectors(self, clips: Sequence[Second]) -> dict[str, Float32]:
        """Features (n, 128)."""
        return {"": time_mean(np.stack([c.image for c in clips]))}


class Encoder:
    """A model package: tokens pooled in each way that it has.

    Args:
        name: for tables.
        package: of kind ``encoder``.

    Raises:
        BadInput: the package is no encoder of the front end `PAPER`.
    """

    def __init__(self, name: str, package: Package) -> None:
        if package.card.kind != "encoder":
            raise BadInput("package", f"{name}: is a {package.card.kind}, not an encoder")
        self.name, self.digest = name, package.digest
        self.card = package.card
        self.card.takes(PAPER)
        if self.card.grid is None:
            raise BadInput("package", f"{name}: its card tells no grid of tokens")
        self._session = package.session()

    @property
    def poolings(self) -> tuple[str, ...]:
        """Those that it has: one without a class token has no ``cls``."""
        return POOLINGS if self.card.cls else POOLINGS[1:]

    def vectors(self, clips: Sequence[Second]) -> dict[str, Float32]:
        """Features by pooling."""
        images = np.stack([c.image for c in clips])
        return self.pooled(images, self._session.first(images[:, None]))

    def pooled(self, images: Float32, tokens: Float32) -> dict[str, Float32]:
        """All poolings of tokens (n, T, d) of images (n, 128, 128)."""
        grid, cls = self.card.grid, self.card.cls
        assert grid is not None
        return {how: pool(tokens, how, grid, cls, images) for how in self.poolings}


class OpenSmile:
    """ComParE 2016 functionals of openSMILE, for comparison only.

    Raises:
        MissingExtra: `opensmile` is not installed; its licence allows research, so that it is no dependency.
    """

    name = "opensmile"

    def __init__(self) -> None:
        if not has_opensmile():
            how = "no part of stethos: .venv/bin/uv pip install --python .venv/bin/python opensmile"
            raise MissingExtra("opensmile", "this baseline", how)
        opensmile: Any = importlib.import_module("opensmile")
        self._smile = opensmile.Smile(opensmile.FeatureSet.ComParE_2016, opensmile.FeatureLevel.Functionals)
        self.digest = f"opensmile {opensmile.__version__} ComParE_2016"

    def vectors(self, clips: Sequence[Second]) -> dict[str, Float32]:
        """Features (n, 6373)."""
        rows = [self._smile.process_signal(c.samples, LENGTH).to_numpy()[0] for c in clips]
        return {"": np.nan_to_num(np.stack(rows).astype(np.float32))}


def has_opensmile() -> bool:
    """Whether the optional baseline can be computed."""
    return importlib.util.find_spec("opensmile") is not None


def extract(
    clips: Iterable[tuple[Facts, Second | Shake]], extractors: Sequence[Extractor]
) -> tuple[list[Facts], dict[str, dict[str, Float32]]]:
    """Features of all clips: the facts, and extractor → pooling → features (n, k)."""
    facts: list[Facts] = []
    parts: dict[str, dict[str, list[Float32]]] = {e.name: {} for e in extractors}
    left = iter(clips)
    while batch := list(islice(left, _BATCH)):
        facts += [fact for fact, _ in batch]
        images = [second for _, second in batch]
        for extractor in extractors:
            for how, x in extractor.vectors(images).items():
                parts[extractor.name].setdefault(how, []).append(x)
    return facts, {name: {how: np.concatenate(x) for how, x in found.items()} for name, found in parts.items()}


def digest_of(facts: Sequence[Facts], *more: str) -> str:
    """Hash over the clips and whatever else a result depends on."""
    text = "\n".join([*more, *(repr(fact) for fact in facts)])
    return hashlib.sha256(text.encode()).hexdigest()
