"""Faust makes folders for tables; a worker has none, and writes only where its user said."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import faust
import pytest

from config.schema import Kafka
from pipeline.kafka.client import Client
from pipeline.kafka.faust_app import make_app


def our_app(_folder: Path) -> Any:
    """That of a worker."""

    async def put(_event: object) -> None: ...

    return make_app(Client(Kafka()), "w", ["raw.vibration"], put, lambda _tps: None, lambda: None)[0]


def plain_app(folder: Path) -> Any:
    """As Faust's guide has it."""
    return faust.App("plain", broker="kafka://127.0.0.1:1", datadir=folder / "data", web_enabled=False)


@pytest.mark.parametrize(("make", "folders"), [(our_app, []), (plain_app, ["data", "v1", "tables"])])
def test_a_worker_makes_no_folders_where_plain_faust_does(
    make: Any, folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It made /nonexistent as root, and did not start as anybody else."""
    made: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "mkdir", lambda path, **_: made.append(path.name))

    async def begin() -> None:
        app = make(tmp_path)
        app.finalize()
        await app.on_first_start()

    asyncio.run(begin())
    assert made == folders and list(tmp_path.iterdir()) == []
