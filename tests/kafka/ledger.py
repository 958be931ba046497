"""What seeded runs of kills came to, on disk, so that a long form goes on where it stopped.

python -m tests.kafka.ledger        prints the counts per kind of moment for the present tree
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from scripts.test_full import fingerprints

PATH = Path(__file__).parents[2] / "var" / "kafka-kills.jsonl"


def runs(tree: str | None = None) -> dict[int, Counter[str]]:
    """By seed, the kills per kind of runs that passed with this very tree."""
    tree = tree or fingerprints()[0]
    lines = PATH.read_text().splitlines() if PATH.exists() else []
    found = [json.loads(line) for line in lines]
    return {run["seed"]: Counter(run["kinds"]) for run in found if run["tree"] == tree}


def keep(seed: int, kinds: Counter[str]) -> None:
    """A run has passed."""
    PATH.parent.mkdir(exist_ok=True)
    with PATH.open("a") as file:
        file.write(json.dumps({"tree": fingerprints()[0], "seed": seed, "kinds": kinds}) + "\n")


if __name__ == "__main__":
    known = runs()
    print(f"{len(known)} runs:", dict(sum(known.values(), Counter())))
