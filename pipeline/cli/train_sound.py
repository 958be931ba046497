"""`stethos train sound`: a recorded sensor as a sound file, to be listened to and labelled."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import soundfile

from pipeline.cli.tracks import runs_of
from pipeline.errors import ConfigError
from pipeline.messages import NS

_KINDS = (".flac", ".wav")
_AT_ONCE = 1 << 20


@click.command()
@click.argument("recording", type=click.Path(path_type=Path))
@click.option("--sensor", default="", help="machine/sensor, where the recording has several of sound.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="FLAC or WAV file.")
def sound(recording: Path, sensor: str, out: Path) -> int:
    """Write a sensor of sound of RECORDING (MCAP) as a sound file that Audacity opens.

    Its seconds are those of `stethos train head --labels TRACK --audio RECORDING`: what is missing in between is
    silence. Numbers beyond full scale are brought below it.
    """
    if out.suffix.lower() not in _KINDS:
        raise ConfigError(f"--out {out}: must end in {' or '.join(_KINDS)}")
    if out.exists():
        raise ConfigError(f"--out {out}: exists already; name another file")
    stream, t0_ns, runs = runs_of(recording, sensor)
    if stream.rate.den != 1:
        raise ConfigError(f"{recording}: {stream.rate.hz:g} Hz is no whole number, which a sound file needs")
    peak = max(1.0, *(float(np.abs(np.nan_to_num(x, posinf=0.0, neginf=0.0)).max(initial=0.0)) for _, x in runs))
    written = 0
    with soundfile.SoundFile(out, "x", stream.rate.num, stream.channels, "PCM_16") as file:
        for start_ns, x in runs:
            at = round((start_ns - t0_ns) * stream.rate.num / NS)
            while written < at:
                silence = min(_AT_ONCE, at - written)
                file.write(np.zeros((silence, stream.channels), np.float32))
                written += silence
            rest = np.nan_to_num(x[written - at :] / np.float32(peak), posinf=0.0, neginf=0.0)
            file.write(rest)
            written += len(rest)
    click.echo(f"{out}: {written / stream.rate.hz:.1f} s of {stream.machine}/{stream.sensor}")
    return 0
