"""Recovery: whatever a crash leaves of a recording, all that is whole comes back, and nothing that is not."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mcap.opcode import Opcode
from mcap.reader import make_reader

from pipeline.errors import BadInput, StethosError
from pipeline.messages import NS, Anchor, Chunk, Context, Rate, Score, Stream
from pipeline.recording.mcap_walk import walk
from pipeline.recording.reader import read
from pipeline.recording.recorder import Recorder, Start
from pipeline.recording.recover import adopt, in_use, recover
from pipeline.recording.ring import Ring
from pipeline.results import record_of
from tests.pipeline.foreign import mcap

T = 1_700_000_000 * NS
MIC = Stream("mill", "mic", 0, "acoustic", Rate(48000), 1, "<i2", "FS", 1 / 32768)
N, PER_CHUNK = 60, 5


def chunk(k: int) -> Chunk:
    x = np.full((4800, 1), k, "<i2")
    x[:, 0] += np.arange(4800, dtype="<i2") % 100
    return Chunk(MIC, Anchor(0, T), k * 4800, k, x)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished recording of N chunks, an MCAP chunk for every five, results between them."""
    path = tmp_path_factory.mktemp("whole") / "a.mcap"
    with Recorder(
        path, Start({"configuration.toml": b"x = 1"}, preroll=[Context("mill", "tool", T, "T1")]), T
    ) as recorder:
        for k in range(N):
            recorder.write(chunk(k), T + k + 1)
            if k % PER_CHUNK == PER_CHUNK - 1:
                recorder.write_result(record_of(Score("mill", ("mic",), "d", T + k, 0.1, 0.2, "h")))
                recorder.sync()
    return path


def indices(path: Path) -> list[int]:
    """The chunks in a recording, after a check that their samples are the ones written."""
    messages = [e.message for e in read(path).messages() if isinstance(e.message, Chunk)]
    assert all(np.array_equal(m.samples, chunk(m.seq).samples) for m in messages)
    return [m.seq for m in messages]


def damaged(whole: Path, folder: Path, data: bytes) -> Path:
    path = folder / "damaged.mcap.part"
    path.write_bytes(data)
    return path


def test_an_intact_file_comes_back_whole(whole: Path, tmp_path: Path) -> None:
    done = recover(whole, tmp_path / "b.mcap")
    assert done == (N + N // PER_CHUNK + 1, None)
    a, b = read(whole), read(tmp_path / "b.mcap")
    assert (a.facts, a.attachments, a.fingerprint) == (b.facts, b.attachments, b.fingerprint)
    rows = [[(e.log_ns, e.preroll) for e in recording.messages()] for recording in (a, b)]
    assert rows[0] == rows[1]
    with whole.open("rb") as one, (tmp_path / "b.mcap").open("rb") as other:
        for (_, c, m), (_, d, n) in zip(
            make_reader(one).iter_messages(), make_reader(other, validate_crcs=True).iter_messages(), strict=True
        ):
            assert (c.topic, c.metadata, m.sequence, m.publish_time) == (
                d.topic,
                d.metadata,
                n.sequence,
                n.publish_time,
            )
            assert m.data == n.data


@pytest.mark.parametrize("seed", range(8))
def test_a_cut_file_gives_every_whole_chunk(whole: Path, tmp_path: Path, seed: int) -> None:
    data = whole.read_bytes()
    cut = random.Random(seed).randrange(3000, len(data))
    path = damaged(whole, tmp_path, data[:cut])
    kept, reason = recover(path, tmp_path / "b.mcap")
    found = indices(tmp_path / "b.mcap")
    assert found == list(range(len(found))) and len(found) % PER_CHUNK == 0
    assert len(found) >= (cut - 3000) // 9700 - PER_CHUNK  # 9,600 bytes of samples and their frame
    assert (reason is None) == (len(found) == N and kept == N + N // PER_CHUNK + 1)
    # Reading the damaged file itself gives the same, and says so.
    recording = read(path)
    assert [e.message.seq for e in recording.messages() if isinstance(e.message, Chunk)] == found
    assert (recording.damage is None) == (reason is None)
    assert read(tmp_path / "b.mcap").attachments == {"configuration.toml": b"x = 1"}


def test_an_unfinished_file_gives_what_was_synced(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a.mcap", Start(), T)
    for k in range(12):
        recorder.write(chunk(k), T + k)
        if k == 9:
            recorder.sync()
    kept, reason = recover(recorder.part, tmp_path / "b.mcap")
    assert kept == 10 and reason is not None and reason.startswith("EndOfFile")
    assert indices(tmp_path / "b.mcap") == list(range(10))
    recorder.close()


def test_zeros_behind_what_was_written_are_its_end(whole: Path, tmp_path: Path) -> None:
    """What a power cut leaves where a file has its length but not its content; as records they would take minutes."""
    with whole.open("rb") as file:
        end = next(piece.at for piece in walk(file) if piece.opcode == Opcode.DATA_END) - 9
    path = damaged(whole, tmp_path, whole.read_bytes()[:end])
    with path.open("r+b") as file:
        file.truncate(end + (64 << 20))
    began = time.process_time()
    kept, reason = recover(path, tmp_path / "b.mcap")
    assert time.process_time() - began < 1.0
    assert kept == N + N // PER_CHUNK + 1 and reason is not None and reason.startswith("EndOfFile")
    assert indices(tmp_path / "b.mcap") == list(range(N))


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_never_becomes_other_samples(whole: Path, tmp_path: Path, seed: int) -> None:
    data = bytearray(whole.read_bytes())
    rng = random.Random(seed)
    data[rng.randrange(len(data) * 3 // 4)] ^= 1 << rng.randrange(8)
    path = damaged(whole, tmp_path, bytes(data))
    try:
        recover(path, tmp_path / "b.mcap")
    except BadInput:  # the very beginning was hit
        return
    found = indices(tmp_path / "b.mcap")
    assert found == list(range(len(found)))


@pytest.mark.parametrize("data", [b"", b"\x89MCAP0\r\n", b"x" * 100_000, bytes(100)])
def test_nothing_to_recover_is_said_and_leaves_nothing_behind(tmp_path: Path, data: bytes) -> None:
    path = damaged(tmp_path, tmp_path, data)
    with pytest.raises(BadInput, match="nothing to recover"):
        recover(path, tmp_path / "b.mcap")
    assert list(tmp_path.iterdir()) == [path]


def test_a_length_that_damage_has_made_huge_is_not_believed(whole: Path, tmp_path: Path) -> None:
    data = bytearray(whole.read_bytes())
    at = data.index(b"\x06", 2000)
    data[at + 1 : at + 9] = (2**62).to_bytes(8, "little")
    kept, _ = recover(damaged(whole, tmp_path, bytes(data)), tmp_path / "b.mcap")
    assert kept <= N + N // PER_CHUNK + 1


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(StethosError, match="gone"):
        recover(tmp_path / "gone.mcap", tmp_path / "b.mcap")


def test_adoption_repairs_what_a_dead_process_left(whole: Path, tmp_path: Path) -> None:
    data = whole.read_bytes()
    (tmp_path / "rec-1.mcap.part").write_bytes(data[: len(data) // 2])
    (tmp_path / "rec-2.mcap.part").write_bytes(b"")
    (tmp_path / "rec-3.mcap.repair").write_bytes(b"half a repair")
    (tmp_path / "other-2.mcap.repair").write_bytes(b"of another shard, at this moment")
    (tmp_path / "rec-4.mcap.part").write_bytes(mcap())  # its beginning, and no message
    (tmp_path / "other-1.mcap.part").write_bytes(data[:5000])
    done = adopt(tmp_path, "rec-")
    assert sorted(path.name for path in done) == ["rec-1.mcap", "rec-2.mcap", "rec-4.mcap"]
    assert done[tmp_path / "rec-4.mcap"] == (0, None)
    assert done[tmp_path / "rec-1.mcap"].kept == len(indices(tmp_path / "rec-1.mcap")) * 6 // 5 + 1
    assert done[tmp_path / "rec-2.mcap"].kept == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "other-1.mcap.part",
        "other-2.mcap.repair",
        "rec-1.mcap",
    ]


def test_a_ring_tells_what_became_of_what_was_left(
    whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = whole.read_bytes()
    (tmp_path / "rec-1.mcap.part").write_bytes(data[: len(data) // 2])
    (tmp_path / "rec-2.mcap.part").write_bytes(b"")
    ring = Ring(tmp_path, Start(), T, ring_bytes=10**8)
    ring.close()
    kept, removed = caplog.messages
    there = len(indices(tmp_path / "rec-1.mcap")) * 6 // 5 + 1  # with results, and what stood in front
    assert "rec-1.mcap" in kept and f"repaired, {there} messages are kept" in kept
    assert "rec-2.mcap" in removed and "no message could be kept" in removed


def test_a_file_system_without_locks_holds_recordings_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some of a network: nothing tells a growing file from one that was left, so all are taken for left."""

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    recorder = Recorder(tmp_path / "a.mcap", Start(), T)
    for k in range(3):
        recorder.write(chunk(k), T + k)
    recorder.leave()
    assert not in_use(recorder.part)
    assert adopt(tmp_path)[tmp_path / "a.mcap"].kept == 3
    assert indices(tmp_path / "a.mcap") == [0, 1, 2]


CHILD = """
import sys, pathlib, numpy as np
from pipeline.messages import NS, Anchor, Chunk, Rate, Stream
from pipeline.recording.recorder import Recorder, Start
mic = Stream("mill", "mic", 0, "acoustic", Rate(48000), 1, "<i2", "FS", 1 / 32768)
recorder = Recorder(pathlib.Path(sys.argv[1]), Start(), 0)
for k in range(10**6):
    x = np.full((4800, 1), k, "<i2")
    x[:, 0] += np.arange(4800, dtype="<i2") % 100
    recorder.write(Chunk(mic, Anchor(0, 1_700_000_000 * NS), k * 4800, k, x), k)
    if k % 7 == 6:
        print(recorder.sync().messages, flush=True)
"""


def test_what_sync_promised_survives_a_kill(tmp_path: Path) -> None:
    """A process is killed while it writes: everything it had reported as on disk is there."""
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "a.mcap")], stdout=subprocess.PIPE, text=True,
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert child.stdout is not None
    promised = [int(child.stdout.readline()) for _ in range(5)]
    time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    promised += [int(line) for line in child.stdout.read().splitlines()]
    child.stdout.close()
    child.wait()
    kept, reason = recover(tmp_path / "a.mcap.part", tmp_path / "a.mcap")
    assert kept >= promised[-1] >= 35
    assert reason is not None
    assert indices(tmp_path / "a.mcap") == list(range(kept))
