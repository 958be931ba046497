"""The rules of the house that a machine can check: folders, sizes, tables."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import topology
from pipeline.topics import TOPICS

ROOT = Path(__file__).parent.parent
OURS = ("pipeline", "operators", "connectors", "models", "config")
FILES = sorted(path for folder in OURS for path in (ROOT / folder).rglob("*.py"))

ALLOWED = {
    "operators": {"operators", "pipeline.messages"},
    "connectors": {"connectors", "pipeline.messages", "pipeline.errors"},
    "models": {"models", "operators", "pipeline.messages", "pipeline.errors"},
    "config": {"config", "pipeline.errors"},
}
"""What each folder may import of this project; `pipeline` may import all."""

THIRD = {
    "operators": {"numpy", "scipy"},
    "models": {"cryptography", "matplotlib", "numpy", "onnx", "onnxruntime", "safetensors", "scipy", "soundfile"}
    | {"soxr", "torch"},
    "config": {"pydantic", "pydantic_core"},
}
"""What each folder may import of others."""

BANNED = {"operators": {"os", "time", "logging", "io", "pathlib", "datetime", "random", "threading", "sys"}}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, in full."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} if node.module not in OURS else {f"{node.module}.{a.name}" for a in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_folder_rules(path: Path) -> None:
    """Operators know no engine, connectors no lane, models no engine."""
    folder = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        first = name.split(".")[0]
        if folder in ALLOWED and first in OURS:
            assert any(name == ok or name.startswith(ok + ".") for ok in ALLOWED[folder]), f"{path} imports {name}"
        elif folder in THIRD and first not in {*OURS, *sys.stdlib_module_names}:
            assert first in THIRD[folder], f"{path} imports {name}"
        assert first not in BANNED.get(folder, set()), f"{path} imports {name}"
        if first == "torch":
            assert folder == "models", f"{path} imports torch"
        if first == "faust":
            assert "kafka" in path.parts, f"{path} imports faust"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_the_configuration_reads_the_environment(path: Path) -> None:
    """`os.environ` and `os.getenv` stand in config/ alone."""
    if path.relative_to(ROOT).parts[0] == "config":
        return
    text = path.read_text(encoding="utf-8")
    assert "os.environ" not in text and "getenv(" not in text, path


@pytest.mark.parametrize(
    "path", sorted(p for p in ROOT.rglob("*.py") if ".venv" not in p.parts), ids=lambda p: str(p.relative_to(ROOT))
)
def test_no_file_is_long(path: Path) -> None:
    """Above 400 lines a file holds more than one noun."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_function_is_long(path: Path) -> None:
    """Above 60 lines a function holds more than one verb; its docstring is free."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            told = ast.get_docstring(node, clean=False) or ""
            lines = (node.end_lineno or 0) - node.lineno + 1 - len(told.splitlines())
            assert lines <= 60, f"{node.name} has {lines} lines"


def test_importing_the_tables_runs_nothing() -> None:
    """A fresh interpreter imports topics and topology without threads, files or third-party servers."""
    code = (
        "import sys, threading; import pipeline.topology, pipeline.topics;"
        "assert threading.active_count() == 1;"
        "bad = {'torch', 'faust', 'kafka', 'influxdb_client', 'pyaudio', 'onnxruntime'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_topology_is_sound() -> None:
    """Every topic that is read is written, before, by somebody."""
    assert topology.check() == []


@pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.name)
def test_topic_row(topic: object) -> None:
    """Names are unique; what is kept says how long; what has a rate says when it is too old."""
    from pipeline.topics import Topic

    assert isinstance(topic, Topic)
    assert sum(other.name == topic.name for other in TOPICS) == 1
    assert topic.carries
    assert (topic.retention_h > 0) == (topic.kind != "wire")
    assert (topic.rate_hz > 0) == (topic.max_age_s > 0)
    used = {name for stage in topology.STAGES for name in (*stage.reads, *stage.writes)}
    outside = {"raw.frames", "context", "decision", "dlq"}  # read or written by the lane itself
    assert topic.name in used | outside
