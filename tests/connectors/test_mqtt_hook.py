"""Commands to a real broker: what arrives, what is dropped and why, and that nobody waits."""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from connectors import mqtt_hook
from connectors.fastlane import FastLane
from connectors.mqtt_command import fill, payload_of
from connectors.mqtt_hook import DROPS, STANDING, MqttCommand
from connectors.mqtt_session import Broker, Session, wake_pair
from pipeline.errors import ConfigError
from pipeline.messages import Alarm, Stream
from tests.connectors.test_fastlane import Ear as Listening
from tests.connectors.test_fastlane import Listed, run
from tests.pipeline.test_stages_physics import log
from tests.servers.mosquitto import MosquittoServer
from tests.servers.mqtt_ear import Ear
from tests.servers.ports import release_port, reserve_port

T0 = 1_700_000_000_123_456_789
STATUS = "stethos/site/status"
TOPIC = "stethos/drill-1/drill_break"


def alarm(number: int = 0, t_ns: int | None = None) -> Alarm:
    """A break; transitions are told apart by their number."""
    at = time.time_ns() if t_ns is None else t_ns
    return Alarm("drill-1", ("mic",), "drill_break", at, "raised", number, T0, "critical", "broken", 2.5, 1.0, "s")


@pytest.fixture(scope="module")
def broker() -> Iterator[MosquittoServer]:
    """One for all tests that do not stop it."""
    with MosquittoServer() as server:
        yield server


def at(server: MosquittoServer, **more: Any) -> Broker:
    """Where it listens."""
    return Broker("127.0.0.1", server.tcp_port, **more)


def until(done: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def numbers(ear: Ear, topic: str = TOPIC) -> list[int]:
    """Which alarms came."""
    return [int(json.loads(text)["id"].rsplit("|", 1)[1]) for text in ear.texts(topic)]


def test_a_command_says_what_where_why_and_when() -> None:
    """By the alarm's own fields; the time in ISO 8601; numbers that JSON does not know become null."""
    said = json.loads(payload_of(replace(alarm(3, T0), value=math.inf)))
    assert said == {
        "machine": "drill-1", "sensors": ["mic"], "detector": "drill_break", "transition": "raised",
        "severity": "critical", "reason": "broken", "time": "2023-11-14T22:13:20.123456789Z", "score": None,
        "threshold": 1.0, "alarm": f"drill-1|mic|drill_break|{T0}", "id": f"drill-1|mic|drill_break|{T0}|3",
    }  # fmt: skip


def test_commands_arrive_in_order_and_are_not_kept(broker: MosquittoServer) -> None:
    """With QoS 1; who subscribes later gets the status and no command."""
    with Ear(broker) as ear, MqttCommand(at(broker)) as hook:
        ear.wait(lambda: ear.texts(STATUS) == ["online"])
        for number in range(40):
            hook(alarm(number))
        ear.wait(lambda: len(ear.texts(TOPIC)) == 40)
        assert numbers(ear) == list(range(40))
        assert {m.qos for m in ear.heard} == {1}
        assert json.loads(ear.texts(TOPIC)[7])["reason"] == "broken"
        until(lambda: hook.counts["published"] == 40)
        assert (hook.failures, hook.trouble) == (0, "")
        with Ear(broker) as later:
            later.wait(lambda: later.texts(STATUS) == ["online"] and later.texts(STATUS + STANDING))
            assert {(m.topic, m.retain) for m in later.heard} == {(STATUS, True), (STATUS + STANDING, True)}
    with Ear(broker) as last:
        last.wait(lambda: last.texts(STATUS) == ["offline"])
        assert not last.texts(TOPIC)


def test_the_broker_says_offline_when_the_connection_breaks(broker: MosquittoServer) -> None:
    """A process that dies says nothing: its last will does."""
    with Ear(broker) as ear, wake_pair() as (wake, _):
        session = Session(at(broker, client_id="dies"), None, "will")
        while not session.connected:
            session.turn(0.1, wake)
        session.close()
        ear.wait(lambda: ear.texts("will") == ["offline"])


def test_the_status_is_online_while_all_machines_are_heard(
    broker: MosquittoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection alone says nothing about the samples."""
    monkeypatch.setattr(mqtt_hook, "SILENT_S", 0.3)
    monkeypatch.setattr(mqtt_hook, "TURN_S", 0.02)
    hook = MqttCommand(at(broker), status_topic="s/{client}", machines=["a", "b"])
    topic = f"s/{hook.broker.client_id}"
    with Ear(broker) as ear, hook:
        ear.wait(lambda: ear.texts(topic) == ["silent"])

        def told() -> bool:
            for machine in ("a", "stranger", "b"):
                hook.heard(machine)
            return len(ear.texts(topic)) > 1

        until(told)
        ear.wait(lambda: ear.texts(topic)[:3] == ["silent", "online", "silent"])


def test_an_absent_broker_holds_nothing_up_and_gets_nothing_old() -> None:
    """Every sample comes through; what waited too long is counted; the first command after that arrives."""
    server = MosquittoServer()
    with MqttCommand(at(server), expires_s=1.0, queue=3) as hook:
        messages = log()["acc"][:2]
        lane = FastLane(Listed(messages), {"m": Listening([alarm()])}, hook)
        assert run(lane) == messages
        assert lane.failures == 0
        assert hook.counts["full"] == 8 - 3  # two chunks of four slices each, one alarm a slice
        until(lambda: hook.counts["expired"] == 3)
        assert f"127.0.0.1:{server.tcp_port}" in hook.trouble and "refused" in hook.trouble
        assert hook.counts["connection_failed"] > 0 == hook.counts["connected"]
        assert "fast lane" in lane.trouble and "refused" in lane.trouble
        assert {name: n for name, n in lane.counts.items() if n and "connection" not in name} == {
            "fast_lane.full": 5, "fast_lane.expired": 3
        }  # fmt: skip
        with server, Ear(server) as ear:
            ear.wait(lambda: ear.texts(STATUS) == ["online"])
            hook(alarm(99))
            ear.wait(lambda: ear.texts(TOPIC))
            assert numbers(ear) == [99]
            until(lambda: hook.trouble == "")


def test_a_command_is_sent_when_the_broker_is_back_in_time() -> None:
    """Nothing is lost in a short break, and nothing is sent for certain twice without the same id."""
    with MosquittoServer() as server, MqttCommand(at(server), expires_s=60.0) as hook:
        until(lambda: hook.counts["connected"] == 1)
        server.kill()
        until(lambda: hook.counts["connection_lost"] == 1)
        hook(alarm(1))
        hook(alarm(2))
        server.start()
        until(lambda: hook.counts["published"] == 2)
        assert hook.failures == 0


def test_a_broker_that_freezes_is_left() -> None:
    """What it does not confirm in time is counted, and there is a new connection once it answers."""
    with MosquittoServer() as server, MqttCommand(at(server), expires_s=0.5) as hook:
        until(lambda: hook.counts["connected"] == 1)
        server.pause()
        hook(alarm(1))
        until(lambda: hook.counts["unacknowledged"] == 1)
        assert "confirm" in hook.trouble
        server.resume()
        until(lambda: hook.counts["connected"] == 2)


def test_a_command_at_the_end_of_its_time_leaves_the_broker_time_to_confirm_it(broker: MosquittoServer) -> None:
    """Half a second for one that was worth something for 0.2 s: the connection stays, and what else is on its way."""
    with Ear(broker) as ear, MqttCommand(at(broker), topic="end", expires_s=5.0, clock_ns=lambda: T0) as hook:
        until(lambda: hook.counts["connected"] == 1)
        broker.pause()
        hook(alarm(1, T0 - 4_800_000_000))
        hook(alarm(2, T0))
        until(lambda: len(hook._flying) == 2)
        time.sleep(0.5)
        broker.resume()
        until(lambda: hook.counts["published"] == 2)
        ear.wait(lambda: numbers(ear, "end") == [1, 2])
        assert (hook.counts["connection_lost"], hook.failures, hook.trouble) == (0, 0, "")


def test_what_waits_is_sent_again_when_a_connection_breaks_before_its_confirmation(broker: MosquittoServer) -> None:
    """At least once: the same id comes again, in the old order."""
    with Ear(broker) as ear, MqttCommand(at(broker), expires_s=60.0, topic="again") as hook:
        until(lambda: hook.counts["connected"] == 1)
        broker.pause()
        hook(alarm(1))
        hook(alarm(2))
        until(lambda: len(hook._flying) == 2)
        with wake_pair() as (wake, _):  # another client of the same name: the broker ends the first one's connection
            broker.resume()
            usurper = Session(at(broker, client_id=hook.broker.client_id), None, "other")
            while not usurper.connected:
                usurper.turn(0.1, wake)
            until(lambda: hook.counts["connected"] >= 2)
            usurper.close()
        ear.wait(lambda: {1, 2} <= set(numbers(ear, "again")))
        until(lambda: not hook._flying)
        assert hook.failures == 0


def test_faults_of_detectors_are_counted_and_told(broker: MosquittoServer) -> None:
    """And what they do not hear in one piece makes no machine heard."""

    class Broken:
        def judges(self, stream: Stream) -> bool:
            """It hears everything."""
            return bool(stream.sensor)

        def listen(self, message: object) -> list[Any]:
            raise ArithmeticError("no detector")

    messages = log()["acc"][:1]
    with MqttCommand(at(broker), machines=["m"]) as hook:
        lane = FastLane(Listed(messages), {"m": Broken()}, hook)
        assert run(lane) == messages
        assert lane.failures == lane.counts["fast_lane.failed"] == 4
        assert lane.trouble == "fast lane: 4 faults, the last: m: ArithmeticError: no detector"
        assert hook._heard == {"m": -math.inf}


def test_old_events_are_no_commands(broker: MosquittoServer) -> None:
    """Files of last night that are played, or samples that were held up, command nothing."""
    with Ear(broker) as ear, MqttCommand(at(broker), topic="old", expires_s=5.0, clock_ns=lambda: T0) as hook:
        hook(alarm(1, T0 - 6_000_000_000))
        assert hook.trouble.endswith("stale")
        hook(alarm(2, T0 - 4_000_000_000))
        hook(alarm(3, T0 + 60_000_000_000))  # its clock is ahead
        ear.wait(lambda: len(ear.texts("old")) == 2)
        assert numbers(ear, "old") == [2, 3]
        assert {reason: hook.counts[reason] for reason in DROPS if hook.counts[reason]} == {"stale": 1}


def test_the_broker_does_not_deliver_late_either(broker: MosquittoServer) -> None:
    """A PLC that was away gets what is not old when it comes back."""
    with Ear(broker, name="plc"):
        pass
    with MqttCommand(at(broker), topic="away", expires_s=1.0) as short:
        short(alarm(1))
        until(lambda: short.counts["published"] == 1)
    with MqttCommand(at(broker), topic="away", expires_s=60.0) as long:
        long(alarm(2))
        until(lambda: long.counts["published"] == 1)
    time.sleep(2.1)  # expiry is in whole seconds
    with Ear(broker, name="plc") as plc:
        plc.wait(lambda: plc.texts("away"))
        assert numbers(plc, "away") == [2]


def test_a_broker_asks_for_a_password() -> None:
    """Over TLS; a wrong password, a wrong authority, and a topic that may not be written to are told, not hidden."""
    with MosquittoServer(users={"line": "s3cret"}, may={"line": ["stethos/#"]}, tls=True) as server:
        assert server.certificates is not None
        right = at(server, tls=True, ca_file=server.certificates.ca, username="line", password="s3cret")
        assert "s3cret" not in repr(right)
        with Ear(server, user=("line", "s3cret")) as ear, MqttCommand(right) as hook:
            hook(alarm(5))
            ear.wait(lambda: numbers(ear) == [5])
        with MqttCommand(right, topic="elsewhere", status_topic="stethos/b") as hook:
            hook(alarm(6))
            until(lambda: hook.counts["refused"])
            assert "Not authorized" in hook.trouble
        for wrong, words in (({"password": "guess"}, "refuses us: "), ({"ca_file": None}, "certificate")):
            with MqttCommand(replace(right, **wrong), expires_s=0.3) as hook:
                hook(alarm(7))
                until(partial(hook.counts.get, "expired"))
                assert words in hook.trouble
                assert hook.counts["connected"] == 0


def test_a_payload_that_cannot_be_made_costs_one_command(broker: MosquittoServer) -> None:
    """The next one is sent over the same connection."""

    def payload(told: Alarm) -> bytes:
        return payload_of(told) if told.ordinal else b"%d" % (1 // told.ordinal)

    with Ear(broker) as ear, MqttCommand(at(broker), topic="own", payload=payload) as hook:
        hook(alarm(0))
        hook(alarm(1))
        ear.wait(lambda: numbers(ear, "own") == [1])
        assert (hook.counts["refused"], hook.counts["connected"]) == (1, 1)


def test_what_cannot_be_sent_at_the_end_is_counted() -> None:
    """Closing waits for no broker."""
    port = reserve_port()
    with MqttCommand(Broker("127.0.0.1", port), expires_s=60.0) as hook:
        hook(alarm())
        hook(alarm())
    release_port(port)
    assert hook.counts["closed"] == hook.failures == 2


def test_a_hook_that_is_closed_while_it_connects_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server may answer late: that connection is let go, and the hook, open again, makes its own after it."""
    slow, made = threading.Event(), list[Any]()

    class Known:
        """A connection whose broker takes everything."""

        connected, lost, room = True, "", True

        def __init__(self, *_: object) -> None:
            self.answers: list[tuple[int, str]] = []
            self.said: list[str] = []
            made.append(self)
            slow.wait()

        def publish(self, topic: str, payload: bytes, **_: object) -> int:
            self.said.append(topic)
            self.answers.append((len(self.said), ""))
            return len(self.said)

        def check(self, topic: str, payload: bytes) -> None:
            """It takes every size."""

        def turn(self, timeout_s: float, _: object) -> None:
            time.sleep(min(timeout_s, 0.01))

        def close(self) -> None:
            self.said.append("closed")

        leave = close

    for name, value in (("Session", Known), ("CONNECT_S", 0.05), ("LEAVE_S", 0.05), ("RETRY_S", (0.01, 0.02))):
        monkeypatch.setattr(mqtt_hook, name, value)
    hook = MqttCommand(Broker())
    with hook:
        hook(alarm(1))
        until(lambda: made)
        (first,) = (thread for thread in threading.enumerate() if thread.name == "mqtt-command")
    assert hook.counts["closed"] == 1 and first.is_alive()
    with hook:
        until(lambda: "has not ended" in hook.trouble)
        hook(alarm(2))
        slow.set()
        until(lambda: hook.counts["published"] == 1)
        first.join(20.0)
        assert not first.is_alive()
    assert [one.said[:2] for one in made] == [["closed"], [STATUS + STANDING, STATUS]]
    assert (hook.counts["connected"], hook.failures) == (1, 1)


def test_the_last_of_several_lanes_closes_it(broker: MosquittoServer) -> None:
    """And it can be opened again."""
    hook = MqttCommand(at(broker), status_topic="shared")
    lanes = [FastLane(Listed([]), {}, hook) for _ in range(2)]
    with Ear(broker) as ear:
        for lane in lanes:
            lane.open({}, T0)
        ear.wait(lambda: ear.texts("shared") == ["online"])
        lanes[0].close()
        lanes[0].close()
        assert ear.texts("shared") == ["online"]
        lanes[1].close()
        ear.wait(lambda: ear.texts("shared") == ["online", "offline"])
        with hook:
            ear.wait(lambda: ear.texts("shared") == ["online", "offline", "online"])


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a/{machin}", "'machin' is none of site, machine"),
        ("a/{machine.__class__}", "none of"),
        ("a/{machine!r}", "none of"),
        ("a/{", "Single '{'"),
        ("a/#", "no + and #"),
        ("$SYS/x", "begin with"),
        ("", "empty"),
    ],
)
def test_topics_that_are_none(template: str, words: str) -> None:
    """Said at the start, not at the first alarm."""
    with pytest.raises(ConfigError, match=re.escape(words)):
        MqttCommand(Broker(), topic=template)


def test_topics_are_filled() -> None:
    """Nothing but the names."""
    assert fill("{site}/{machine}/stop", site="hall", machine="d-1") == "hall/d-1/stop"


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    """Files of TLS are read at the start; a command needs time and room."""
    with pytest.raises(ConfigError, match="TLS files"):
        MqttCommand(Broker(tls=True, ca_file=tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="expires"):
        MqttCommand(Broker(), expires_s=0.0)
