"""Every `stethos` line in the documents names a command and options that exist; every file that they name is there."""

from __future__ import annotations

import re
import shlex
import tomllib
from configparser import ConfigParser
from pathlib import Path

import click
import pytest

from config.schema import Settings
from pipeline.cli.main import stethos

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of one language."""
    return [body for found, body in BLOCK.findall(path.read_text(encoding="utf-8")) if found == language]


def console_lines() -> list[tuple[Path, str]]:
    """Every line that the reader is told to type, without prompt and comment."""
    return [
        (path, line.removeprefix("$ ").split("  #")[0].strip())
        for path in DOCUMENTS
        for body in blocks(path, "console")
        for line in body.splitlines()
        if line.startswith("$ ")
    ]


def stethos_lines() -> list[tuple[Path, str]]:
    """Those of them that call stethos, and those in sentences: `stethos …` between backticks."""
    typed = [(path, line) for path, line in console_lines() if line.startswith("stethos")]
    said = [
        (path, line)
        for path in DOCUMENTS
        for line in re.findall(r"`(stethos [a-z][^`\n]*)`", path.read_text(encoding="utf-8"))
        if "…" not in line and "|" not in line
    ]
    return [*typed, *said]


def wrong(line: str) -> str | None:
    """What stethos would not understand; None if it would parse the line."""
    words = shlex.split(line.split(" > ")[0])[1:]
    command: click.Command = stethos
    context = click.Context(stethos)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        if found is None:
            return f"no command {words[0]!r}"
        command, words = found, words[1:]
    takes_value = {o: not p.is_flag and p.nargs for p in command.params if isinstance(p, click.Option) for o in p.opts}
    free = 0
    while words:
        word = words.pop(0)
        if not word.startswith("-"):
            free += 1
            continue
        name = word.split("=")[0]
        if name not in takes_value and name not in {"--help", "-h", "--version"}:
            return f"no option {name!r}"
        del words[: 0 if "=" in word else int(takes_value.get(name, 0))]
    arguments = [p for p in command.params if isinstance(p, click.Argument)]
    most = None if any(a.nargs == -1 for a in arguments) else len(arguments)
    return f"{free} arguments, {most} are taken" if most is not None and free > most else None


def named(lines: list[tuple[Path, str]]) -> list[object]:
    """As parameters with readable names."""
    return [pytest.param(line, id=f"{path.relative_to(ROOT)}: {line}") for path, line in dict.fromkeys(lines)]


@pytest.mark.parametrize("line", named(stethos_lines()))
def test_stethos_understands(line: str) -> None:
    """Command, options, and no more arguments than it takes."""
    assert wrong(line) is None


def test_the_check_sees_what_is_wrong() -> None:
    """Else it would prove nothing."""
    assert wrong("stethos replay a.mcap --journal j.jsonl") is None
    assert wrong("stethos replay --compare a.jsonl b.jsonl") is None
    assert wrong("stethos repaly a.mcap") == "no command 'repaly'"
    assert wrong("stethos replay a.mcap --jurnal j") == "no option '--jurnal'"
    assert wrong("stethos config chekc f") == "no command 'chekc'"
    assert wrong("stethos journal a b") == "2 arguments, 1 are taken"


def test_the_documents_have_commands() -> None:
    """The pattern finds them."""
    files = {path.name for path, _ in console_lines()}
    assert {"README.md", "first-machine.md", "commission.md", "operate.md", "replay.md", "data.md"} <= files


@pytest.mark.parametrize("line", named([c for c in console_lines() if not c[1].startswith("stethos")]))
def test_other_commands(line: str) -> None:
    """What a console block names beside stethos is a job of the Makefile, or a script or module of the repository."""
    words = shlex.split(line, comments=True)
    if words[0].endswith("python"):
        target = words[2].replace(".", "/") if words[1] == "-m" else words[1]
        assert any((ROOT / f"{target}{end}").exists() for end in ("", ".py"))
        return
    assert words[0] == "make"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{word}:", makefile, re.MULTILINE) for word in words[1:] if "=" not in word)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_that_documents_name(path: Path) -> None:
    """Scripts, units, test folders and modules."""
    text = path.read_text(encoding="utf-8")
    names = re.findall(
        r"\b((?:scripts|docker|tests|config|pipeline|locks)/[\w./-]*\w\.(?:py|md|toml|service|yml))\b", text
    )
    missing = [name for name in names if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_configuration_in_documents(path: Path) -> None:
    """Each excerpt is TOML, and its tables are tables of the schema."""
    known = Settings.model_json_schema(by_alias=True)["properties"]
    for body in blocks(path, "toml"):
        assert set(tomllib.loads(body)) <= set(known) | {"source", "recording"}, body


def test_snippets_of_machines_run_as_they_stand() -> None:
    """The drill and the mills: valid under the schema, and every sensor has a source."""
    snippets = blocks(ROOT / "docs/how-to/drill-and-chatter.md", "toml")
    settings = [Settings.model_validate({"schema_version": 1, **tomllib.loads(body)}) for body in snippets]
    sensors = [sensor for one in settings for machine in one.machines for sensor in machine.sensors]
    assert len(sensors) == 5 and all(sensor.source is not None for sensor in sensors)


def test_the_unit_starts_what_exists() -> None:
    """Type, watchdog and command line of the systemd unit."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment]
    unit.read(ROOT / "docker/systemd/stethos.service")
    service = unit["Service"]
    assert (service["Type"], service["NotifyAccess"], service["Restart"]) == ("notify", "main", "on-failure")
    assert int(service["WatchdogSec"]) >= 10
    program, _, rest = service["ExecStart"].partition(" ")
    assert Path(program).name == "stethos" and wrong(f"stethos {rest}") is None
    assert service["UnsetEnvironment"] == "PYTHONPATH"


def test_the_broker_of_the_compose_file_writes_into_its_volume() -> None:
    """What it wrote elsewhere would be gone with its container."""
    text = (ROOT / "docker/kafka/compose.yaml").read_text(encoding="utf-8")
    folders = re.findall(r"^      KAFKA_LOG_DIRS: (\S+)$", text, re.MULTILINE)
    assert folders == re.findall(r"^      - kafka:(\S+)$", text, re.MULTILINE) != []
