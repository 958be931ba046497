"""CSV files whose columns say something else than a reader might take them for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectors.files import open_recording
from pipeline.errors import BadInput
from pipeline.messages import Rate


def table(folder: Path, text: str) -> Path:
    """A file of these lines."""
    path = folder / "a.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("heading", ["vibration\n", ""])
def test_decimal_commas_are_no_columns(tmp_path: Path, heading: str) -> None:
    """Half the number would be read as the value, and nobody would notice."""
    path = table(tmp_path, heading + "0,5\n-0,25\n0,75\n")
    with pytest.raises(BadInput, match="decimal points"):
        open_recording(path, Rate(1000), range(1))
    tabs = table(tmp_path, "0.5\t1\n-0.25\t2\n")
    assert np.array_equal(open_recording(tabs, Rate(1000), range(2)).read(0, 2), np.float32([[0.5, 1], [-0.25, 2]]))


def test_of_headed_columns_the_first_ones_may_be_taken(tmp_path: Path) -> None:
    """As of a sound file with more channels than the sensor has."""
    path = table(tmp_path, "x,y\n0.5,1\n-0.25,2\n")
    assert np.array_equal(open_recording(path, Rate(1000), range(1)).read(0, 2), np.float32([[0.5], [-0.25]]))
    with pytest.raises(BadInput, match="3 columns in its heading and 2 below"):
        open_recording(table(tmp_path, "x,y,z\n0.5,1\n-0.25,2\n"), Rate(1000), range(1))
