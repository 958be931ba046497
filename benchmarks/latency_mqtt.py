"""From the fast lane's hook to a subscriber of a real MQTT broker: what a command adds to the detector's own latency.

Hook, broker and subscriber share the machine; commands come at irregular times, 20 ms apart on average. What a network
and a PLC's cycle add is theirs.
"""

from __future__ import annotations

import os
import time

import numpy as np

from benchmarks.latency_table import NS, table
from connectors.mqtt_hook import MqttCommand
from connectors.mqtt_session import Broker
from pipeline.messages import Alarm
from tests.servers.mosquitto import MosquittoServer
from tests.servers.mqtt_ear import Ear

GAP_S = 0.02


def measure_all(seconds: float) -> None:
    """Commands for so long."""
    gaps = np.random.default_rng(1).exponential(GAP_S, round(seconds / GAP_S))
    with MosquittoServer() as server, Ear(server) as ear:
        arrived: list[int] = []
        ear.then = lambda message: arrived.append(time.time_ns()) if message.topic == "stop" else None
        with MqttCommand(Broker("127.0.0.1", server.tcp_port), topic="stop", queue=len(gaps)) as hook:
            ear.wait(lambda: ear.heard)  # the status: connected
            sent = []
            for gap in gaps.tolist():
                time.sleep(gap)
                sent.append(time.time_ns())
                hook(Alarm("m", ("mic",), "drill_break", sent[-1], "raised", 0, sent[-1], "critical", "", 2.0, 1.0, ""))
            ear.wait(lambda: len(arrived) + hook.failures >= len(sent))
    latencies = [(came - went) / NS for went, came in zip(sent, arrived, strict=True)]
    load = {"load": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
    table(latencies, latency="command", way="mqtt, hook to subscriber", **load)
