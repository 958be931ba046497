"""`stethos models list|show|verify`: which model packages there are, what they are, and whether they are whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from models.packages.card import Card, parse
from models.packages.checks import CARD, SIGNATURE, SUMS, read_files
from models.packages.package import load
from models.packages.shipped import WEIGHTS, locate, packages_in
from pipeline.cli.lazy import Lazy
from pipeline.errors import BadInput, ConfigError, StateError

_COMMANDS = {
    "list": "pipeline.cli.models:list_",
    "promote": "pipeline.cli.models_live",
    "rollback": "pipeline.cli.models_live",
    "running": "pipeline.cli.models_running",
    "shadow": "pipeline.cli.models_live",
    "show": "pipeline.cli.models",
    "verify": "pipeline.cli.models",
}
_JSON = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.group(cls=Lazy, where=_COMMANDS)
def models() -> None:
    """Model packages: what is there, whether it is whole, and which are in force on a running engine."""


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@_JSON
def list_(folders: tuple[Path, ...], as_json: bool) -> int:
    """List the packages in FOLDERS, or those that ship. Hashes are verified, nothing is run; 1 if one is damaged."""
    rows = []
    for folder in folders or (WEIGHTS,):
        if not folder.is_dir() and folders:
            raise ConfigError(f"{folder}: is no folder; name a model package or a folder of them")
        rows += [_row(path) for path in packages_in(folder)]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        for row in rows:
            click.echo(_line(row))
        if not rows:
            click.echo(f"no model packages in {', '.join(map(str, folders or (WEIGHTS,)))}", err=True)
    return 1 if any("error" in row for row in rows) else 0


@click.command()
@click.argument("package")
@_JSON
def show(package: str, as_json: bool) -> int:
    """Print the card of PACKAGE (a folder, or the name of one that ships). Hashes are verified, nothing is run."""
    folder = _folder(package)
    try:
        card, digest, _ = _read(folder)
    except (BadInput, StateError) as error:
        return _failed(error, folder, as_json)
    if as_json:
        click.echo(json.dumps({"path": str(folder), "digest": digest, **asdict(card)}, indent=2, ensure_ascii=False))
        return 0
    click.echo(f"{card.name} {card.version} ({card.kind})  {digest}")
    for key, value in asdict(card).items():
        if key not in {"name", "version", "kind", "schema"} and value not in ("", None, {}, ()):
            click.echo(f"  {key}:{_indented(value)}")
    return 0


@click.command()
@click.argument("packages", nargs=-1, required=True)
@click.option("--public-key", help="Minisign key, or its .pub file, with which the packages must be signed.")
@_JSON
def verify(packages: tuple[str, ...], public_key: str | None, as_json: bool) -> int:
    """Verify PACKAGES as the engine does before it runs them: files, hashes, card, graph, golden rows, signature."""
    key = None if public_key is None else _key(public_key)
    rows = [_verified(_folder(name), key) for name in packages]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    for row in rows:
        if as_json:
            continue
        click.echo(f"{row['path']}: {'damaged or unfit: ' + row['error'] if 'error' in row else _verdict(row)}")
    return 1 if any("error" in row for row in rows) else 0


def _verified(folder: Path, key: str | None) -> dict[str, Any]:
    try:
        package = load(folder, key)
    except (BadInput, StateError) as error:
        return {"path": str(folder), "ok": False, "reason": getattr(error, "reason", "damaged"), "error": str(error)}
    return {
        "path": str(folder), "ok": True, "name": package.card.name, "version": package.card.version,
        "digest": package.digest, "deviation": package.deviation, "alone": package.alone, "signed": package.signed,
    }  # fmt: skip


def _verdict(row: dict[str, Any]) -> str:
    rows = "every row alone in its batch" if row["alone"] else "rows give the same bits at every place of a batch"
    signed = "signed" if row["signed"] else "signature not asked for"
    return (
        f"{row['name']} {row['version']} is whole; golden rows deviate by {row['deviation']:.1g}, {rows}; {signed}; "
        f"digest {row['digest'][:16]}"
    )


def _folder(name: str) -> Path:
    try:
        return locate(name)
    except StateError as error:
        raise ConfigError(str(error)) from None


def _key(text: str) -> str:
    """The base64 line of a minisign public key, given itself or as a file."""
    try:
        return Path(text).read_text(encoding="utf-8").splitlines()[-1] if Path(text).is_file() else text
    except (OSError, ValueError, IndexError) as error:
        raise ConfigError(f"--public-key {text}: cannot be read: {error}") from None


def _read(folder: Path) -> tuple[Card, str, dict[str, bytes]]:
    files = read_files(folder)
    return parse(files[CARD], str(folder / CARD)), hashlib.sha256(files[SUMS]).hexdigest(), files


def _row(folder: Path) -> dict[str, Any]:
    try:
        card, digest, files = _read(folder)
    except (BadInput, StateError) as error:
        return {"path": str(folder), "error": str(error)}
    return {
        "path": str(folder), "name": card.name, "version": card.version, "kind": card.kind, "digest": digest,
        "bytes": sum(map(len, files.values())), "labels": list(card.labels), "encoder": card.encoder,
        "signature": SIGNATURE in files,
    }  # fmt: skip


def _line(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"damaged           {row['error']}"
    what = f"{row['name']} {row['version']}"
    return f"{row['digest'][:16]}  {row['kind']:<11}{what:<28}{row['bytes'] / 1e6:>7.2f} MB  {row['path']}"


def _indented(value: Any) -> str:
    if not isinstance(value, dict):
        return f" {json.dumps(value, ensure_ascii=False)}"
    return "".join(f"\n    {key}: {json.dumps(item, ensure_ascii=False)}" for key, item in value.items())


def _failed(error: BadInput | StateError, folder: Path, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps({"path": str(folder), "error": str(error)}, indent=2))
    else:
        click.echo(f"error: {error}", err=True)
    return 1
