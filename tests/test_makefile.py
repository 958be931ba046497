"""`make install` after what can happen to a folder: killed, copied, moved, without its Python, without a home."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYTHON = r"""#!/bin/bash -e
# stands for python3, and for the Python of the environments that it makes
echo "python $* cache=${XDG_CACHE_HOME:-} path=${PYTHONPATH:-}" >>"$LOG"
case "$*" in
"-m venv "*)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    echo "command = $0 -m venv $PWD/$3" >"$3/pyvenv.cfg" ;;
"-m pip "*)
    printf '#!/bin/bash\necho "uv $*" >>"$LOG"\n' >.venv/bin/uv
    [ -z "${KILLED:-}" ]
    chmod +x .venv/bin/uv ;;
esac
"""


class Folder:
    """A checkout whose Python only writes down what it was asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        shutil.copytree(ROOT / "locks", path / "locks")
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, path)
        self.python = path.parent / "python3"
        self.python.write_text(PYTHON)
        self.python.chmod(0o755)

    def install(self, **environment: str | Path) -> str:
        """What Python and uv were asked for; `made` stands for a new environment."""
        log = self.path.parent / "log"
        log.write_text("")
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        told = {**outside, "LOG": log, "PYTHON": self.python, **environment}
        done = subprocess.run(["make", "install"], cwd=self.path, env=told, capture_output=True, text=True, check=False)
        return log.read_text() if done.returncode == 0 else f"failed: {done.stderr}"

    def made(self) -> bool:
        """Whether `make install` makes an environment; a second one has nothing to do."""
        made = self.install()
        again = self.install()
        assert "failed" not in made + again and "venv" not in again and "uv" not in again
        return "-m venv" in made and "-e ." in made


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Freshly cloned, in a folder with spaces."""
    return Folder(tmp_path / "a plant's")


def test_an_installation_that_was_killed_is_begun_anew(folder: Folder) -> None:
    """While pip writes uv, and behind it."""
    assert "failed" in folder.install(KILLED="1")
    assert (folder.path / ".venv/bin/uv").exists()
    assert folder.made()
    (folder.path / ".venv/.demo").unlink()
    assert folder.made()


def test_a_copied_and_a_moved_folder_get_environments_of_their_own(folder: Folder) -> None:
    """Theirs would run the code of the folder that they were made in, or nothing."""
    assert folder.made()
    shutil.copytree(folder.path, copy := folder.path.with_name("copy"))
    folder.path.rename(moved := folder.path.with_name("moved"))
    for folder.path in (copy, moved):
        assert folder.made()
        assert not folder.made()


def test_a_python_that_is_gone(folder: Folder) -> None:
    """Removed, or another minor version in its place, which does not see what was installed."""
    assert folder.made()
    python = folder.path / ".venv/bin/python"
    python.unlink()
    assert folder.made()
    python.write_text("#!/bin/sh\nexit 1\n")
    assert folder.made()


def test_another_version_is_installed_into_the_same_environment(folder: Folder) -> None:
    """What was installed besides stays."""
    assert folder.made()
    os.utime(folder.path / "pyproject.toml")
    again = folder.install()
    assert "-e ." in again and "-m venv" not in again


def test_a_home_that_cannot_be_written_and_foreign_modules(folder: Folder) -> None:
    """Downloads are kept in the folder then; PYTHONPATH is nobody's business."""
    home = folder.path.parent / "home"
    home.mkdir()
    outside: dict[str, str | Path] = {"HOME": home, "XDG_CACHE_HOME": "", "PYTHONPATH": home}
    log = folder.install(**outside)
    assert "cache= path=\n" in log and "failed" not in log
    home.rmdir()
    home.write_text("no folder: not even root can write below it")
    shutil.rmtree(folder.path / ".venv")
    assert f"cache={folder.path}/.cache path=\n" in folder.install(**outside)
