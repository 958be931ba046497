"""Configuration: closed, versioned, and helpful when it is wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

import config
from config.pretrain import load_pretrain
from config.sinks import InfluxTopic, JournalSinkConfig, ResultTopic
from connectors.influxdb import _POINTS
from pipeline.errors import ConfigError
from pipeline.topics import TOPICS

ROOT = Path(__file__).parent.parent.parent
GOOD = """
schema_version = 1
[[machine]]
name = "lathe"
[[machine.sensor]]
name = "mic"
modality = "acoustic"
rate_hz = 48000
unit = "FS"
"""


def load(tmp_path: Path, text: str) -> config.Settings:
    """Load a configuration from text."""
    path = tmp_path / "c.toml"
    path.write_text(text)
    return config.load(path)


def test_defaults_and_relative_paths(tmp_path: Path) -> None:
    """Paths are relative to the file, whatever the working directory."""
    text = GOOD + 'baseline = "b/x"\n[machine.sensor.source]\ntype = "playback"\nfiles = ["a.wav"]\n'
    settings = load(tmp_path, text)
    sensor = settings.machines[0].sensors[0]
    assert sensor.baseline == tmp_path / "b/x"
    assert sensor.source is not None and sensor.source.type == "playback"
    assert sensor.source.files == (tmp_path / "a.wav",)
    assert settings.status.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("rate_hz", "rate_hs"), ["machine.0.sensor.0.rate_hs", "did you mean 'rate_hz'"]),
        (("48000", "-1"), ["rate_hz", "greater than 0"]),
        (('"acoustic"', '"sonic"'), ["modality", "'acoustic'"]),
        (('"lathe"', '"a/b"'), ["machine.0.name"]),
        (("schema_version = 1", "schema_version = 2"), ["newer", "update stethos"]),
        (("[[machine]]", "[[machine"), ["not valid TOML"]),
    ],
)
def test_errors_name_file_key_and_mend(tmp_path: Path, change: tuple[str, str], words: list[str]) -> None:
    """What is wrong, where, and what to write instead."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace(*change, 1))
    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_says_how_to_begin(tmp_path: Path) -> None:
    """No traceback for a typo."""
    with pytest.raises(ConfigError, match="config example"):
        config.load(tmp_path / "none.toml")


def test_names_that_are_used_twice_are_refused(tmp_path: Path) -> None:
    """Two machines of one name would share a lane."""
    with pytest.raises(ConfigError, match="used twice: lathe"):
        load(tmp_path, GOOD + GOOD.split("schema_version = 1")[1])


def test_secrets_come_from_the_environment_and_stay_out_of_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`env:NAME` is resolved; the effective configuration masks it; a missing variable is named."""
    sink = '[[sink]]\ntype = "influxdb"\nurl = "http://localhost"\norg = "o"\nbucket = "b"\ntoken = "env:STETHOS_T"\n'
    with pytest.raises(ConfigError, match="STETHOS_T"):
        load(tmp_path, GOOD + sink)
    monkeypatch.setenv("STETHOS_T", "sesame")
    settings = load(tmp_path, GOOD + sink)
    assert settings.sinks[0].type == "influxdb"
    assert settings.sinks[0].token.get_secret_value() == "sesame"
    assert "sesame" not in str(config.effective(settings))


def test_migration_keeps_comments_and_order() -> None:
    """Version 0 differs in a name; the text around it stays."""
    old = '# ours\nsite = "hall"\n[[machines]] # first\nname = "lathe"\n[[machines.sensor]]\nname = "mic"\n'
    new = config.migrate_text(old, "c.toml")
    assert tomllib.loads(new)["schema_version"] == 1
    assert "# ours" in new and "[[machine]] # first" in new and "[[machine.sensor]]" in new
    assert config.migrate_text(new, "c.toml") == new


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ("a = " + "[" * 3000, "c.toml: not valid TOML"),
        ("a = " + "9" * 5000, "c.toml: not valid TOML"),
        (".".join("a" * 1000) + " = 1", "c.toml: its keys are nested too deeply"),
    ],
)
def test_text_that_exhausts_the_parser_is_refused_in_a_line(tmp_path: Path, odd: str, words: str) -> None:
    """Brackets, digits and dots that Python gives up on, each with an exception of its own."""
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, odd)
    if "TOML" in words:
        with pytest.raises(ConfigError, match=words):
            config.migrate_text(odd, "c.toml")
        with pytest.raises(ConfigError, match=words):
            load_pretrain(tmp_path / "c.toml")


def test_the_example_is_valid() -> None:
    """What `stethos config example` prints can be used."""
    config.load(ROOT / "config" / "example.toml")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ('[kafka]\npassword = "env:STETHOS_T"\n', "kafka: username and password belong together"),
        ('[fast_lane.mqtt]\npassword = "env:STETHOS_T"\n', "fast_lane.mqtt: username and password belong together"),
        ('[kafka]\nusername = "u"\npassword = ["env:STETHOS_T"]\n', "kafka.password: Input should be a valid string"),
        ('[kafka]\nusername = "u"\npassword = 5353\n', "kafka.password: Input should be a valid string"),
        ('[[sink]]\ntype = "influxdb"\nurl = "u"\nbucket = "b"\ntoken = "env:STETHOS_T"\n', "org: Field required"),
        ('[[sink]]\ntype = "x"\ntoken = "env:STETHOS_T"\n', "sink.0: Input tag 'x'"),
        ('[kafka]\ntoken = "env:STETHOS_T"\n', "kafka.token: unknown key"),
    ],
)
def test_errors_tell_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, words: str) -> None:
    """Neither a secret with an error of its own, nor one beside what is wrong."""
    monkeypatch.setenv("STETHOS_T", "sesame")
    with pytest.raises(ConfigError, match=words) as caught:
        load(tmp_path, GOOD + part)
    assert "sesame" not in str(caught.value) and "5353" not in str(caught.value)


INFLUX = '[[sink]]\ntype = "influxdb"\norg = "o"\nbucket = "b"\ntoken = "sesame"\n'


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (f'{INFLUX}url = "http://influx.plant.example:8086"\n', "http sends the token as it is: write https://"),
        (f'{INFLUX}url = "http://10.0.0.7"\n', "http sends the token"),
        (f'{INFLUX}url = "http://admin:sesame@localhost:8086"\n', "the url holds a login"),
        (f'{INFLUX}url = "https://admin:se/sesame@influx:8086"\n', "the url holds a login"),
        (f'{INFLUX}url = "http://[sesame"\n', "the url is none"),
        (f'{INFLUX}url = "https://"\n', "the url is none"),
        (f'{INFLUX}url = "https://localhost:99999"\n', "the url is none"),
        (f'{INFLUX}url = "http://localhost:8086"\nca_file = "ca.pem"\n', "ca_file is for TLS"),
        ('[fast_lane.mqtt]\nhost = "plc"\nusername = "u"\npassword = "sesame"\n', "MQTT sends the password as it is"),
    ],
)
def test_what_others_could_listen_to_is_refused(tmp_path: Path, part: str, words: str) -> None:
    """Without telling it."""
    with pytest.raises(ConfigError, match=words) as caught:
        load(tmp_path, GOOD + part)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "part",
    [
        f'{INFLUX}url = "https://influx.plant.example:8086"\nca_file = "ca.pem"\n',
        f'{INFLUX}url = "http://influxdb:8086"\nunencrypted = true\n',
        '[fast_lane.mqtt]\nhost = "plc"\nusername = "u"\npassword = "p"\nunencrypted = true\n',
        *(f'{INFLUX}url = "http://{here}:8086"\n' for here in ("localhost", "127.0.0.1", "[::1]")),
        *(f'[fast_lane.mqtt]\nhost = "{here}"\nusername = "u"\npassword = "p"\n' for here in ("localhost", "::1")),
        '[fast_lane.mqtt]\nhost = "plc"\n',
        '[fast_lane.mqtt]\nhost = "plc"\nusername = "u"\npassword = "p"\ntls = true\n',
    ],
)
def test_what_nobody_else_hears_is_taken(tmp_path: Path, part: str) -> None:
    """On this box, encrypted, or no secret at all."""
    for sink in load(tmp_path, GOOD + part).sinks:
        assert sink.type == "influxdb" and sink.ca_file in {None, tmp_path / "ca.pem"}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            GOOD.replace("rate_hz", "rate"),
            [
                "machine.0.sensor.0.rate_hz: Field required",
                "machine.0.sensor.0.rate: unknown key; did you mean 'rate_hz'?",
            ],
        ),
        (GOOD.replace("48000", "-1"), ["machine.0.sensor.0.rate_hz: Input should be greater than 0 (got -1)"]),
        (GOOD + "[spindle]\nrpm = 9\n", ["spindle: unknown key here; it belongs in another section: machine.spindle"]),
        (
            GOOD.replace("[[machine.sensor]]", "[[machine.sensors]]"),
            ["machine.0.sensor: Field required", "machine.0.sensors: unknown key; did you mean 'sensor'?"],
        ),
        (GOOD + "[spindel]\nrpm = 9\n", ["spindel: unknown key here; it belongs in another section: machine.spindle"]),
        (
            GOOD + '[machine.sensor.source]\ntype = "playback"\nfiles = ["a.wav"]\npace = 1\n',
            ["machine.0.sensor.0.source.playback.pace: unknown key; `stethos config schema` lists the known ones"],
        ),
        (GOOD + "[zzz]\n", ["zzz: unknown key; `stethos config schema` lists the known ones"]),
        (GOOD.replace("[[machine]]", "[machine]"), ["machine: must be a list; write [[machine]]"]),
        (
            GOOD.replace("[[machine.sensor]]", "[machine.sensor]"),
            ["machine.0.sensor: must be a list; write [[machine.sensor]]"],
        ),
        (
            GOOD + '[machine.sensor.source]\ntype = "playback"\nfiles = "a.wav"\n',
            ["machine.0.sensor.0.source.playback.files: must be a list; write files = [...]"],
        ),
        (
            GOOD + '[machine.sensor.source]\ntype = "playback"\nfiles = []\n',
            ["machine.0.sensor.0.source.playback.files: Tuple should have at least 1 item after validation, not 0"],
        ),
        (GOOD + GOOD.split("schema_version = 1")[1], ["machine names are used twice: lathe"]),
    ],
)
def test_one_line_for_each_mistake(tmp_path: Path, text: str, lines: list[str]) -> None:
    """No line for what only follows from another."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(caught.value).splitlines() == [f"{tmp_path / 'c.toml'}: {line}" for line in lines]


def test_a_package_that_ships_is_named_barely(tmp_path: Path) -> None:
    """A folder beside the file goes first; where a folder was written, nothing stands in for it."""

    def encoder(name: str) -> object:
        model = load(tmp_path, f'{GOOD}[machine.model]\nencoder = "{name}"\n').machines[0].model
        assert model is not None
        return model.encoder

    assert encoder("impact-small") == ROOT / "models" / "weights" / "impact-small"
    for name in ("/srv/gone/impact-small", "gone/impact-small", "gone"):
        assert encoder(name) == tmp_path / name
    (tmp_path / "impact-small").mkdir()
    assert encoder("impact-small") == tmp_path / "impact-small"


def test_sinks_name_topics_that_there_are() -> None:
    """A misspelt topic would be a sink that never writes."""
    out = {topic.name for topic in TOPICS if topic.kind == "out"}
    assert set(get_args(ResultTopic)) == out | {"decision"}
    assert set(get_args(InfluxTopic)) == set(_POINTS)
    for wrong in (["alarms"], []):
        with pytest.raises(ValidationError, match="topics"):
            JournalSinkConfig.model_validate({"type": "jsonl", "path": "x", "topics": wrong})


@pytest.mark.parametrize(
    ("spindle", "more", "rate", "reason"),
    [
        ("rpm = 9000\nteeth = 3\nlowest_rpm = 12000", "", 8000, "must rise, not 12000, 9000"),
        ("rpm = 9000\nteeth = 3\nhighest_rpm = 5000", "", 8000, "must rise, not 9000, 5000"),
        ('rpm = 9000\nteeth = 3\ncutting_states = ["cut"]', "", 8000, "need a state_context"),
        ("rpm = 9000\nteeth = 3", "", 1000, "chatter needs a sensor of 2000 Hz"),
        ('rpm = 9000\nteeth = 3\ncutting_states = ["cut"]', 'state_context = "state"', 2000, None),
        (
            'rpm = 9000\nteeth = 3\nlearning_states = ["setup"]',
            "",
            8000,
            "the learning_states of machine .* need a state",
        ),
        ('rpm = 9000\nlearning_states = ["setup"]', 'state_context = "state"', 8000, "tell the teeth"),
        ('rpm = 9000\nteeth = 3\nlearning_states = ["setup"]', 'state_context = "state"', 8000, None),
        ("rpm = 9000", "", 1000, None),
    ],
)
def test_a_spindle_that_could_never_be_judged_is_refused(
    tmp_path: Path, spindle: str, more: str, rate: int, reason: str | None
) -> None:
    file = tmp_path / "plant.toml"
    sensor = f'[[machine.sensor]]\nname = "acc"\nmodality = "vibration"\nrate_hz = {rate}\nunit = "m/s2"\n'
    file.write_text(f'schema_version = 1\n[[machine]]\nname = "mill"\n{more}\n[machine.spindle]\n{spindle}\n{sensor}')
    if reason is None:
        assert config.load(file).machines[0].spindle is not None
        return
    with pytest.raises(ConfigError, match=reason):
        config.load(file)


def test_a_file_that_begins_with_a_mark_is_read(tmp_path: Path) -> None:
    """As editors of Windows write UTF-8."""
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert config.load(tmp_path / "c.toml").machines


def test_folders_that_are_not_named_lie_beside_the_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from another directory, the engine must find its state, and a second one the first one's lock."""
    path = tmp_path / "conf" / "c.toml"
    path.parent.mkdir()
    path.write_text(GOOD)
    named = tmp_path / "conf" / "named.toml"
    named.write_text(GOOD + '[engine]\nstate_dir = "var/state"\n')
    for cwd in (tmp_path, path.parent):
        monkeypatch.chdir(cwd)
        settings = config.load(path)
        base = path.parent / "var"
        assert settings.engine.state_dir == config.load(named).engine.state_dir == base / "state"
        assert (settings.recording.folder, settings.evidence.folder) == (base / "recordings", base / "evidence")
        assert settings.kafka.spool_folder == base / "spool"
