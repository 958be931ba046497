"""What a PLC learns about an alarm whose `cleared` never comes: a restart forgets it, or the command expires."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from connectors import mqtt_hook
from connectors.mqtt_hook import STANDING, MqttCommand
from pipeline.messages import NS, Alarm
from tests.connectors.test_mqtt_hook import at, until
from tests.servers.mosquitto import MosquittoServer
from tests.servers.mqtt_ear import Ear

STATUS = "stethos/site/status"
LIST = STATUS + STANDING


def alarm(transition: Any = "raised", detector: str = "chatter", t_ns: int = 0) -> Alarm:
    """One alarm for each detector."""
    at_ns = t_ns or time.time_ns()
    return Alarm("m", ("mic",), detector, at_ns, transition, 0, 7 * NS, "critical", "", 2.0, 1.0, "s")


class Plc:
    """The rule of the how-to, as a PLC would hold it: latched by `raised`; over by `cleared`, or a list without it."""

    def __init__(self, ear: Ear) -> None:
        self._ear = ear

    @property
    def latched(self) -> set[str]:
        """The alarms that are not over, by all that has come, in the order in which it came."""
        found: set[str] = set()
        for message in list(self._ear.heard):
            if message.topic == LIST:
                found &= {told["alarm"] for told in json.loads(message.payload)["alarms"]}
            elif message.topic != STATUS:
                told = json.loads(message.payload)
                found = found | {told["alarm"]} if told["transition"] == "raised" else found - {told["alarm"]}
        return found


@pytest.fixture(scope="module")
def broker() -> Iterator[MosquittoServer]:
    """One for all tests."""
    with MosquittoServer() as server:
        yield server


def test_a_restart_in_the_midst_of_an_alarm_leaves_no_alarm_for_ever(broker: MosquittoServer) -> None:
    """The second run knows nothing of the first one's alarm: its list says so before it says that it is online."""
    chatter = "m|mic|chatter|7000000000"
    with Ear(broker) as ear:
        plc = Plc(ear)
        with MqttCommand(at(broker)) as first:
            first(alarm())
            ear.wait(lambda: len(ear.texts(LIST)) > 1 or chatter in "".join(ear.texts(LIST)))
            until(lambda: first.counts["published"] == 1)
        ear.wait(lambda: ear.texts(STATUS)[-1:] == ["offline"])
        assert plc.latched == {chatter}  # nobody knows
        come = len(ear.heard)
        with MqttCommand(at(broker)) as second:
            ear.wait(lambda: ear.texts(STATUS)[-1] == "online")
            assert [m.topic for m in ear.heard[come:]] == [LIST, STATUS]
            assert plc.latched == set()
            since = [json.loads(text)["since"] for text in ear.texts(LIST)]
            assert since[0] < since[-1]
            second(alarm(detector="drill_break"))
            ear.wait(lambda: "drill_break" in ear.texts(LIST)[-1])
            assert plc.latched == {"m|mic|drill_break|7000000000"}


def test_the_list_says_what_stands_to_who_comes_later(broker: MosquittoServer) -> None:
    """A PLC that was started anew; of each condition the alarm that stands, until it is cleared."""
    with MqttCommand(at(broker), topic="c/{detector}") as hook, Ear(broker) as ear:
        hook(alarm())
        hook(alarm(detector="drill_break"))
        ear.wait(lambda: "drill_break" in "".join(ear.texts(LIST)[-1:]))
        with Ear(broker) as late:
            late.wait(lambda: late.texts(LIST))
            told = json.loads(late.texts(LIST)[0])["alarms"]
            assert told == [
                {"machine": "m", "detector": name, "severity": "critical", "alarm": f"m|mic|{name}|7000000000"}
                for name in ("chatter", "drill_break")
            ]
        hook(alarm("cleared"))
        ear.wait(lambda: "chatter" not in ear.texts(LIST)[-1])
        assert Plc(ear).latched == {"m|mic|drill_break|7000000000"}


def test_a_cleared_that_is_too_old_to_be_sent_is_told_by_the_list(broker: MosquittoServer) -> None:
    """And a raised one that nobody was told of does not stand."""
    old = time.time_ns() - 60 * NS
    with Ear(broker) as ear, MqttCommand(at(broker), topic="o/{detector}") as hook:
        hook(alarm())
        ear.wait(lambda: "chatter" in "".join(ear.texts(LIST)[-1:]))
        before = len(ear.texts(LIST))
        hook(alarm("cleared", t_ns=old))
        hook(alarm(detector="drill_break", t_ns=old))
        ear.wait(lambda: json.loads(ear.texts(LIST)[-1])["alarms"] == [])
        assert hook.counts["stale"] == 2
        assert not any("drill_break" in text for text in ear.texts(LIST)[before:])


def test_a_broker_that_refuses_the_list_is_told() -> None:
    """Rights that name the status alone, as before there was a list."""
    rights = {"line": ["stethos/site/status"]}
    with (
        MosquittoServer(users={"line": "s3cret"}, may=rights) as server,
        MqttCommand(at(server, username="line", password="s3cret")) as hook,
    ):
        until(lambda: "refuses the list of what stands: Not authorized" in hook.trouble)


class Narrow(MosquittoServer):
    """It ends a connection over which a packet of more than 300 bytes comes."""

    def prepare(self) -> None:
        super().prepare()
        with (self.folder / "mosquitto.conf").open("a") as file:
            file.write("max_packet_size 300\n")


def test_a_broker_that_hangs_up_at_the_list_gets_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two connections the list is left out for a while, which is told; it comes once it is short enough."""
    monkeypatch.setattr(mqtt_hook, "LIST_AGAIN_S", 1.0)
    names = [f"head_break_{number}" for number in range(5)]
    with (
        Narrow() as server,
        Ear(server) as ear,
        MqttCommand(at(server), topic="n/{detector}/{transition}", expires_s=60.0, payload=lambda _: b"") as hook,
    ):
        for name in names:
            hook(alarm(detector=name))
        until(lambda: "whenever it gets the list of what stands" in hook.trouble)
        assert hook.counts["connection_lost"] >= 2
        hook(alarm(detector="drill_break"))
        ear.wait(lambda: ear.texts("n/drill_break/raised"))
        for name in (*names, "drill_break"):
            hook(alarm("cleared", name))
        ear.wait(lambda: ear.texts(LIST) and json.loads(ear.texts(LIST)[-1])["alarms"] == [])
        until(lambda: hook.trouble == "")


def test_a_command_that_is_too_long_for_the_broker_costs_no_other() -> None:
    """The broker says what it takes; sent all the same, it would end the connection again and again."""

    def payload(told: Alarm) -> bytes:
        return b"x" * (1000 if told.detector == "long" else 10)

    with (
        Narrow() as server,
        Ear(server) as ear,
        MqttCommand(at(server), topic="w/{detector}", expires_s=60.0, payload=payload) as hook,
    ):
        until(lambda: hook.counts["connected"])
        hook(alarm("cleared", "long"))
        until(lambda: "the broker takes 300 at most" in hook.trouble)
        hook(alarm("cleared", "short"))
        ear.wait(lambda: ear.texts("w/short"))
        assert (hook.counts["refused"], hook.counts["connection_lost"]) == (1, 0)
