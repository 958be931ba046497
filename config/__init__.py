"""Configuration: TOML files and their schema; the only place that reads the environment."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

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
        return Settings.model_validate(_resolve(raw, path.resolve().parent))
    except ValidationError as error:
        raise ConfigError(_explain(path, error)) from None


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
    try:
        version = tomllib.loads(text).get("schema_version", 0)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}") from None
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


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; `stethos config example` prints one to start from") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


_PATH_KEYS = {
    "files", "state_dir", "folder", "baseline", "path", "ca_file", "cert_file", "key_file", "spool_folder",
    "encoder", "package", "shadow", "search", "classifier",
}  # fmt: skip


def _resolve(value: Any, base: Path, key: str = "") -> Any:
    if isinstance(value, Mapping):
        return {name: _resolve(item, base, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, base, key) for item in value]
    if key in _PATH_KEYS and isinstance(value, str) and (key, value) != ("encoder", "logmel"):
        return str(base / value)
    if key in {"token", "password"} and isinstance(value, str) and value.startswith("env:"):
        name = value.removeprefix("env:")
        if name not in os.environ:
            raise ConfigError(f"{key} = {value!r}: the environment has no variable {name}")
        return os.environ[name]
    return value


def _explain(path: Path, error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            lines.append(f"{path}: {key}: unknown key{_nearest(str(item['loc'][-1]), _known_keys())}")
        else:
            lines.append(f"{path}: {key}: {item['msg']} (got {item.get('input')!r})"[:400])
    return "\n".join(lines)


def _known_keys() -> set[str]:
    """Every key of the schema: close enough for a hint, whatever union the location went through."""
    schema = json_schema()
    keys = set(schema.get("properties", {}))
    for part in schema.get("$defs", {}).values():
        keys |= set(part.get("properties", {}))
    return keys


def _nearest(key: str, known: set[str]) -> str:
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else "; `stethos config schema` lists the known ones"
