"""Simulated drill sounds that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.drill.data import Sound, load
from pipeline.cli.drill_sounds import write_sounds

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve sounds of each class: three events, heard four times."""
    return write_sounds(3, tmp_path_factory.mktemp("drill"), per_class=12, bits=4)


@pytest.fixture(scope="session")
def sounds(folder: Path) -> list[Sound]:
    """The same, read."""
    return load(folder)
