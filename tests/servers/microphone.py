"""A microphone without hardware: ALSA's file plug-in reads samples that the test wrote."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

# PortAudio insists on a device called default beside the others.
_CONFIGURATION = """\
pcm.default {{ type null }}
pcm.{name} {{
    type file
    slave.pcm {{ type null }}
    file /dev/null
    infile {samples}
    format raw
}}
"""


class FakeMicrophone:
    """An ALSA capture device that delivers the given samples.

    The device exists for processes that are started with `env`; the configuration is read when PortAudio starts. It has
    no clock: it delivers as fast as it is read, and after the last sample it repeats old ones without end.

    Args:
        samples: What it hears, one row a sample, one column a channel; a single channel may have one dimension.
            The reader must ask for the same type and number of channels.
        name: The device's name.
    """

    def __init__(
        self, samples: NDArray[np.int16] | NDArray[np.int32] | NDArray[np.float32], *, name: str = "fakemic"
    ) -> None:
        self.samples = samples
        self.name = name

    @property
    def env(self) -> dict[str, str]:
        """The environment of this process with the device added."""
        own = {"ALSA_CONFIG_PATH": str(self.folder / "asound.conf"), "JACK_NO_START_SERVER": "1"}
        return {**os.environ, **own}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="stethos-microphone-"))
        raw = self.folder / "samples.raw"
        self.samples.tofile(raw)
        (self.folder / "asound.conf").write_text(_CONFIGURATION.format(name=self.name, samples=raw))
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
