"""A hook of the fast lane that sends each alarm as a command to an MQTT 5 broker, for a PLC to act on.

The hook itself only notes the alarm; a thread of its own talks to the broker, so that a slow or absent one never holds
samples up. A command is worth something for some seconds alone: what is older is dropped and counted, never sent late.
It is sent at least once (QoS 1), and a repeat bears the same id.

The retained status says whether anybody listens: ``online`` while samples of every machine are heard, ``silent`` when
they are not, ``offline`` when the broker has lost us (its last will). Below it the retained list of the alarms that
stand ends what no ``cleared`` ended: a restart forgets, and a command may expire. Advisory, not a protective function:
the machine must be safe when no command comes.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from connectors.mqtt_command import Command, check_topic, fill, payload_of, standing_of, topic_of
from connectors.mqtt_session import CONNECT_S, Broker, Session, wake_pair
from pipeline.errors import ConfigError
from pipeline.messages import NS, Alarm

TOPIC = "stethos/{machine}/{detector}"
STATUS_TOPIC = "stethos/{site}/status"
LIST_AGAIN_S = 60.0
"""After two connections that ended with an unanswered list, so long goes by without one."""
STANDING = "/standing"
"""Behind the status topic: where the list of the alarms that stand is kept."""
DROPS = ("stale", "full", "expired", "unacknowledged", "refused", "closed")
"""Why a command was not sent: its event lies too far back; too many waited; it waited too long for a broker; no broker
confirmed it in time (it may have come); the broker refused it, or takes none of its size; the hook was closed."""
SILENT_S = 2.0
RETRY_S = (0.1, 5.0)
"""First and longest wait between two tries to connect."""
ANSWER_S = 1.0
"""A broker has so long at least to confirm a command, however little time that had left when it was sent."""
LEAVE_S = 1.0
"""What waits at the end has so long to be sent."""
TURN_S, LAST_TURN_S = 0.25, 0.02
"""Longest wait for something to do; at the end, for the last confirmation."""
IN_FLIGHT = 10
"""Commands on their way at once: more wait here, where they can still expire."""


class MqttCommand:
    """Sends alarms as commands; a context manager that several fast lanes may hold open at once.

    Attributes:
        counts: ``published`` (the broker confirmed it), ``connected``, ``connection_failed``, ``connection_lost``, the
            reasons of `DROPS`, and ``failed`` (faults of detectors and hook in the lanes).

    Args:
        broker: where to; without a client id its name is made of site and host.
        topic: of commands; may name {site}, {machine}, {detector}, {transition}, {severity}.
        status_topic: of the retained status; may name {site}, {client}. The list of what stands lies below it.
        site: this plant's name.
        machines: whose samples must be heard for the status ``online``.
        expires_s: a command is sent at most so long after its event.
        queue: most commands that wait; beyond, the oldest are dropped.
        payload: makes a command of an alarm, UTF-8.
        clock_ns: the host's clock, which event times are held against.

    Raises:
        ConfigError: a topic or a TLS file cannot be used.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        topic: str = TOPIC,
        status_topic: str = STATUS_TOPIC,
        site: str = "site",
        machines: Collection[str] = (),
        expires_s: float = 5.0,
        queue: int = 100,
        payload: Callable[[Alarm], bytes] = payload_of,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if not expires_s > 0.0 or queue < 1:
            raise ConfigError("a command needs some time before it expires, and room for at least one that waits")
        client_id = broker.client_id or f"stethos-{site}-{socket.gethostname()}"
        self.broker = Broker(**{**vars(broker), "client_id": client_id})
        self._context = broker.context()
        self._topic, self._site = topic, site
        check_topic(topic, site)
        self._status_topic = fill(status_topic, site=site, client=client_id)
        self._heard = dict.fromkeys(machines, -math.inf)
        self._expires_s, self._most = expires_s, queue
        self._payload, self._clock_ns = payload, clock_ns
        self.counts: Counter[str] = Counter(
            dict.fromkeys(("published", "connected", "connection_failed", "connection_lost", "failed", *DROPS), 0)
        )
        self._lock = threading.Lock()
        self._waiting: deque[Command] = deque()
        self._flying: dict[int, Command] = {}
        self._status, self._trouble, self._refusal = b"", "", ""
        self._since_ns = clock_ns()
        self._standing: dict[str, Alarm] = {}  # by condition: of each, one alarm stands at most
        self._listed = b""  # as the broker was told it last, under this number
        self._list_number: int | None = None
        self._list_losses, self._list_again = 0, -math.inf
        self._holders, self._greeted = 0, False
        self._alone = threading.Lock()
        """Of the thread that has the connection: a name that is looked up may outlast its closing."""
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._wake: tuple[socket.socket, socket.socket] | None = None

    # the hook, in the thread that polls ----------------------------------------------------------------------------

    def __call__(self, alarm: Alarm) -> None:
        """Note an alarm, to be sent at once; never waits."""
        left_s = self._expires_s - max(0.0, (self._clock_ns() - alarm.t_ns) / NS)
        with self._lock:
            if alarm.transition == "cleared":
                self._standing.pop(alarm.condition, None)
            elif left_s > 0.0:  # nobody was told of a stale one
                self._standing[alarm.condition] = alarm
        if left_s <= 0.0:
            self._drop("stale", 1)
            self._ring()
            return
        with self._lock:
            full = len(self._waiting) >= self._most
            if full:
                self._waiting.popleft()
            self._waiting.append(Command(alarm, time.monotonic() + left_s))
        self._drop("full", int(full))
        self._ring()

    def heard(self, machine: str) -> None:
        """The detectors of a machine have taken samples in."""
        if machine in self._heard:
            self._heard[machine] = time.monotonic()

    @property
    def failures(self) -> int:
        """Commands that were not sent, or never confirmed."""
        return sum(self.counts[reason] for reason in DROPS)

    @property
    def trouble(self) -> str:
        """What is wrong with the broker, or became of the last command; empty if nothing."""
        return self._trouble or self._refusal

    def __enter__(self) -> Self:
        if self._thread is None:
            self._ending, sockets = threading.Event(), ExitStack()
            self._wake = sockets.enter_context(wake_pair())
            self._thread = threading.Thread(
                target=self._run, args=(self._wake[0], sockets, self._ending), name="mqtt-command", daemon=True
            )
            self._thread.start()
        self._holders += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._holders -= 1
        if self._holders == 0 and self._thread is not None:
            self._ending.set()
            self._ring()
            # in the thread that polls: the intake closes a device that has failed, and the others' samples wait
            self._thread.join(2.0 * LEAVE_S if self._greeted or self._waiting else 0.0)
            self._thread, self._wake = None, None
            with self._lock:
                left = len(self._waiting)
                self._waiting.clear()
            self._drop("closed", left)

    def _ring(self) -> None:
        if self._wake is not None:
            with suppress(OSError):  # full, or closed: it is awake anyway
                self._wake[1].send(b"\0")

    def _count(self, name: str, number: int = 1) -> None:
        with self._lock:
            self.counts[name] += number

    def _drop(self, reason: str, number: int) -> None:
        if number:
            self._count(reason, number)
            self._refusal = f"the last command was not sent, or not confirmed: {reason}"

    # the thread ----------------------------------------------------------------------------------------------------

    def _run(self, wake: socket.socket, sockets: ExitStack, ending: threading.Event) -> None:
        wait = RETRY_S[0]
        with sockets:
            while not ending.is_set():
                before = self.counts["connected"]
                self._connect(wake, ending)
                if self.counts["connected"] > before:
                    wait = RETRY_S[0]
                self._pause(wait, wake, ending)
                wait = min(2.0 * wait, RETRY_S[1])

    def _connect(self, wake: socket.socket, ending: threading.Event) -> None:
        """One connection, from its opening to its end; none while a thread that was left behind still opens its own."""
        if not self._alone.acquire(blocking=False):
            self._trouble = f"MQTT broker {self.broker}: the last attempt to connect has not ended"
            return
        try:
            session = Session(self.broker, self._context, self._status_topic)
            if threading.current_thread() is self._thread:
                self._serve(session, wake, ending)
            else:
                session.close()
        except Exception as error:  # not reached, or something unforeseen: in either case try again
            self._count("connection_failed")
            self._trouble = f"MQTT broker {self.broker}: {error or type(error).__name__}"
        finally:
            self._alone.release()

    def _pause(self, seconds: float, wake: socket.socket, ending: threading.Event) -> None:
        """Wait before the next try, and let go meanwhile what has expired."""
        until = time.monotonic() + seconds
        while not ending.is_set() and (left := until - time.monotonic()) > 0.0:
            wake.settimeout(min(left, TURN_S))
            with suppress(OSError):
                wake.recv(4096)
            wake.setblocking(False)
            self._expire()

    def _expire(self) -> None:
        now = time.monotonic()
        with self._lock:
            if all(command.until > now for command in self._waiting):
                return
            kept = [command for command in self._waiting if command.until > now]
            gone = len(self._waiting) - len(kept)
            self._waiting = deque(kept)
        self._drop("expired", gone)

    def _serve(self, session: Session, wake: socket.socket, ending: threading.Event) -> None:
        """Send over one connection until it ends, or all is said and the hook is closed."""
        answer_by, leave_by = time.monotonic() + CONNECT_S, math.inf
        greeted = False
        self._status = self._listed = b""
        self._list_number = None
        try:
            while not session.lost:
                now = time.monotonic()
                if session.connected and not greeted:
                    greeted = self._greeted = True
                    self._trouble = ""
                    self._count("connected")
                    self._tell_standing(session)  # first: "online" beside the list of an earlier run would vouch for it
                if greeted:
                    self._tell_status(session, now)
                    self._send(session)
                    self._tell_standing(session)
                elif now > answer_by:
                    session.lost = "it takes the connection and says nothing"
                if ending.is_set():
                    leave_by = min(leave_by, now + LEAVE_S)
                    if now >= leave_by or (greeted and not self._waiting and not self._flying):
                        session.leave()
                        break
                session.turn(TURN_S if not ending.is_set() else LAST_TURN_S, wake)
                self._settle(session)
        finally:
            self._land(session, greeted, ending.is_set())

    def _tell_status(self, session: Session, now: float) -> None:
        listening = all(now - heard < SILENT_S for heard in self._heard.values())
        status = b"online" if listening else b"silent"
        if status != self._status and session.room:
            self._status = status
            session.publish(self._status_topic, status, retain=True)

    def _tell_standing(self, session: Session) -> None:
        if self._list_losses >= 2 and time.monotonic() < self._list_again:  # commands are worth more
            self._trouble = (
                f"MQTT broker {self.broker}: it ends the connection whenever it gets the list of what stands"
            )
            return
        with self._lock:
            alarms = [*self._standing.values()]
        listed = standing_of(alarms, self._since_ns)
        if listed != self._listed and session.room:
            self._listed = listed
            self._list_number = session.publish(self._status_topic + STANDING, listed, retain=True)

    def _send(self, session: Session) -> None:
        self._expire()
        while len(self._flying) < IN_FLIGHT and session.room:
            with self._lock:
                if not self._waiting:
                    return
                command = self._waiting.popleft()
            try:
                topic, payload = topic_of(self._topic, self._site, command.alarm), self._payload(command.alarm)
                session.check(topic, payload)
            except Exception as error:  # of a payload that others made: it must not cost the connection
                self._count("refused")
                self._refusal = f"a command of '{command.alarm.id}' cannot be sent: {type(error).__name__}: {error}"
                continue
            now = time.monotonic()
            left_s = max(1, math.floor(command.until - now))  # whole seconds; 0 would mean for ever
            number = session.publish(topic, payload, expiry_s=left_s)
            self._flying[number] = command._replace(answer_by=max(command.until, now + ANSWER_S))

    def _settle(self, session: Session) -> None:
        """Take the broker's answers; one that does not answer in time is no connection."""
        answers, session.answers = session.answers, []
        for number, refusal in answers:
            if number == self._list_number:
                self._list_number, self._list_losses = None, 0
                self._trouble = (
                    "" if not refusal else f"MQTT broker {self.broker}: it refuses the list of what stands: {refusal}"
                )
            command = self._flying.pop(number, None)
            if command is not None:
                self._count("refused" if refusal else "published")
                self._refusal = f"MQTT broker {self.broker}: it refuses commands: {refusal}" if refusal else ""
        stuck = not session.room and session.owed_s > max(self._expires_s, CONNECT_S)  # by a list without an answer
        if stuck or any(command.answer_by < time.monotonic() for command in self._flying.values()):
            session.lost = "it does not confirm what it is sent"

    def _land(self, session: Session, greeted: bool, last: bool) -> None:
        """The connection is over: what was not confirmed is sent again while it is worth something."""
        session.close()
        self._greeted = False
        now = time.monotonic()
        if session.lost and self._list_number is not None:
            self._list_losses, self._list_again = self._list_losses + 1, now + LIST_AGAIN_S
        again = [command for command in self._flying.values() if command.until > now and not last]
        self._drop("unacknowledged", len(self._flying) - len(again))
        self._flying.clear()
        with self._lock:
            self._waiting.extendleft(reversed(again))
        if session.lost:
            self._count("connection_lost" if greeted else "connection_failed")
            self._trouble = f"MQTT broker {self.broker}: {session.lost}"
