"""Reading recordings that are odd, growing, deleted or copied: what is told of them, and in which order they come."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcap.records import Attachment, Channel, Metadata

from pipeline.errors import BadInput, StateError
from pipeline.messages import Context
from pipeline.recording.format import RUN, SCHEMA_VERSION, RecordingError
from pipeline.recording.reader import read, stamp, written
from tests.pipeline.foreign import T, channel, chunk, mcap, message, records, sealed


def saved(path: Path, data: bytes) -> Path:
    """The bytes as a file."""
    path.write_bytes(data)
    return path


def facts(path: Path) -> list[object]:
    """The values of the facts in a recording."""
    return [logged.message.value for logged in read(path).messages() if isinstance(logged.message, Context)]


def handles_on(path: Path) -> int:
    """How many this process has on a file that is deleted."""
    gone = f"{path} (deleted)"
    return sum(link.is_symlink() and str(link.readlink()) == gone for link in Path("/proc/self/fd").iterdir())


@pytest.fixture
def dated() -> Iterator[str]:
    """The rest of a name that a recorder gives; the box is no longer on Greenwich's time."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Kolkata"
    time.tzset()
    yield "20231114T221320.000000000Z.mcap"  # T, as `date -u -d @1700000000` tells it
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


def test_a_recording_without_a_handle_to_spare_is_read_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of hundreds of files at once; one that is deleted meanwhile is then an error like any other."""

    def dup(handle: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", dup)
    path = saved(tmp_path / "a.mcap", mcap(sealed(channel() + message(1))))
    recording = read(path)
    assert len(list(recording.messages())) == 1
    path.unlink()
    with pytest.raises(RecordingError, match=r"a\.mcap: cannot be read: No such file"):
        list(recording.messages())


def test_two_passes_over_a_deleted_recording_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each begins at its start and has a place of its own; a recording that nobody holds holds no file."""
    path = saved(tmp_path / "a.mcap", mcap(*(sealed(channel() + message(n)) for n in range(1, 200))))
    recording = read(path)
    path.unlink()
    pairs = list(zip(recording.messages(), recording.messages(), strict=True))
    assert len(pairs) == 199 and all(one == other for one, other in pairs)
    assert handles_on(path) == 1
    del recording
    assert handles_on(path) == 0


def test_what_other_tools_add_is_passed_over(tmp_path: Path) -> None:
    """Metadata of other names before ours, channels that are not ours."""
    theirs = records(Channel(7, "notes", "text", {}, 0))
    data = mcap(sealed(theirs + channel() + message(1, on=7) + message(2)), facts={"schema_version": "1", RUN: "5"})
    head = mcap().index(records(Metadata("stethos.recording", {"schema_version": "1"})))
    path = saved(tmp_path / "a.mcap", data[:head] + records(Metadata("note", {"schema_version": "x"})) + data[head:])
    assert facts(path) == ["T2"]
    assert written(path)[0] == 5


def test_a_log_time_that_comes_twice_is_refused(tmp_path: Path) -> None:
    """Log times are the places of messages: ours increase by at least a nanosecond."""
    messages = read(saved(tmp_path / "a.mcap", mcap(sealed(channel() + message(1) + message(2, T + 1))))).messages()
    assert next(messages).log_ns == T + 1
    with pytest.raises(BadInput, match="log times do not increase"):
        next(messages)


def test_attachments_behind_the_first_messages_are_none_of_its_beginning(tmp_path: Path) -> None:
    """Opening a recording must not read all of it."""
    late = records(Attachment(T, T, "late", "", b"x"))
    path = saved(tmp_path / "a.mcap", mcap(sealed(channel() + message(1)), late))
    assert read(path).attachments == {}


def test_a_recording_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    """The profile of another program, the next version, an end that is missing."""
    with pytest.raises(BadInput, match="an MCAP file, but no recording of stethos"):
        read(saved(tmp_path / "a.mcap", mcap(profile="ros2")))
    for version in ("", "one", "²"):
        with pytest.raises(BadInput, match=f"its schema version is '{version}'"):
            read(saved(tmp_path / "a.mcap", mcap(facts={"schema_version": version})))
    with pytest.raises(StateError, match="update stethos"):
        read(saved(tmp_path / "a.mcap", mcap(facts={"schema_version": str(SCHEMA_VERSION + 1)})))
    recording = read(saved(tmp_path / "a.mcap", mcap(sealed(channel() + message(1)))[:-1]))
    assert len(list(recording.messages())) == 1
    assert recording.damage == "EndOfFile: the file ends in the middle, its last second may be missing"


def test_a_message_of_a_channel_that_nothing_describes_is_damage(tmp_path: Path) -> None:
    """What comes before it counts."""
    recording = read(saved(tmp_path / "a.mcap", mcap(sealed(channel() + message(1) + message(2, on=9) + message(3)))))
    assert [logged.log_ns for logged in recording.messages()] == [T + 1]
    assert str(recording.damage).startswith("KeyError")


# the order of files --------------------------------------------------------------------------------------------------


def test_times_in_names_are_greenwichs(dated: str, tmp_path: Path) -> None:
    """Also of a copy under another name: its first message tells the time. Names of times sort like them."""
    path = saved(tmp_path / "copy.mcap", mcap(sealed(channel() + message(5, log_ns=T))))
    assert written(path) == (0, dated, "copy.mcap")
    assert stamp(T) == dated < stamp(T + 9) < stamp(T + 10)


def test_files_come_by_run_then_time_then_name(dated: str, tmp_path: Path) -> None:
    """A growing file is named by what it will be called."""

    def made(name: str, run: int) -> str:
        saved(tmp_path / name, mcap(facts={"schema_version": "1", RUN: str(run)}))
        return name

    later = dated.replace("T22", "T23")
    wanted = [made(f"b-{later}", 1), made(f"a-{dated}", 2), made(f"b-{dated}.part", 2), made(f"a-{later}", 2)]
    assert [path.name for path in sorted(tmp_path.iterdir(), key=written)] == wanted
    assert written(tmp_path / wanted[2]) == (2, dated, f"b-{dated}")


def test_a_file_that_cannot_be_read_has_a_place_too(
    dated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name: one that was just deleted, that is broken, or of a disk that fails."""
    for name in (f"a-{dated}", "copy.mcap"):
        told = dated if name.startswith("a-") else ""
        assert written(tmp_path / name) == (0, told, name)
        broken = saved(tmp_path / name, chunk(b"no MCAP"))
        assert written(broken) == (0, told, name)

    def fails(handle: int) -> os.stat_result:
        raise OSError(errno.EIO, "Input/output error")

    whole = saved(tmp_path / f"b-{dated}", mcap(facts={"schema_version": "1", RUN: "5"}))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fails)
        assert written(whole) == (0, dated, whole.name)
    assert written(whole) == (5, dated, whole.name)
