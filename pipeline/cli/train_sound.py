"""`stethos train sound`: a recorded sensor as a sound file, to be listened to and labelled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import soundfile

from pipeline.cli.progress import progress_bar
from pipeline.cli.tracks import runs_of
from pipeline.errors import ConfigError
from pipeline.messages import NS, Float32, Stream

_KINDS = {".flac": (1 << 36) - 1, ".wav": (1 << 31) - (1 << 12)}
"""What a file may hold: FLAC samples of each channel, WAV samples of 16 bits of all channels, its header apart."""
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
    if any(x.shape[1] != stream.channels for _, x in runs):
        raise ConfigError(f"{recording}: the number of channels changed within it, which a sound file cannot show")
    placed = [(round((start_ns - t0_ns) * stream.rate.num / NS), x) for start_ns, x in runs]
    total = max(at + len(x) for at, x in placed)
    if total * (stream.channels if out.suffix.lower() == ".wav" else 1) > _KINDS[out.suffix.lower()]:
        raise ConfigError(
            f"{recording}: reaches over {total / stream.rate.hz / 3600:.1f} h, for which {out.suffix} has no room: "
            "FLAC holds more than WAV; where a clock was set in between, it is too long for both"
        )
    _write(out, stream, placed, total)
    click.echo(f"{out}: {total / stream.rate.hz:.1f} s of {stream.machine}/{stream.sensor}")
    return 0


def _write(out: Path, stream: Stream, placed: list[tuple[int, Float32]], total: int) -> None:
    """Whole or not at all: a command that was stopped must not leave what looks like a recording."""
    peak = max(1.0, *(float(np.abs(block).max(initial=0.0)) for at, x in placed for block in _blocks(x)))
    part = out.with_name(f"{out.name}.part")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        written = 0
        with (
            progress_bar() as bar,
            soundfile.SoundFile(part, "w", stream.rate.num, stream.channels, "PCM_16", format=out.suffix[1:]) as file,
        ):
            task = bar.add_task("writing", total=total)
            for at, x in placed:
                while written < at:
                    silence = min(_AT_ONCE, at - written)
                    file.write(np.zeros((silence, stream.channels), np.float32))
                    written += silence
                    bar.update(task, completed=written)
                for block in _blocks(x[written - at :]):
                    file.write(block / np.float32(peak))
                    written += len(block)
                    bar.update(task, completed=written)
        part.replace(out)
    except soundfile.LibsndfileError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error}; try WAV in place of FLAC") from error
    finally:
        part.unlink(missing_ok=True)


def _blocks(x: Float32) -> Iterator[Float32]:
    """A run a part at a time; what is no number is silence."""
    for at in range(0, len(x), _AT_ONCE):
        yield np.nan_to_num(x[at : at + _AT_ONCE], posinf=0.0, neginf=0.0)
