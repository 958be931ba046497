"""Metrics by Prometheus' own tools: promtool's lint, a real scrape, PromQL, and the alert rules' tests."""

import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connectors.prometheus import PrometheusSink
from connectors.results import RecordsRejected
from pipeline.clock import ManualClock
from pipeline.messages import NS, Record
from pipeline.metrics import families
from pipeline.shard import Shard
from pipeline.stages import LaneSettings
from pipeline.state import Store
from tests.connectors.result_records import T0, alarm, dead_letter, feature, health, late, machine_state, score
from tests.engines.scenarios import chunks, machine, normal_noise, stream
from tests.servers.cache import tool
from tests.servers.prometheus import PrometheusServer

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "docker" / "prometheus" / "rules" / "stethos.yml"
CONDITION = {"machine": "mill-3", "sensors": "mic+accel", "detector": "chatter"}
STATES = {"normal", "failure", "check_function", "out_of_specification", "maintenance_required"}


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = T0 / 1e9

    def __call__(self) -> float:
        return self.now


def promtool(*arguments: str, stdin: bytes = b"") -> str:
    done = subprocess.run(
        [tool("promtool", "the Debian package prometheus"), *arguments], input=stdin, capture_output=True, check=False
    )
    output = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, output
    return output


def samples(sink: PrometheusSink, name: str) -> dict[frozenset[tuple[str, str]], float]:
    page = sink.render()[0].decode()
    return {
        frozenset(sample.labels.items()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == name
    }


def value(sink: PrometheusSink, name: str, **labels: str) -> float | None:
    return samples(sink, name).get(frozenset(labels.items()))


def everything(t_ns: int) -> list[Record]:
    """At least one record of every topic."""
    return [
        score(1, t_ns - 2 * NS, 0.5),
        score(2, t_ns - NS, 7.25),
        feature(3, t_ns - NS, "band_level", {"rms_m_s2": 1.5}),
        machine_state(4, t_ns, "cutting"),
        feature(9, t_ns - NS, "shadow.load", {"windows": 40.0, "disagreed": 3.0, "cutting|idle": 3.0}),
        alarm(5, t_ns, "raised", 0, t_ns),
        health(6, t_ns, "out_of_specification", "clipping"),
        late(7, t_ns, 1000, 1480, "late"),
        dead_letter(8, t_ns, "length"),
    ]


ENGINE: dict[str, Any] = {
    "stage_ns_total": {(("stage", "logmel"),): 2_500_000_000, (("stage", "chatter"),): 1_000},
    "stage_messages_total": {(("stage", "logmel"),): 40},
    "queue_bytes": {(("queue", "intake"),): 12_000},
    "stethos_shards": {(): 2},
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sink(clock: Clock) -> PrometheusSink:
    return PrometheusSink(max_label_sets=100, stale_after_s=300.0, vanished_after_s=3600.0, clock=clock)


@pytest.fixture
def scraped(clock: Clock) -> Iterator[tuple[PrometheusSink, PrometheusServer]]:
    """A sink behind HTTP and a Prometheus that scrapes it."""
    sink = PrometheusSink(clock=clock)

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, content_type = sink.render(self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            with PrometheusServer({"stethos": [f"127.0.0.1:{web.server_port}"]}, rules=[RULES]) as prometheus:
                yield sink, prometheus
        finally:
            web.shutdown()
            thread.join()


def test_newest_score_wins(sink: PrometheusSink) -> None:
    sink.write([score(1, T0, 0.5), score(3, T0 + NS, 7.25), score(2, T0 + 2 * NS, 99.0)])
    assert value(sink, "stethos_score", **CONDITION) == 7.25
    assert value(sink, "stethos_score_threshold", **CONDITION) == 1.0
    assert value(sink, "stethos_score_timestamp_seconds", **CONDITION) == T0 / 1e9 + 1


def test_incomplete_score_moves_nothing(sink: PrometheusSink) -> None:
    sink.write([score(1, T0, 0.5), score(2, T0 + NS, float("nan"), complete=False)])
    assert value(sink, "stethos_score", **CONDITION) == 0.5
    assert value(sink, "stethos_score_timestamp_seconds", **CONDITION) == T0 / 1e9


def test_alarms_are_counted_once(sink: PrometheusSink) -> None:
    batch = [score(1, T0, 7.0), alarm(2, T0, "raised", 0, T0), alarm(3, T0 + NS, "cleared", 1, T0)]
    sink.write(batch[:1])
    assert value(sink, "stethos_alarms_total", **CONDITION) == 0.0
    sink.write(batch)
    assert value(sink, "stethos_alarm_active", **CONDITION, severity="critical") == 0.0
    sink.write(batch)
    assert value(sink, "stethos_alarms_total", **CONDITION) == 1.0
    assert value(sink, "stethos_alarm_active", **CONDITION, severity="critical") == 0.0
    sink.write([alarm(4, T0 + 5 * NS, "raised", 0, T0 + 5 * NS, severity="warning")])
    assert value(sink, "stethos_alarms_total", **CONDITION) == 2.0
    assert samples(sink, "stethos_alarm_active") == {frozenset({**CONDITION, "severity": "warning"}.items()): 1.0}


def test_transitions_of_an_alarm_follow_their_ordinal(sink: PrometheusSink) -> None:
    """One that is told anew in other words has moved to the end of the log."""
    sink.write([alarm(1, T0, "cleared", 1, T0), alarm(2, T0, "raised", 0, T0)])
    assert value(sink, "stethos_alarm_active", **CONDITION, severity="critical") == 0.0


def test_a_clock_that_was_set_back_hides_nothing(sink: PrometheusSink) -> None:
    """The place in the log says what is newest; what is delivered again changes nothing."""
    ahead = [
        score(1, T0, 0.5),
        machine_state(2, T0, "idle"),
        health(3, T0, "normal"),
        alarm(4, T0, "raised", 0, T0),
        alarm(5, T0 + 60 * NS, "cleared", 1, T0),
        feature(6, T0, "band_level", {"rms_m_s2": 1.5}),
    ]
    back = T0 - 3600 * NS
    right = [
        score(7, back, 9.0),
        machine_state(8, back, "cutting"),
        health(9, back, "failure", "no_data"),
        alarm(10, back, "raised", 0, back),
    ]
    sink.write(ahead)
    sink.write([*right, *ahead, *right])
    assert value(sink, "stethos_score", **CONDITION) == 9.0
    assert [dict(key)["state"] for key in samples(sink, "stethos_machine_state")] == ["cutting"]
    assert value(sink, "stethos_sensor_health_state", machine="mill-3", sensor="mic", state="failure") == 1.0
    assert value(sink, "stethos_alarms_total", **CONDITION) == 2.0
    assert value(sink, "stethos_alarm_active", **CONDITION, severity="critical") == 1.0
    assert value(sink, "stethos_event_age_seconds", machine="mill-3") == pytest.approx(3600)
    sink.write([alarm(11, back + NS, "cleared", 1, back)])
    assert value(sink, "stethos_alarm_active", **CONDITION, severity="critical") == 0.0


def test_sensors_whose_clocks_differ_do_not_take_turns(sink: PrometheusSink) -> None:
    """How far a machine is does not jump between them."""
    for n in range(3):
        sink.write([score(2 * n, T0 + n * NS, 0.5), feature(2 * n + 1, T0 + (n - 3600) * NS, "band_level", {})])
        assert value(sink, "stethos_event_timestamp_seconds", machine="mill-3") == T0 / 1e9 + n


def test_restore_brings_state_back_without_counting(sink: PrometheusSink) -> None:
    newest_first = [alarm(9, T0, "raised", 0, T0), alarm(8, T0 - NS, "cleared", 1, T0 - 9 * NS)]
    sink.restore([*newest_first, health(7, T0, "failure", "no_data"), late(6, T0, 0, 10, "late")])
    assert value(sink, "stethos_alarm_active", **CONDITION, severity="critical") == 1.0
    assert value(sink, "stethos_alarms_total", **CONDITION) == 0.0
    assert value(sink, "stethos_sensor_health_state", machine="mill-3", sensor="mic", state="failure") == 1.0
    assert not samples(sink, "stethos_samples_dropped_total")
    sink.write([alarm(9, T0, "raised", 0, T0)])
    assert value(sink, "stethos_alarms_total", **CONDITION) == 0.0


def test_health_is_one_state_of_five(sink: PrometheusSink) -> None:
    sink.write([health(1, T0, "failure", "no_data"), health(2, T0 + NS, "normal"), health(1, T0, "failure", "no_data")])
    states = {dict(key)["state"]: number for key, number in samples(sink, "stethos_sensor_health_state").items()}
    assert states == {**dict.fromkeys(STATES, 0.0), "normal": 1.0}


def test_losses_are_counted_by_reason_and_once(sink: PrometheusSink) -> None:
    batch = [late(1, T0, 0, 480, "late"), late(2, T0, 480, 960, "overlap"), dead_letter(3, T0, "length")]
    sink.write(batch)
    sink.write(batch)
    assert value(sink, "stethos_samples_dropped_total", machine="mill-3", sensor="mic", reason="late") == 480
    assert value(sink, "stethos_samples_dropped_total", machine="mill-3", sensor="mic", reason="overlap") == 480
    assert value(sink, "stethos_dead_letters_total", machine="mill-3", topic="raw.acoustic", reason="length") == 1


def test_names_that_anybody_can_make_up_take_no_room(clock: Clock) -> None:
    """Dead letters of machines that are not configured are one machine's, so that the others' are never refused."""
    sink = PrometheusSink(max_label_sets=10, clock=clock, machines=["mill-3"])
    strangers = [replace(dead_letter(n, T0, "length"), machine=f"m{n}", id=str(n)) for n in range(50)]
    sink.write([*strangers, dead_letter(99, T0, "length")])
    counts = {dict(key)["machine"]: count for key, count in samples(sink, "stethos_dead_letters_total").items()}
    assert counts == {"unknown": 50, "mill-3": 1}


def test_age_is_that_of_the_scrape(sink: PrometheusSink, clock: Clock) -> None:
    sink.write([score(1, T0, 0.5)])
    clock.now += 12.5
    assert value(sink, "stethos_event_age_seconds", machine="mill-3") == pytest.approx(12.5)


def test_stale_scores_leave_and_states_stay(sink: PrometheusSink, clock: Clock) -> None:
    sink.write(everything(T0))
    clock.now += 301
    assert not samples(sink, "stethos_score")
    assert not samples(sink, "stethos_score_threshold")
    assert not samples(sink, "stethos_machine_state")  # such as that of a shadow which has ended
    assert value(sink, "stethos_alarm_active", **CONDITION, severity="critical") == 1.0
    assert len(samples(sink, "stethos_sensor_health_state")) == 5
    assert value(sink, "stethos_event_age_seconds", machine="mill-3") == pytest.approx(301)


def test_vanished_machine_leaves_unless_its_alarm_is_active(sink: PrometheusSink, clock: Clock) -> None:
    sink.write([*everything(T0), score(10, T0, 0.1, machine="lathe-1"), health(11, T0, "normal", machine="lathe-1")])
    clock.now += 3601
    page = sink.render()[0].decode()
    assert "lathe-1" not in page
    assert "mill-3" in page
    sink.write([alarm(12, T0 + NS, "cleared", 1, T0)])
    clock.now += 3601
    assert "mill-3" not in sink.render()[0].decode()


def test_label_sets_are_capped_and_counted(sink: PrometheusSink) -> None:
    sink.write([score(n, T0, 0.5, machine=f"m{n}") for n in range(150)])
    assert len(samples(sink, "stethos_score")) == 100
    assert value(sink, "stethos_label_sets_dropped_total", metric="stethos_score") == 50
    sink.update({"stage_calls_total": {(("stage", str(n)),): n for n in range(130)}})
    assert len(samples(sink, "stethos_stage_calls_total")) == 100
    assert value(sink, "stethos_label_sets_dropped_total", metric="stethos_stage_calls_total") == 30


def test_engine_counters_in_base_units(sink: PrometheusSink) -> None:
    sink.update(ENGINE)
    assert value(sink, "stethos_stage_seconds_total", stage="logmel") == 2.5
    assert value(sink, "stethos_stage_seconds_total", stage="chatter") == 1e-6
    assert value(sink, "stethos_queue_bytes", queue="intake") == 12_000
    assert value(sink, "stethos_shards") == 2
    sink.update({})
    assert not samples(sink, "stethos_queue_bytes")


@pytest.mark.parametrize(
    "counters",
    [
        {"Stage": {(): 1}},
        {"stage-time": {(): 1}},
        {"stage_sum": {(): 1}},
        {"score": {(): 1}},
        {"chunks_total": {(("topic", "a"),): 1, (("shard", "b"),): 1}},
        {"stage_ns": {(): 1}, "stage_seconds": {(): 1}},
    ],
)
def test_engine_metrics_that_break_conventions_are_refused(sink: PrometheusSink, counters: dict) -> None:
    with pytest.raises(ValueError):
        sink.update(counters)


def test_unusable_record_is_named_and_others_count(sink: PrometheusSink) -> None:
    broken = Record(2, "score", "mill-3", T0, "broken", {"machine": "mill-3"})
    with pytest.raises(RecordsRejected, match="'broken'") as caught:
        sink.write([score(1, T0, 0.5), broken, score(3, T0 + NS, 0.75)])
    assert [each.id for each, _ in caught.value.refused] == ["broken"]
    assert value(sink, "stethos_score", **CONDITION) == 0.75


def test_names_keep_the_conventions(sink: PrometheusSink) -> None:
    sink.write(everything(T0))
    sink.update(ENGINE)
    families = [f for f in text_string_to_metric_families(sink.render()[0].decode()) if f.name.startswith("stethos_")]
    assert len(families) == 20
    for family in families:
        assert len(family.documentation) > 10
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")


def test_guide_lists_every_metric(sink: PrometheusSink) -> None:
    sink.write(everything(T0))
    guide = (ROOT / "docs" / "how-to" / "prometheus.md").read_text()
    table = set(re.findall(r"^\| `(stethos_\w+)`", guide, re.MULTILINE))
    assert table == set(re.findall(r"^# HELP (stethos_\w+)", sink.render()[0].decode(), re.MULTILINE))


def test_guide_asks_for_what_an_engine_exports(sink: PrometheusSink, tmp_path: Path) -> None:
    """Counters of the pipeline itself, which are in no table: a running engine does not measure its stages' time."""
    acc = stream("acc", "vibration", 2000)
    shard = Shard("one", [LaneSettings(machine(acc))], Store(tmp_path / "state.sqlite"), ManualClock(T0))
    for chunk in chunks(acc, normal_noise(acc, 3.0, 3)):
        shard.take(chunk)
    sink.write(everything(T0))
    sink.update(families({"one": shard.metrics()}, {}))
    guide = (ROOT / "docs" / "how-to" / "prometheus.md").read_text()
    exported = set(re.findall(r"^# HELP (stethos_\w+)", sink.render()[0].decode(), re.MULTILINE))
    assert set(re.findall(r"\bstethos_\w+", guide)) <= exported


def test_promtool_finds_nothing_to_mend(sink: PrometheusSink) -> None:
    sink.write(everything(T0))
    sink.update(ENGINE)
    assert promtool("check", "metrics", stdin=sink.render()[0]).strip() == ""


def test_openmetrics_on_request(sink: PrometheusSink) -> None:
    sink.write(everything(T0))
    body, content_type = sink.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_prometheus_scrapes_and_answers(scraped: tuple[PrometheusSink, PrometheusServer], clock: Clock) -> None:
    sink, prometheus = scraped
    sink.write(everything(T0))
    sink.update(ENGINE)
    selector = '{machine="mill-3",sensors="mic+accel",detector="chatter"}'
    (found,) = prometheus.wait_for(f"stethos_score{selector} > stethos_score_threshold")
    assert float(found["value"][1]) == 7.25
    (rate,) = prometheus.query('stethos_stage_seconds_total{stage="logmel"} / stethos_stage_messages_total')
    assert float(rate["value"][1]) == 2.5 / 40
    (broken,) = prometheus.query("stethos_sensor_health_state == 1")
    assert broken["metric"]["state"] == "out_of_specification"
    prometheus.wait_for('ALERTS{alertname="StethosAlarm",alertstate="firing",severity="critical",machine="mill-3"}')
    guide = (ROOT / "docs" / "how-to" / "prometheus.md").read_text()
    (block,) = re.findall(r"```promql\n(.*?)```", guide, re.DOTALL)
    answers = [prometheus.query(line.partition("#")[0]) for line in block.splitlines()]
    assert len(answers) == 4 and answers[0] and answers[3]
    clock.now += 301
    prometheus.wait_for(f"absent(stethos_score{selector})")


def test_alert_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", str(RULES))
    tests = sorted((ROOT / "docker" / "prometheus" / "tests").glob("*_test.yml"))
    assert promtool("test", "rules", *map(str, tests)).count("SUCCESS") == len(tests) > 0
