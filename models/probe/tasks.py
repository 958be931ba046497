"""The thirty tasks of the DINOS benchmark (arXiv 2507.06481, Table 2): one class of one of four machines each."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import BadInput

MACHINES = ("RenishawL", "VF2", "Yornew", "ColdSpray")
CHATTER_PAIRS = (("T15", "T16"), ("T17", "T18"))
"""No chatter and chatter at equal parameters: the only pairs on which a claim about chatter may stand."""


@dataclass(frozen=True, slots=True)
class Task:
    """A class to be told from the others of its machine.

    Attributes:
        name: T1 to T30.
        machine: whose.
        key: the class as `class_key` reads it from a folder's name.
        title: for people.
        clips: published number of one-second clips.
    """

    name: str
    machine: str
    key: str
    title: str
    clips: int


_YORNEW = (
    "0.3/8000/n 78, 0.3/12000/n 78, 0.3/4000/n 78, 0.5/12000/n 74, 0.5/8000/n 76, 0.5/4000/n 78, 1.0/4000/y 78, "
    "1.0/8000/n 78, 1.0/12000/y 74, 3.0/12000/n 52, 3.0/12000/y 26, 3.0/11000/n 26, 3.0/11000/y 24, 3.0/10000/y 26, "
    "3.0/9000/y 26, 3.0/8000/y 24, 3.0/7000/y 26"
)
"""Depth in mm / spindle speed in rpm / chatter, and clips; T6 to T22 in order."""
_PLAIN = (
    ("RenishawL", "on", "On", 386),
    ("RenishawL", "off", "Off", 138),
    ("VF2", "on", "On", 260),
    ("VF2", "off", "Off", 504),
    ("VF2", "warmup", "Warm-up", 354),
)
_STATES = (("normal", "Normal"), ("depleted", "Depleted powder"), ("clogging", "Powder clogging"), ("nogas", "No gas"))
_SPRAY_CLIPS = {"stethoscope": (1214, 472, 385, 384), "mic": (1268, 472, 385, 384)}


def _tasks() -> tuple[Task, ...]:
    found = [(m, k, t, n) for m, k, t, n in _PLAIN]
    for entry in _YORNEW.split(", "):
        key, clips = entry.split()
        depth, rpm, chatter = key.split("/")
        title = f"{depth} mm, {int(rpm):,} rpm, {'chatter' if chatter == 'y' else 'no chatter'}"
        found.append(("Yornew", key, title, int(clips)))
    for sensor, counts in _SPRAY_CLIPS.items():
        found += [
            ("ColdSpray", f"{key}/{sensor}", f"{title} ({sensor})", n)
            for (key, title), n in zip(_STATES, counts, strict=True)
        ]
    return tuple(Task(f"T{i}", *entry) for i, entry in enumerate(found, 1))


TASKS: tuple[Task, ...] = _tasks()
_NUMBERED = re.compile(r"^\d+[-_ ]+")
_YORNEW_NAME = re.compile(r"^(?P<depth>[\d.]+)_(?P<width>[\d.]+)_(?P<mrr>[\d.]+)_(?P<rpm>\d+)_(?P<state>\w+)$")
_WORDS = (
    (("depleted", "deplet"), "depleted"),
    (("clog", "jam"), "clogging"),
    (("nogas", "gas"), "nogas"),
    (("normal",), "normal"),
)


def class_key(machine: str, folder: str) -> str:
    """The class that a folder's name stands for, as in `Task.key`.

    Yornew folders read ``id-depth_width_MRR_rpm_state``, those of the cold spray ``number-state_sensor``.

    Raises:
        BadInput: the name cannot be read.
    """
    name = _NUMBERED.sub("", folder.strip()).lower()
    if machine == "Yornew":
        match = _YORNEW_NAME.match(name)
        if match:
            return f"{float(match['depth']):.1f}/{int(match['rpm'])}/{'y' if _chatters(match['state']) else 'n'}"
    elif machine == "ColdSpray":
        state = next((key for words, key in _WORDS if any(w in re.sub(r"[^a-z]", "", name) for w in words)), None)
        if state:
            return f"{state}/{'stethoscope' if 'steth' in name else 'mic'}"
    else:
        plain = re.sub(r"[^a-z]", "", name)
        if plain in {"on", "off", "warmup"}:
            return plain
    raise BadInput("layout", f"the folder {folder!r} of {machine} names no class of the DINOS benchmark")


def task_of(machine: str, key: str) -> Task:
    """The task of a class.

    Raises:
        BadInput: the benchmark has no such class.
    """
    for task in TASKS:
        if (task.machine, task.key) == (machine, key):
            return task
    raise BadInput("layout", f"the DINOS benchmark has no class {key!r} of {machine}")


def _chatters(state: str) -> bool:
    return state in {"chatter", "y", "yes"}
