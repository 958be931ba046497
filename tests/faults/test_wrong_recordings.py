"""Recordings and configurations that do not fit, or would be lost: said in words, and nothing is overwritten."""

from __future__ import annotations

import errno
import time
from pathlib import Path

import orjson
import pytest
from mcap.opcode import Opcode

from pipeline.app import plan_of_recording
from pipeline.cli.recordings import plan_of
from pipeline.clock import HostClock
from pipeline.errors import BadInput, StateError
from pipeline.kafka.replay import KafkaReplay
from pipeline.recording.mcap_file import McapFile
from pipeline.recording.mcap_walk import walk
from pipeline.recording.reader import read
from pipeline.recording.recorder import _Disk
from pipeline.replay import open_all
from pipeline.state import Store
from tests.faults.test_wrong_use import CONFIG, config, own_signals, run, stethos
from tests.fixtures.make_v1 import OUT

__all__ = ["config", "own_signals"]


@pytest.fixture
def recording(config: Path) -> Path:
    """Three seconds of the machine m, sensor acc."""
    assert run(config) == 0
    (made,) = (config.parent / "recordings").glob("*.mcap")
    return made


def replayed(recording: Path, candidate: str) -> int:
    """The exit code of a replay under another configuration."""
    path = recording.parents[1] / "candidate.toml"
    path.write_text(candidate)
    return stethos("replay", recording, "--config", path, "--journal", path.parent / "candidate.jsonl")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('name = "m"', 'name = "other"', "unknown_machine, first: the configuration has no machine 'm'"),
        ("rate_hz = 2000", "rate_hz = 4000", "wrong_rate, first: "),
        ('unit = "mg"', 'unit = "g"', "wrong_unit, first: "),
    ],
)
def test_a_candidate_that_does_not_fit_the_recording(
    recording: Path, old: str, new: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silence would read as "no alarms"."""
    assert replayed(recording, CONFIG.replace(old, new)) == 1
    assert f"messages could not be used: {words}" in capsys.readouterr().err


def test_a_candidate_that_fits_one_of_two_machines(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was left out is told, the rest counts."""
    other = CONFIG[CONFIG.index("[[machine]]") : CONFIG.index("[[sink]]")].replace('"m"', '"n"')
    assert replayed(recording, CONFIG + other) == 0
    assert "could not be used" not in capsys.readouterr().err
    both = recording.parents[1] / "both.toml"
    both.write_text(CONFIG.replace("recordings", "two").replace('"state"', '"state2"') + other)
    assert run(both) == 0
    capsys.readouterr()
    (two,) = (both.parent / "two").glob("*.mcap")
    assert replayed(two, CONFIG) == 0
    assert "unknown_machine, first: the configuration has no machine 'n'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("config.json", b"{"),
        ("baselines.json", b"{"),
        ("baselines.json", b"[1]"),
        ("baselines.json", b'{"press": 5}'),
        ("baseline/x", b""),
        ("baseline/x/baseline.json", b"["),
        ("models.json", b"x"),
        ("drills.json", b"[]"),
    ],
)
def test_what_a_recording_carries_in_another_form_is_refused_in_a_line(tmp_path: Path, name: str, data: bytes) -> None:
    """Another program has made it, or changed it."""
    carried = read(OUT / "recording.mcap").attachments
    assert plan_of_recording(carried, tmp_path).lanes
    with pytest.raises(
        StateError, match=r"recording's .* not as stethos writes them .*name a .*--config|cannot be read"
    ):
        plan_of_recording({**carried, name: data}, tmp_path)


def test_a_recording_replays_whose_plant_sends_secrets_in_the_open(tmp_path: Path) -> None:
    """As earlier versions let it; a replay sends none."""
    carried = read(OUT / "recording.mcap").attachments
    sink = {"type": "influxdb", "url": "http://influxdb:8086", "org": "o", "bucket": "b", "token": "**********"}
    mqtt = {"host": "plc", "username": "u", "password": "**********"}
    told = {**orjson.loads(carried["config.json"]), "sink": [sink], "fast_lane": {"mqtt": mqtt}}
    plan = plan_of_recording({**carried, "config.json": orjson.dumps(told)}, tmp_path)
    assert [type(one).__name__ for one in plan.settings.sinks] == ["InfluxSinkConfig"]


def recorded(config: Path, name: str, *changes: tuple[str, str]) -> Path:
    """`stethos record` under the configuration with other words."""
    text, out = CONFIG, config.parent / name
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    config.write_text(text)
    assert stethos("record", out, "--config", config) == 0
    return out


LATER = ("start_ns = 1700000000000000000", "start_ns = 1700000600000000000")


def test_separate_recordings_are_not_played_as_one(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each begins at epoch 0: the second would be late from its first sample to its last."""
    both = recorded(config, "b.mcap"), recorded(config, "a.mcap", LATER)
    journal = config.parent / "j.jsonl"
    assert stethos("replay", *both, "--journal", journal) == 2
    said = capsys.readouterr().err
    assert "m/acc begins anew, 600 s away from what " in said and "replay them one after the other" in said
    assert not journal.exists()
    opened = open_all(both)
    plan = plan_of(opened, None, config.parent / "on-kafka.sqlite")
    with pytest.raises(BadInput, match="begins anew"):
        list(KafkaReplay(opened, plan, Store(plan.state), HostClock())._paced())
    for one in both:
        assert stethos("replay", one, "--journal", journal) == 0
    assert "not used" not in capsys.readouterr().err


def test_what_is_replayed_twice_is_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same samples at the same time: passed over, as a dead letter is told of."""
    one = recorded(config, "a.mcap")
    (again := one.with_name("b.mcap")).write_bytes(one.read_bytes())
    assert stethos("replay", one, again, "--journal", config.parent / "j.jsonl") == 0
    said = capsys.readouterr().err
    assert " messages not used, or not all of it: duplicate" in said and "configurations" not in said


def test_recordings_of_different_configurations_are_told(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One configuration is in force: that of the newest file, in whatever order they are named."""
    other = ('name = "m"', 'name = "m"\n  persistence = { k = 1, n = 1 }')
    first, second = recorded(config, "2026-09-30.mcap"), recorded(config, "2026-10-02.mcap", other)
    for order in ((first, second), (second, first)):
        assert stethos("replay", *order, "--journal", config.parent / "j.jsonl") == 0
        said = capsys.readouterr().err
        assert f"recorded under different configurations; all are replayed under the one of {second}: " in said
    assert stethos("replay", *order, "--journal", config.parent / "j.jsonl", "--config", config) == 0
    assert "configurations" not in capsys.readouterr().err


def test_recover_keeps_what_is_there(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Above all the only copy of what it is to save."""
    cut, other = tmp_path / "cut.mcap", tmp_path / "other.mcap"
    data = recording.read_bytes()[:-200]
    cut.write_bytes(data)
    other.write_bytes(b"mine")
    for target in (cut, other):
        assert stethos("recover", cut, target) == 2
        assert f"{target}: exists already" in capsys.readouterr().err
    assert (cut.read_bytes(), other.read_bytes()) == (data, b"mine")
    assert stethos("recover", cut, tmp_path / "new.mcap") == 0


@pytest.mark.parametrize("name", ["a.mcap", "a.mcap.part"])
def test_record_keeps_what_is_there(config: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A finished recording, or what a crash has left of one."""
    there = config.parent / name
    there.write_bytes(b"mine")
    assert stethos("record", config.parent / "a.mcap", "--config", config) == 2
    assert f"{there}: exists already" in capsys.readouterr().err
    assert there.read_bytes() == b"mine"


def test_a_recording_that_fills_the_disk_ends(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, with the cause and with what saves the rest."""
    config.write_text(CONFIG.replace("speed = 0", "speed = 1, loop = true"))
    calls, sync = [], _Disk.sync

    def full(disk: _Disk) -> None:
        calls.append(disk)
        if len(calls) > 2:  # the beginning and a second
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(disk)

    monkeypatch.setattr(_Disk, "sync", full)
    out, began = config.parent / "a.mcap", time.monotonic()
    assert stethos("record", out, "--config", config, "--for", "60") == 1
    assert time.monotonic() - began < 30
    said, part = capsys.readouterr().err, out.with_name("a.mcap.part")
    assert f"error: {part}: No space left on device; free space" in said
    assert f"make it whole: stethos recover {part} {out}" in said
    assert stethos("recover", part, out) == 0


def test_a_recording_that_cannot_be_finished_says_so(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last bytes are the index."""

    def full(_mcap: McapFile) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(McapFile, "finish", full)
    out = config.parent / "a.mcap"
    assert stethos("record", out, "--config", config) == 1
    said = capsys.readouterr().err
    assert "a.mcap.part: No space left on device" in said and "stethos recover " in said


def test_a_source_that_fails_is_told_while_it_is_recorded(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not only when the shift is over."""
    (config.parent / "x.npz").unlink()
    assert stethos("record", config.parent / "a.mcap", "--config", config, "--for", "2.5") == 1
    said = capsys.readouterr().err
    assert said.index("problem: playback m/acc: ") < said.index("error: playback m/acc: ")


@pytest.mark.parametrize("command", [["run"], ["record", "new.mcap"]])
def test_a_configuration_without_any_source(
    config: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing would ever come, so nothing is started."""
    config.write_text("".join(line for line in CONFIG.splitlines(keepends=True) if "source =" not in line))
    assert stethos(*command, "--config", config) == 2
    said = capsys.readouterr().err
    assert "no sensor has a source: add source = {...} to a [[machine.sensor]], or" in said
    assert ("run --engine kafka" if command == ["run"] else "record --from-kafka") in said
    assert not (config.parent / "state").exists()


@pytest.mark.parametrize("option", [["--role", "worker"], ["--name", "w0"]])
def test_roles_are_kafkas(config: Path, option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded engine has none."""
    assert stethos("run", *option, "--config", config) == 2
    assert "--role and --name need --engine kafka" in capsys.readouterr().err


def test_what_is_cut_off_before_its_first_message(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within what it carries at its beginning: nothing to replay, beside a whole one left out, nothing to recover."""
    data, cut = recording.read_bytes(), tmp_path / "rec-20200101T000000.000000000Z.mcap"
    with recording.open("rb") as file:
        first = next(piece.at for piece in walk(file) if piece.opcode == Opcode.CHUNK)
    cut.write_bytes(data[: first - 20])
    journal = tmp_path / "j.jsonl"
    assert stethos("replay", cut, "--journal", journal) == 2
    assert f"{cut}: damaged or cut off before its first message" in capsys.readouterr().err
    assert stethos("replay", cut, recording, "--journal", journal) == 0
    said = capsys.readouterr().err
    assert f"{cut}: damaged" in said and "left out" in said
    assert stethos("recover", cut, tmp_path / "new.mcap") == 1
    assert f"{cut}: holds no whole message" in capsys.readouterr().err
