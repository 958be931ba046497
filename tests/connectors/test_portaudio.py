"""Devices and their identity; real PortAudio on ALSA devices without hardware."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from connectors.microphone import Microphone
from connectors.portaudio import Choice, Device, devices
from operators.rewindow import Sequence
from pipeline.errors import SourceError
from pipeline.messages import NS, Mark, Segment
from tests.connectors.alsa import PacedMicrophone
from tests.connectors.polling import chunks, poll_until
from tests.connectors.soundcard import USB, CardSession, SoundCard
from tests.servers.microphone import FakeMicrophone


def test_identity_by_name_host_api_and_port() -> None:
    left = Device(0, "USB Mic: Audio (hw:1,0)", "ALSA", "1-1.2", 1, 48_000.0)
    right = Device(1, "USB Mic: Audio (hw:2,0)", "ALSA", "1-1.3", 1, 48_000.0)
    assert Choice("usb mic*", port="1-1.3").among((left, right)) == right
    assert Choice("*(hw:1,0)").among((left, right)) == left
    with pytest.raises(SourceError, match=r"2 inputs fit.*1-1\.2.*1-1\.3.*Narrow"):
        Choice("usb mic*").among((left, right))
    with pytest.raises(SourceError, match="no input fits"):
        Choice("*", host_api="JACK").among((left, right))
    with pytest.raises(SourceError, match=r"must fit the whole name, e\.g\. 'USB\*'"):
        Choice("USB").among((left, right))


def test_the_port_is_read_from_the_kernels_list(tmp_path: Path) -> None:
    usb = tmp_path / "devices/pci0000:00/0000:00:14.0/usb1/1-1/1-1.2/1-1.2:1.0"
    usb.mkdir(parents=True)
    (tmp_path / "class/card1").mkdir(parents=True)
    (tmp_path / "class/card1/device").symlink_to(usb)
    card = SoundCard()
    card.names = [USB, "default"]
    found = devices(card.PyAudio(), sysfs=tmp_path / "class")
    assert [(d.index, d.name, d.host_api, d.port, d.channels) for d in found] == [
        (0, USB, "ALSA", "1-1.2", 2),
        (1, "default", "ALSA", "", 2),
    ]


class LoudCard(SoundCard):
    """Writes on stderr when it is started, as ALSA and JACK do."""

    def PyAudio(self) -> CardSession:  # noqa: N802
        os.write(2, b"ALSA lib pcm.c:2721: Unknown PCM\n")
        return super().PyAudio()


def test_what_sound_libraries_write_stays_off_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """At each of the many tries of a device that is missing; stderr is as it was afterwards."""
    mic = Microphone("lathe", "mic", "absent", pyaudio=LoudCard())
    with pytest.raises(SourceError, match="no input fits"):
        mic.open({}, time.time_ns())
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_real_portaudio_delivers_the_files_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = (np.arange(48_000) * 7 % 30_000).astype("<i2")
    with FakeMicrophone(heard) as fake:
        for name in ("ALSA_CONFIG_PATH", "JACK_NO_START_SERVER"):
            monkeypatch.setenv(name, fake.env[name])
        assert "fakemic" in [device.name for device in devices()]
        mic = Microphone("lathe", "mic", fake.name)
        mic.open({}, time.time_ns())
        try:
            got = chunks(poll_until(mic, lambda: mic.counters["frames"] >= 48_000, time.time_ns))
        finally:
            mic.close()
    np.testing.assert_array_equal(np.concatenate([c.samples[:, 0] for c in got])[:48_000], heard)


def test_real_portaudio_at_real_speed_unplugged_and_plugged_in_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with PacedMicrophone(block=800, rate_hz=16_000) as device:
        for name, value in device.env.items():
            monkeypatch.setenv(name, value)
        mic = Microphone("lathe", "mic", device.name, rate_hz=16_000, chunk_s=0.05, stall_s=0.3)
        before = time.time_ns()
        mic.open({}, before)
        out = poll_until(mic, lambda: mic.counters["frames"] >= 16_000, time.time_ns)
        device.mute()
        device.unplug()
        out += poll_until(mic, lambda: not mic.connected, time.time_ns)
        device.unmute()  # PortAudio's thread sits in a read that a real driver would have broken off
        out += poll_until(mic, lambda: mic.counters["failed_opens"] >= 1, time.time_ns)
        assert "no input fits" in mic.trouble
        device.plug()
        out += poll_until(mic, lambda: mic.connected, time.time_ns)
        enough = mic.counters["frames"] + 8000
        out += poll_until(mic, lambda: mic.counters["frames"] >= enough, time.time_ns)
        after = time.time_ns()
        mic.close()
    first = [c for c in chunks(out) if c.stream.epoch == 0]
    second = [c for c in chunks(out) if c.stream.epoch == 1]
    assert len(first) + len(second) == len(chunks(out))
    for stream in (first, second):
        assert [c.n1 for c in stream[:-1]] == [c.n0 for c in stream[1:]]
        assert stream[0].n0 == 0
        assert all(later.t0_ns > earlier.t0_ns for earlier, later in pairwise(stream))
        sequence = Sequence(stream[0].stream)
        assert all(type(m) is Segment for chunk in stream for m in sequence.process(chunk))
        assert all(set(np.diff(c.samples[:, 0].astype(int))) <= {1, -32_767} for c in stream)
    assert before - NS // 10 < first[0].t0_ns < second[-1].t1_ns < after + NS // 10
    assert [(m.reason, m.stream.epoch) for m in out if isinstance(m, Mark)] == [("end", 0)]
    assert (mic.counters["losses_of_device"], mic.counters["reconnects"]) == (1, 1)


def test_real_portaudio_refuses_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeMicrophone(np.zeros(100, np.int16)) as fake:
        for name in ("ALSA_CONFIG_PATH", "JACK_NO_START_SERVER"):
            monkeypatch.setenv(name, fake.env[name])
        with pytest.raises(SourceError, match="fakemic"):
            Microphone("lathe", "mic", "absent").open({}, time.time_ns())
