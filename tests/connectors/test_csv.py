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
    assert np.array_equal(open_recording(tabs, Rate(1000), range(2)).read(0, 2), np.array([[0.5, 1], [-0.25, 2]]))


def test_of_headed_columns_the_first_ones_may_be_taken(tmp_path: Path) -> None:
    """As of a sound file with more channels than the sensor has."""
    path = table(tmp_path, "x,y\n0.5,1\n-0.25,2\n")
    assert np.array_equal(open_recording(path, Rate(1000), range(1)).read(0, 2), np.array([[0.5], [-0.25]]))
    with pytest.raises(BadInput, match="3 columns in its heading and 2 below"):
        open_recording(table(tmp_path, "x,y,z\n0.5,1\n-0.25,2\n"), Rate(1000), range(1))


@pytest.mark.parametrize("heading", ["Time [s],x,y,z", "t (s),x,y,z", '"Timestamp",x,y,z'])
def test_a_time_with_its_unit_is_no_axis(tmp_path: Path, heading: str) -> None:
    """As in commissioning: else a machine would be judged by time, x and y under what was learned of x, y and z."""
    rows = [f"{k / 1000:.3f},{k % 3},{k % 5},{k % 7}" for k in range(30)]
    recording = open_recording(table(tmp_path, "\n".join([heading, *rows])), Rate(1000), range(3))
    assert np.array_equal(recording.read(0, 30), np.array([[k % 3, k % 5, k % 7] for k in range(30)]))


@pytest.mark.parametrize("heading", ["Zeit,x\n", "Sample,x\n", ""])
def test_what_rises_like_a_clock_is_refused_whatever_it_is_called(tmp_path: Path, heading: str) -> None:
    """With the mend; a slow single column may do as it likes."""
    rows = "\n".join(f"{k},{k % 3}" for k in range(30))
    with pytest.raises(BadInput, match="rises steadily as a time or an index does; head it 'time_s' or remove it"):
        open_recording(table(tmp_path, heading + rows), Rate(1000), range(2))
    alone = open_recording(table(tmp_path, "\n".join(map(str, range(30)))), Rate(1))
    assert alone.channels == 1
