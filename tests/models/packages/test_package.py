"""Packages: written whole, read with every check, refused with the reason."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from models.packages import Input, Output, load, write
from models.packages.checks import Golden, check_golden, sums, whole
from pipeline.errors import BadInput, StateError
from tests.models.packages import rig


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rig.package(tmp_path_factory.mktemp("packages") / "state").folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "state")


def seal(folder: Path) -> None:
    """Make the hashes fit again, as somebody would who changed a file on purpose."""
    names = ("card.json", "golden.npz", "model.onnx")
    (folder / "SHA256SUMS").write_bytes(sums({name: (folder / name).read_bytes() for name in names}))


def test_what_is_written_is_loaded(folder: Path) -> None:
    package = load(folder)
    assert package.card == rig.card()
    assert package.digest == hashlib.sha256((folder / "SHA256SUMS").read_bytes()).hexdigest()
    assert not package.alone
    assert package.deviation <= 1e-6
    np.testing.assert_allclose(package.golden.y, rig.ROWS @ rig.WEIGHT + rig.BIAS, rtol=1e-5)


def test_a_package_stays_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files, then their names, are on disk before the folder has its name; then that name is."""
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def noting(handle: int) -> None:
        synced.append((str(Path(f"/proc/self/fd/{handle}").readlink()), (tmp_path / "state").exists()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noting)
    rig.package(tmp_path / "state")
    *files, (partial, early), (parent, late) = synced
    assert {(Path(path).parent.name, there) for path, there in files} == {(Path(partial).name, False)}
    assert (early, parent, late) == (False, str(tmp_path), True)


def test_the_hashes_are_those_of_sha256sum(folder: Path) -> None:
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_writing_again_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = rig.package(tmp_path / "again")
    assert again.digest == load(folder).digest
    assert rig.package(folder).digest == again.digest


def test_a_package_never_changes(folder: Path) -> None:
    with pytest.raises(StateError, match="never change"):
        rig.package(folder, version="2")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        write(tmp_path / "bad", rig.card(labels=("a",)), rig.linear(), rig.ROWS[:1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.onnx", "card.json", "golden.npz", "SHA256SUMS"])
class TestFiles:
    """Each file in turn is missing, damaged, cut off, a link, too large, no file."""

    def test_missing(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        with pytest.raises(StateError, match=f"'{name}' is missing"):
            load(folder)

    def test_damaged(self, folder: Path, name: str) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        with pytest.raises(StateError):
            load(folder)

    def test_truncated(self, folder: Path, name: str) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:-7])
        with pytest.raises(StateError):
            load(folder)

    def test_a_link(self, folder: Path, tmp_path: Path, name: str) -> None:
        (folder / name).rename(tmp_path / "elsewhere")
        (folder / name).symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StateError, match="is a link"):
            load(folder)

    def test_too_large(self, folder: Path, name: str) -> None:
        os.truncate(folder / name, 1 << 32)  # sparse
        with pytest.raises(StateError, match="at most"):
            load(folder)

    def test_a_pipe(self, folder: Path, name: str) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)
        with pytest.raises(StateError, match="no regular file"):
            load(folder)


def test_extra_files_are_refused(folder: Path) -> None:
    (folder / "run.py").write_text("print()")
    with pytest.raises(StateError, match=r"run\.py"):
        load(folder)


@pytest.mark.parametrize("path", ["nowhere", "state/card.json"])
def test_what_is_no_folder_is_refused(folder: Path, path: str) -> None:
    with pytest.raises(StateError, match="no folder"):
        load(folder.parent / path)


@pytest.mark.parametrize("name", ["../card.json", "/etc/passwd", "a/b", "card.json\n"])
def test_sums_that_name_other_files_are_refused(folder: Path, name: str) -> None:
    text = (folder / "SHA256SUMS").read_text().replace("card.json", name)
    (folder / "SHA256SUMS").write_text(text)
    with pytest.raises(StateError):
        load(folder)


@pytest.mark.parametrize(
    "spoil", [lambda lines: lines[:2], lambda lines: [*lines[:2], "?"], lambda lines: [*lines, "?"]]
)
def test_sums_hold_one_line_for_each_file_and_no_others(folder: Path, spoil: Callable[[list[str]], list[str]]) -> None:
    lines = spoil((folder / "SHA256SUMS").read_text().splitlines())
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    with pytest.raises(StateError, match="one line each"):
        load(folder)


def test_a_pickle_is_not_loaded(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("a pickle was run",))

    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for member in ("x.npy", "y.npy"):
            header = b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"
            header += b" " * (118 - 1 - len(header)) + b"\n"
            archive.writestr(member, b"\x93NUMPY\x01\x00v\x00" + header + pickle.dumps([Trap(), Trap()]))
    (folder / "golden.npz").write_bytes(raw.getvalue())
    seal(folder)
    with pytest.raises(StateError, match="golden"):
        load(folder)


def golden(folder: Path, **arrays: np.ndarray) -> None:
    np.savez(folder / "golden.npz", **arrays)  # type: ignore[arg-type]  # numpy has a parameter of another type, too
    seal(folder)


@pytest.mark.parametrize(
    "x",
    [
        rig.ROWS[:1],
        rig.ROWS[[0, 0]],
        rig.ROWS[:, :4],
        rig.ROWS.astype(np.float64),
        np.full_like(rig.ROWS, np.nan),
        np.concatenate([rig.ROWS, rig.ROWS + 1]),
        np.float32(1),
    ],
    ids=["one row", "equal rows", "shape", "dtype", "nan", "more than a batch", "scalar"],
)
def test_golden_rows_that_prove_nothing_are_refused(folder: Path, x: np.ndarray) -> None:
    golden(folder, x=x, y=np.zeros((np.atleast_1d(x).shape[0], rig.C), np.float32))
    with pytest.raises(BadInput) as caught:
        load(folder)
    assert caught.value.reason == "golden"


def test_golden_rows_without_an_answer_are_refused(folder: Path) -> None:
    golden(folder, x=rig.ROWS, y=np.zeros((len(rig.ROWS) - 1, rig.C), np.float32))
    with pytest.raises(BadInput, match="as many in x as in y"):
        load(folder)


@pytest.mark.parametrize("norm", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("error", "fine"), [(0.0099, True), (0.0101, False)])
def test_a_deviation_is_relative_to_the_golden_row(norm: float, error: float, fine: bool) -> None:
    """Embeddings and logits have norms of any size."""
    y = np.array([[3.0, 4.0], [0.0, 5.0]], np.float32) * np.float32(norm / 5.0)
    given = y + np.array([[0.0, error * norm], [0.0, 0.0]], np.float32)
    card = SimpleNamespace(outputs=[SimpleNamespace(name="y")], tolerance=0.01)
    session: Any = SimpleNamespace(run=lambda _x: {"y": given}, card=card)
    rows = Golden(np.zeros((2, 3), np.float32), y)
    if fine:
        assert check_golden(session, rows, "p") == pytest.approx(error, rel=1e-2)
    else:
        with pytest.raises(BadInput, match=r"deviate by 0\.01"):
            check_golden(session, rows, "p")


def test_golden_rows_with_another_answer_are_refused(folder: Path) -> None:
    golden(folder, x=rig.ROWS, y=load(folder).golden.y * np.float32(1.01))
    with pytest.raises(BadInput, match=r"deviate by 0\.0"):
        load(folder)


def test_more_arrays_are_refused(folder: Path) -> None:
    golden(folder, x=rig.ROWS, y=rig.ROWS, z=rig.ROWS)
    with pytest.raises(StateError, match="nothing else"):
        load(folder)


def test_an_archive_that_unpacks_to_gigabytes_is_refused(folder: Path) -> None:
    with zipfile.ZipFile(folder / "golden.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for member in ("x.npy", "y.npy"):
            archive.writestr(member, bytes(40 << 20))
    seal(folder)
    with pytest.raises(StateError, match="nothing else"):
        load(folder)


def header(text: str) -> bytes:
    """An array's file of nothing but its header."""
    raw = text.encode() + b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00v\x00" + raw


@pytest.mark.parametrize(
    "x",
    [
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }"),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 30 + ",), }"),
        header("{'descr': (((((("),
    ],
    ids=["terabytes", "no size", "open brackets"],
)
def test_golden_rows_with_an_odd_header_are_refused(folder: Path, x: bytes) -> None:
    with zipfile.ZipFile(folder / "golden.npz", "w") as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", x)
    seal(folder)
    with pytest.raises(StateError, match=r"golden\.npz: cannot be read"):
        load(folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_golden_rows_that_cannot_be_unpacked_are_refused(folder: Path, method: int) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        archive.writestr("x.npy", rig.ROWS.tobytes())
        archive.writestr("y.npy", rig.ROWS.tobytes())
    raw = bytearray(data.getvalue())
    raw[47:87] = b"\xff" * 40  # behind the first header and what LZMA says of itself
    (folder / "golden.npz").write_bytes(raw)
    seal(folder)
    with pytest.raises(StateError, match=r"golden\.npz: cannot be read"):
        load(folder)


def test_an_encrypted_archive_of_golden_rows_is_refused(folder: Path) -> None:
    raw = bytearray((folder / "golden.npz").read_bytes())
    raw[raw.index(b"PK\x03\x04") + 6] |= 1
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    (folder / "golden.npz").write_bytes(raw)
    seal(folder)
    with pytest.raises(StateError, match="encrypted"):
        load(folder)


@pytest.mark.parametrize("data", [b"", b"no graph", bytes(1000)])
def test_what_is_no_graph_is_refused(folder: Path, data: bytes) -> None:
    (folder / "model.onnx").write_bytes(data)
    seal(folder)
    with pytest.raises((StateError, BadInput)) as caught:
        load(folder)
    assert len(str(caught.value)) < 1000


def test_a_graph_with_data_elsewhere_is_refused(folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(bytes(4 * rig.K * rig.C))
    tensor = TensorProto(name="w", dims=[rig.K, rig.C], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["embedding", "w"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["B", rig.K])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", rig.C])],
        [tensor],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "model.onnx").write_bytes(whole.SerializeToString())
    seal(folder)
    with pytest.raises(StateError, match="outside the package"):
        load(folder)


@pytest.mark.parametrize("length", [b"\x08", b"\x88\x00", b"\x88\x80\x80\x80\x00"])
def test_a_reference_is_found_however_its_length_is_written(length: bytes) -> None:
    tensor = TensorProto(name="w")
    tensor.external_data.add(key="location", value="../secret")
    data = tensor.SerializeToString().replace(b"\x08location", length + b"location")
    with pytest.raises(StateError, match="outside the package"):
        whole(data, "model.onnx")


def test_a_node_may_have_location_in_its_name(tmp_path: Path) -> None:
    node = helper.make_node("Gemm", ["embedding", "w", "b"], ["logits"], name="/allocation/Gemm")
    graph = rig.model([node], {"w": rig.WEIGHT, "b": rig.BIAS})
    assert load(write(tmp_path / "named", rig.card(), graph, rig.ROWS).folder).card == rig.card()


@pytest.mark.parametrize("graph", [rig.mixing, rig.positional])
def test_rows_that_change_with_their_neighbours_run_alone(tmp_path: Path, graph: object) -> None:
    assert callable(graph)
    package = write(tmp_path / "moving", rig.card(), graph(), rig.ROWS)
    assert package.alone
    x = np.random.default_rng(0).standard_normal((9, rig.K)).astype(np.float32)
    whole = package.session().run(x)["logits"]
    for i in range(len(x)):
        np.testing.assert_array_equal(package.session().run(x[i : i + 1])["logits"][0], whole[i])


@pytest.mark.parametrize(
    "changes",
    [
        {"input": Input("", "", (rig.K + 1,), 0.0, "embedding")},
        {"input": Input("", "", (rig.K,), 0.0, "image")},
        {"outputs": (Output("tokens", (rig.C,)),)},
        {"outputs": (Output("logits", (rig.C + 1,)),)},
    ],
    ids=["input shape", "input name", "output name", "output shape"],
)
def test_a_card_that_is_not_the_graphs_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(BadInput) as caught:
        write(tmp_path / "wrong", rig.card(**changes), rig.linear(), rig.ROWS)
    assert caught.value.reason == "shape"


def test_the_running_path_needs_neither_torch_nor_onnx(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from models.packages import load; import models.impact.pooling;"
        "package = load(Path(sys.argv[1])); package.session().run(package.golden.x);"
        "bad = {'torch', 'onnx', 'sklearn', 'cryptography'} & set(sys.modules); assert not bad, bad"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, cwd=root)
