"""What a configuration must not say, each beside the nearest thing that it may."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from config.closed import RECORDED
from config.schema import Settings
from pipeline.errors import ConfigError
from tests.config.test_config import GOOD, load

LOGIN = 'username = "u"\npassword = "p"\n'
PLAIN = f'[kafka]\n{LOGIN}mechanism = "PLAIN"\n'
FILES = 'cert_file = "me.pem"\nkey_file = "me.key"\n'
MILL = GOOD.replace("48000", "8000")
HEAD = "[machine.drill.head]\nrows = 2\ncolumns = 3\npitch_m = 0.2\n"
TWO = HEAD + "microphones_m = [[0, 0], [1, 0]]\n"
PULSES = "[machine.sensor.tachometer]\nchannel = 1\nlevel = 0.5\n"
SOURCE = '[machine.sensor.source]\ntype = "playback"\nfiles = ["a.wav"]\n'
TELLS = '[machine.spindle]\nrpm_context = "spindle_rpm"\n'
PAIR = GOOD.replace('unit = "FS"\n', 'unit = "FS"\nchannels = 2\n')
BEE = '[[machine.sensor]]\nname = "bee"\nmodality = "acoustic"\nrate_hz = 8000\nunit = "FS"\n'


def of_head(**said: object) -> str:
    """A head on the embedding."""
    lines = "".join(f"{key} = {value}\n" for key, value in said.items())
    return f'{GOOD}[[machine.model.head]]\npackage = "h"\n{lines}'


def on_machine(line: str, text: str = MILL) -> str:
    """A key of the machine itself."""
    return text.replace('name = "lathe"\n', f'name = "lathe"\n{line}\n')


CASES = {
    "a user without a password": (f'{GOOD}[kafka]\nusername = "u"\n', "belong together", f"{GOOD}[kafka]\n{LOGIN}"),
    "a certificate without its key": (
        f'{GOOD}[kafka]\ntls = true\ncert_file = "me.pem"\n', "cert_file and key_file belong together",
        f"{GOOD}[kafka]\ntls = true\n{FILES}",
    ),
    "a key without its certificate": (
        f'{GOOD}[kafka]\ntls = true\nkey_file = "me.key"\n', "cert_file and key_file belong together",
        f"{GOOD}[kafka]\ntls = true\n{FILES}",
    ),
    "certificates that nothing looks at": (
        f"{GOOD}[fast_lane.mqtt]\n{FILES}", "certificates are for TLS", f"{GOOD}[fast_lane.mqtt]\ntls = true\n{FILES}",
    ),
    "an authority that nothing looks at": (
        f'{GOOD}[kafka]\nca_file = "ca.pem"\n', "certificates are for TLS",
        f'{GOOD}[kafka]\ntls = true\nca_file = "ca.pem"\n',
    ),
    "a password that a neighbour reads": (
        f'{GOOD}{PLAIN}bootstrap = "10.0.0.7:9092"\n', "PLAIN sends the password as it is",
        f'{GOOD}{PLAIN}tls = true\nbootstrap = "10.0.0.7:9092"\n',
    ),
    "a password that one of two brokers is far away for": (
        f'{GOOD}{PLAIN}bootstrap = "localhost:9092,10.0.0.7:9092"\n', "PLAIN sends the password as it is",
        f'{GOOD}{PLAIN}bootstrap = "[::1]:9092, localhost:9092"\n',
    ),
    "no number": (f"{GOOD}[simulator]\nspeed = nan\n", "finite number", f"{GOOD}[simulator]\nspeed = 0.5\n"),
    "no end": (f"{GOOD}[simulator]\nnormal_s = inf\n", "finite number", f"{GOOD}[simulator]\nnormal_s = 0\n"),
    "more than there are": (
        f"{GOOD}[machine.persistence]\nk = 6\nn = 5\n", "can never be reached",
        f"{GOOD}[machine.persistence]\nk = 5\nn = 5\n",
    ),
    "a state by half of the windows": (of_head(k=2, n=4), "more than half of n", of_head(k=3, n=4)),
    "a state by more windows than there are": (of_head(k=5, n=4), "at most n", of_head(k=4, n=4)),
    "a score of nothing": (of_head(gives='"score"'), "make a score", of_head(gives='"score"', abnormal='["loud"]')),
    "a state that is abnormal": (of_head(abnormal='["loud"]'), "make a score", of_head(gives='"state"')),
    "heads of one name": (
        of_head() + '[[machine.model.head]]\npackage = "g"\n', "used twice: state",
        of_head() + '[[machine.model.head]]\npackage = "g"\nname = "load"\n',
    ),
    "a model of a sensor that is not there": (
        f'{GOOD}[machine.model]\nsensors = ["mic", "nose"]\n', "nose is no sound sensor",
        f'{GOOD}[machine.model]\nsensors = ["mic"]\n',
    ),
    "two speeds": (
        f'{MILL}[machine.spindle]\nrpm = 9000\nrpm_context = "r"\n', "either rpm or rpm_context",
        f"{MILL}[machine.spindle]\nrpm = 9000\n",
    ),
    "no speed": (f"{MILL}[machine.spindle]\nteeth = 3\n", "either rpm or rpm_context", f"{MILL}{TELLS}teeth = 3\n"),
    "chatter of a spindle that hardly turns": (
        f"{MILL}[machine.spindle]\nrpm = 399\nteeth = 3\n", "from 400 rpm on, not at 399 rpm",
        f"{MILL}[machine.spindle]\nrpm = 400\nteeth = 3\n",
    ),
    "a bearing that does not turn": (
        f"{MILL}[machine.bearing]\nballs = 8\ndiameter_ratio = 0.2\n", "needs a spindle with its speed",
        f"{MILL}[machine.bearing]\nballs = 8\ndiameter_ratio = 0.2\n[machine.spindle]\nrpm = 1500\n",
    ),
    "a rule without a classifier": (
        f'{MILL}[machine.drill]\nrule = "both"\n', "those of a classifier",
        f'{MILL}[machine.drill]\nrule = "both"\nclassifier = "c"\n',
    ),
    "a threshold without a classifier": (
        f"{MILL}[machine.drill]\nthreshold = 0.5\n", "those of a classifier",
        f'{MILL}[machine.drill]\nthreshold = 0.5\nclassifier = "c"\n',
    ),
    "a fast lane without a detector": (
        on_machine("fast_lane = true") + "[machine.spindle]\nrpm = 9000\n[fast_lane.mqtt]\n", "needs .machine.drill.",
        on_machine("fast_lane = true") + "[machine.spindle]\nrpm = 9000\nteeth = 3\n[fast_lane.mqtt]\n",
    ),
    "a fast lane to nowhere": (
        on_machine("fast_lane = true") + "[machine.drill]\n", "somewhere to go",
        on_machine("fast_lane = true") + "[machine.drill]\n[fast_lane.mqtt]\n",
    ),
    "sensors of one name": (
        MILL + BEE.replace("bee", "mic"), "sensor names of machine 'lathe' are used twice: mic", MILL + BEE,
    ),
    "two tachometers": (
        f"{MILL}{SOURCE}{PULSES}{BEE}{SOURCE}{PULSES}{TELLS}", "needs one tachometer",
        f"{MILL}{SOURCE}{PULSES}{BEE}{SOURCE}{TELLS}",
    ),
    "a tachometer without a device": (f"{MILL}{PULSES}{TELLS}", "which it must have", f"{MILL}{SOURCE}{PULSES}{TELLS}"),
    "microphones without a channel": (
        GOOD + TWO.replace("[[0, 0], [1, 0]]", "[[0, 0], [1, 0], [0, 1]]") + 'sensor = "mic"\n',
        "has 3 microphones_m, but sensor 'mic' has 1 channels",
        PAIR + TWO,
    ),
    "channels without a microphone": (
        GOOD.replace('unit = "FS"\n', 'unit = "FS"\nchannels = 3\n') + TWO,
        "has 2 microphones_m, but sensor 'mic' has 3 channels",
        PAIR + TWO + BEE,
    ),
    "a head that two could hear": (
        PAIR + TWO + BEE + "channels = 2\n", "found: mic, bee",
        PAIR + TWO + 'sensor = "bee"\n' + BEE + "channels = 2\n",
    ),
    "half a grid": (
        PAIR + TWO.replace("rows = 2\n", ""),
        "either a grid .* or a list", PAIR + TWO,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_what_must_not_be_said_is_refused_and_its_neighbour_is_not(tmp_path: Path, what: str) -> None:
    """With words that say what to write."""
    refused, words, taken = CASES[what]
    assert load(tmp_path, taken).machines
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, refused)


def test_a_cut_is_known_at_once_unless_somebody_says_otherwise(tmp_path: Path) -> None:
    """With cutting states the lag is 0 by default, else a second."""
    cutting = on_machine('state_context = "state"') + '[machine.spindle]\nrpm = 9000\ncutting_states = ["cut"]\n'
    said = on_machine("context_lag_s = 0.3", cutting)
    assert [load(tmp_path, text).machines[0].context_lag_s for text in (MILL, cutting, said)] == [1.0, 0.0, 0.3]


@pytest.mark.parametrize(
    ("spindle", "slowest", "fastest"),
    [
        ("rpm = 9000", 9000.0, 18_000.0),
        ("rpm = 9000\nlowest_rpm = 6000\nhighest_rpm = 12000", 6000.0, 12_000.0),
        ('rpm_context = "r"', 1500.0, 24_000.0),
        ('rpm_context = "r"\nlowest_rpm = 800', 800.0, 24_000.0),
    ],
)
def test_the_range_of_a_spindle(tmp_path: Path, spindle: str, slowest: float, fastest: float) -> None:
    """As it is said; else from the fixed speed, to twice that."""
    found = load(tmp_path, f"{MILL}[machine.spindle]\n{spindle}\n").machines[0].spindle
    assert found is not None and (found.slowest_rpm, found.fastest_rpm) == (slowest, fastest)


@pytest.mark.parametrize(
    "part",
    [
        f'[fast_lane.mqtt]\nhost = "plc"\n{LOGIN}',
        f'{PLAIN}bootstrap = "10.0.0.7:9092"\n',
        '[[sink]]\ntype = "influxdb"\nurl = "http://influx:8086"\norg = "o"\nbucket = "b"\ntoken = "t"\n',
    ],
)
def test_what_a_recording_brings_need_not_be_safe(tmp_path: Path, part: str) -> None:
    """A replay sends nobody a secret; older versions let it through, and such recordings must replay."""
    with pytest.raises(ConfigError, match="as it is"):
        load(tmp_path, GOOD + part)
    assert Settings.model_validate(tomllib.loads(GOOD + part), context=RECORDED).machines


def test_a_key_of_another_section_is_no_misspelt_one(tmp_path: Path) -> None:
    """`folder` is nearly `spool_folder`, but a key of its own."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD + '[kafka]\nfolder = "x"\n')
    words = "kafka.folder: unknown key here; it belongs in another section: recording.folder or evidence.folder"
    assert str(caught.value).endswith(words)
