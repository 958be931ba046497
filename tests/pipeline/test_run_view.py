"""The picture that `stethos run` draws in a terminal."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rich
import soundfile

import config as configuration
from connectors.evidence import evidence_name
from pipeline import app
from pipeline.cli.main import main
from pipeline.messages import NS
from pipeline.state import Store
from tests.connectors.result_records import alarm
from tests.signals import own_signals

__all__ = ["own_signals"]

TOML = """schema_version = 1
[engine]
state_dir = "state"
[recording]
folder = "recordings"
[evidence]
enabled = false
folder = "kept"
[status]
enabled = false
[[machine]]
name = "mill-3"
spindle = { rpm = 9000, teeth = 3 }
[[machine.sensor]]
name = "accel"
modality = "vibration"
rate_hz = 16000
unit = "m/s2"
[[machine.sensor]]
name = "mic"
modality = "acoustic"
rate_hz = 16000
unit = "FS"
source = { type = "playback", files = ["air.wav"], speed = 0 }
"""


def test_a_run_says_where_to_listen_and_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `stethos watch` does: what is kept is where the configuration has it, even if nothing more is added."""
    file = tmp_path / "stethos.toml"
    file.write_text(TOML)
    soundfile.write(tmp_path / "air.wav", np.zeros(16_000), 16_000, subtype="PCM_16")
    plan = app.plan(configuration.load(file))
    store, now = Store(plan.state), time.time_ns()
    raised = alarm(1, now, "raised", 0, now - NS)
    store.commit([raised])
    store.close()
    told = {"alarm": raised.body["alarm"], "file": f"{evidence_name(raised.body)}.json", "missing": []}
    parts = [{"sensor": "mic", "sound": "a.wav", "picture": "a.png"}]
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / str(told["file"])).write_text(json.dumps({**told, "parts": parts}))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(rich, "_console", None)  # the one that is made here believes in a terminal: not for others
    with pytest.raises(SystemExit) as end:
        main(["run", "--config", str(file), "--for", "2"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and raised.body["text"] in said
    assert "listen: a.wav   look: a.png" in said
