"""`stethos baseline`: what is there, what is in force, and going to another one and back."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import config
from models.anomaly import store as baselines
from pipeline import app
from pipeline.claim import claim
from pipeline.cli.baseline import baseline
from pipeline.clock import HostClock
from pipeline.errors import BadInput, ConfigError, StateError
from pipeline.state import Store
from tests.fixtures.make_v1 import OUT


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A configuration and two baselines of its accelerometer, without a state."""
    for name in ("v1.toml", "baselines"):
        copy = shutil.copytree if (OUT / name).is_dir() else shutil.copy
        copy(OUT / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def engine(site: Path) -> Iterator[None]:
    """A shard that obeys commands as a running engine does."""
    plan = app.plan(config.load(site / "v1.toml"))
    Store(plan.state).close()
    stop = threading.Event()

    def run() -> None:
        shard = app.ShardBuilder(plan, HostClock(), record=False)("shard-0", plan.lanes)
        while not stop.wait(0.02):
            shard.checkpoint()

    thread = threading.Thread(target=run)
    with claim(plan.state):
        thread.start()
        yield
        stop.set()
        thread.join()


def stethos(site: Path, *args: str) -> Result:
    """`stethos baseline …` with this site's configuration."""
    return CliRunner().invoke(baseline, [*args, "--config", str(site / "v1.toml")])


def in_force(site: Path) -> list[str]:
    """The baselines that are in force, by their short names."""
    rows = json.loads(stethos(site, "list", str(site / "baselines"), "--json").output)
    assert len(rows) == 2
    return [row["baseline"] for row in rows if row["in_force"]]


def test_to_another_baseline_and_back(site: Path, engine: None) -> None:
    """Each step is a decision; what it names lies in the state directory."""
    current = baselines.load_all(site / "baselines")["press", "accelerometer"]
    folders = {f.name.rsplit("-", 1)[1]: f for f in (site / "baselines").iterdir() if f.is_dir()}
    assert in_force(site) == [current.settings]
    (other,) = set(folders) - {current.settings}
    for chosen in (other, current.settings):
        done = stethos(site, "use", str(folders[chosen]))
        assert done.exit_code == 0, done.exception
        assert f"press/accelerometer: baseline {chosen}" in done.output and "in force by decision" in done.output
        assert in_force(site) == [chosen]
        assert baselines.load(site / "state/baselines" / folders[chosen].name).settings == chosen
    kinds = [(d.kind, d.body["baseline"]) for d in Store(site / "state/stethos.sqlite").decisions()]
    assert kinds == [("baseline", other), ("baseline", current.settings)]
    assert "in force" in stethos(site, "list", str(site / "baselines")).output


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (('unit = "mg"', 'unit = "g"'), BadInput, "commissioned at unit mg, but press/accelerometer has g"),
        (("rate_hz = 2000", "rate_hz = 4000"), BadInput, "at rate 2000 Hz, but press/accelerometer has 4000 Hz"),
        (('name = "press"', 'name = "punch"'), ConfigError, "has no sensor press/accelerometer"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_is_a_decision(
    site: Path, change: tuple[str, str], error: type[Exception], words: str
) -> None:
    """The engine is not even asked."""
    text = (site / "v1.toml").read_text().replace(*change, 1)
    (site / "v1.toml").write_text(text)
    done = stethos(site, "use", str(site / "baselines"))
    assert isinstance(done.exception, error) and words in str(done.exception)
    assert not (site / "state").exists()


def test_without_an_engine(site: Path) -> None:
    """The message says what to start."""
    done = stethos(site, "use", str(site / "baselines"))
    assert isinstance(done.exception, StateError) and "start `stethos run`" in str(done.exception)
    done = stethos(site, "list", str(site))
    assert isinstance(done.exception, StateError) and "holds no baseline" in str(done.exception)
