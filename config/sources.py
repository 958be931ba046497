"""Where a sensor's samples come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from config.closed import Closed


class Excerpt(Closed):
    """A part of a recording."""

    path: Path
    start_s: float = Field(0.0, ge=0)
    end_s: float | None = Field(None, gt=0)


class PlaybackSource(Closed):
    """Recordings that are played as if they were a sensor."""

    type: Literal["playback"]
    files: tuple[Path | Excerpt, ...] = Field(min_length=1, description="WAV, FLAC, NPZ, CSV, folders of images")
    speed: float = Field(1.0, ge=0, description="real-time factor; 0 plays as fast as possible")
    pause_s: float = Field(0.0, ge=0, description="silence between files, stated in the stream by a mark")
    loop: bool = False
    chunk_s: float = Field(0.1, gt=0, le=0.5)
    start_ns: int | None = Field(None, ge=0, description="event time of the first sample; default: the clock at start")


class MicrophoneSource(Closed):
    """A sound device."""

    type: Literal["microphone"]
    device: str = Field(description="shell pattern for the device's name as `stethos doctor` lists it")
    host_api: str = Field("*", description='shell pattern for the sound system ("ALSA", "Core Audio", ...)')
    port: str = Field("*", description="shell pattern for the USB port, to tell two of one make apart (Linux)")
    chunk_s: float = Field(0.1, ge=0.01, le=0.5)


SourceConfig = Annotated[PlaybackSource | MicrophoneSource, Field(discriminator="type")]
