"""Configuration: TOML files and their schema; the only place that reads the environment."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from config.schema import SCHEMA_VERSION, Settings
from pipeline.errors import ConfigError

__all__ = [
    "Settings",
    "build",
    "cache_home",
    "effective",
    "json_schema",
    "load",
    "migrate",
    "migrate_text",
    "notify_socket",
    "read_text",
]


def load(path: Path) -> Settings:
    """Read a configuration file.

    Relative paths in it are relative to the file. A secret written as ``env:NAME`` is read from the environment.

    Raises:
        ConfigError: names the file, the key, and what to write instead.
    """
    return build(migrate(_read(path), str(path)), path)


def build(raw: Mapping[str, Any], path: Path) -> Settings:
    """Validate what a file said; `path` names it in errors and anchors its relative paths."""
    try:
        return Settings.model_validate(_resolve(_with_folders(raw), path.resolve().parent))
    except ValidationError as error:
        raise ConfigError(_explain(path, error)) from None
    except RecursionError:
        raise ConfigError(f"{path}: its keys are nested too deeply") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}".encode(errors="backslashreplace").decode()) from None


def migrate(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """Bring an older file to the present schema version; a newer one is refused with its `name`.

    Version 0 was the draft without a version number and with one `[[machines]]` key; it differs in that name only.
    """
    version = raw.get("schema_version", 0)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ConfigError(
            f"{name}: schema_version = {version!r} is newer than this program knows ({SCHEMA_VERSION}): update stethos"
        )
    if version == 0:
        raw = {("machine" if key == "machines" else key): value for key, value in raw.items()}
        raw["schema_version"] = 1
    return raw


def migrate_text(text: str, name: str) -> str:
    """The same as `migrate` on a file's text: comments and order stay."""
    version = _parsed(text, name).get("schema_version", 0)
    migrate({"schema_version": version}, name)  # refuses what is newer
    if version == 0:
        text = re.sub(r"(?m)^(\s*\[\[\s*)machines(\s*[.\]])", r"\1machine\2", text)
        text = re.sub(r"(?m)^\s*schema_version\s*=.*\n", "", text)
        text = "schema_version = 1\n" + text
    return text


def effective(settings: Settings) -> dict[str, Any]:
    """The configuration with all defaults filled in and secrets masked, as JSON values."""
    return settings.model_dump(mode="json", by_alias=True)


def json_schema() -> dict[str, Any]:
    """The published JSON Schema of configuration files."""
    return Settings.model_json_schema(by_alias=True)


def cache_home() -> Path:
    """Where downloaded or built things may be kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stethos"


def notify_socket() -> str:
    """Where systemd wants to hear that we live; empty where it does not."""
    return os.environ.get("NOTIFY_SOCKET", "")


def read_text(path: Path) -> str:
    """A configuration file's text, its line ends as they are.

    Raises:
        ConfigError: it cannot be read; names the file.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")  # Windows editors begin a file with a mark
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `stethos config example` prints one to start from") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8: {error}") from None


def _read(path: Path) -> dict[str, Any]:
    return _parsed(read_text(path), str(path))


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers of thousands of digits, and of brackets as deep
        raise ConfigError(f"{name}: not valid TOML: {error}") from None


_SECRETS = {"token", "password"}
_PATH_KEYS = {
    "files", "state_dir", "folder", "baseline", "path", "ca_file", "cert_file", "key_file", "spool_folder",
    "encoder", "package", "shadow", "search", "classifier",
}  # fmt: skip

_PACKAGE_KEYS = {"encoder", "package", "shadow", "classifier"}
_SHIPPED = Path(__file__).parents[1] / "models" / "weights"


_FOLDERS = {"engine": "state_dir", "kafka": "spool_folder", "recording": "folder", "evidence": "folder"}


def _with_folders(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of folders written out, so that they count from the file, too, from wherever it is run."""
    filled = dict(raw)
    for section, key in _FOLDERS.items():
        table = filled.get(section, {})
        if isinstance(table, Mapping) and key not in table:
            filled[section] = {**table, key: str(getattr(Settings.model_fields[section].default, key))}
    return filled


def _resolve(value: Any, base: Path, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _resolve(item, base, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, base, key) for item in value]
    if key in _PATH_KEYS and isinstance(value, str) and (key, value) != ("encoder", "logmel"):
        # a bare name may be that of a package that ships; where a folder was written, nothing stands in for it
        bare = key in _PACKAGE_KEYS and Path(value).name == value and not (base / value).exists()
        path = str(_SHIPPED / value if bare and (_SHIPPED / value).is_dir() else base / value)
        try:
            path.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"{key} = {value!r} is {path!r}: the folder's name is not UTF-8: rename it, or write an absolute path "
                "outside of it"
            ) from None
        return path
    if key in _SECRETS and isinstance(value, str) and value.startswith("env:"):
        name = value.removeprefix("env:")
        if name not in os.environ:
            raise ConfigError(
                f"{key} = {value!r}: the environment has no variable {name}; set it, or read the file that the service "
                "reads it from (set -a; . /etc/stethos/environment; set +a)"
            )
        return os.environ[name]
    return value


def _explain(path: Path, error: ValidationError) -> str:
    """One line per mistake; never a secret, and never a part that may hold one."""
    known = dict(_keys(json_schema()))
    return "\n".join(_line(path, item, known) for item in error.errors() if not _follows(item))


def _line(path: Path, item: ErrorDetails, known: Mapping[tuple[str, ...], _Key]) -> str:
    key = ".".join(str(part) for part in item["loc"])
    where = f"{path}: {key}" if key else str(path)
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key{_nearest(item['loc'], known)}"
    if item["type"] == "tuple_type":
        place = _place(item["loc"], known)
        mend = f"[[{'.'.join(place)}]]" if known[place].tables else f"{place[-1]} = [...]"
        return f"{where}: must be a list; write {mend}"
    got, secret = item["input"], any(known[p].secret for p in known if p[-1] in item["loc"])
    shown = f" (got {got!r})" if isinstance(got, str | int | float) and not secret else ""
    return f"{where}: {item['msg'].removeprefix('Value error, ')}{shown}"[:400]


def _follows(item: ErrorDetails) -> bool:
    """A list that is too short only because its items are wrong: these have lines of their own."""
    return item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]


class _Key(NamedTuple):
    """What the schema says of a key: a secret, or a list of tables."""

    secret: bool
    tables: bool


def _keys(schema: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], _Key]]:
    """Every key of the schema by its path, without the places in lists and whatever union it goes through."""

    def forms(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        parts = [*node.get("anyOf", ()), *node.get("oneOf", ())]
        for part in parts:
            yield from forms(part)
        if not parts:
            yield node

    def walk(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], _Key]]:
        for form in forms(node):
            for name, child in form.get("properties", {}).items():
                secret = name in _SECRETS or any(f.get("format") == "password" for f in forms(child))
                items = [i for f in forms(child) if "items" in f for i in forms(f["items"])]
                yield (*path, name), _Key(secret, bool(items) and all("properties" in i for i in items))
                yield from walk(child, (*path, name))
            if "items" in form:
                yield from walk(form["items"], path)

    return walk(schema, ())


def _place(loc: tuple[int | str, ...], known: Mapping[tuple[str, ...], _Key]) -> tuple[str, ...]:
    """The deepest known key on the way to an error."""
    place: tuple[str, ...] = ()
    for part in loc:
        if isinstance(part, str) and (*place, part) in known:
            place = (*place, part)
    return place


def _nearest(loc: tuple[int | str, ...], known: Mapping[tuple[str, ...], _Key]) -> str:
    section, key = _place(loc[:-1], known), str(loc[-1])
    here = {path[-1] for path in known if path[:-1] == section}
    names = {path[-1] for path in known}
    alike = 0.9 if key in names else 0.6  # a name that fits elsewhere must be all but the same as one here
    if close := difflib.get_close_matches(key, sorted(here), n=1, cutoff=alike):
        return f"; did you mean '{close[0]}'?"
    close = [key] if key in names else difflib.get_close_matches(key, sorted(names), n=1, cutoff=0.8)
    if not close:
        return "; `stethos config schema` lists the known ones"
    homes = [".".join(path) for path in known if path[-1] == close[0]]
    return f" here; it belongs in another section: {' or '.join(homes[:3])}"
