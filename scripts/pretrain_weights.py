r"""The command that made the shipped weights: which recordings were used, then `small`, `edge` from it, and `base`.

    python scripts/pretrain_weights.py list  --esc10 ESC10 --vroom VROOM --simulated DIR [DIR ...] --out USED.csv
    python scripts/pretrain_weights.py list  --other-half --vroom FERRY --simulated DIR [DIR ...] --out REST.csv
    python scripts/pretrain_weights.py list  --other-half --esc10 ESC10 --out LABELLED.csv
    stethos train impact --manifest USED.csv --config scripts/pretrain_small.toml --begin impact-small --out new-small
    python scripts/probe_weights.py --esc10 ESC10 --used USED.csv --out SCORES.json new-small.training
    python scripts/pretrain_weights.py package new-small.training --used USED.csv --scores SCORES.json \
        --held-out REST.csv --labelled LABELLED.csv --out models/weights/impact-small

`package` exports a run once more, now with the list of its recordings and the probe's scores on the card, calibrated on
recordings that did not train, and with what its eight bits cost on labelled ones.

`list` writes the manifest of what may be learned from, `list --other-half` that of what stays unseen:

* ESC-10 (CC0 and CC-BY clips, FLAC or OGG in a folder per category, named FOLD-SOURCE-TAKE): every second source of a
  category, in order of its number;
* vroom (MIT; one long recording per file): the first half of each file;
* `stethos simulate` sets of milling, drilling and bearings, with seeds that nothing else uses.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import soundfile

COLUMNS = ("path", "label", "group", "machine", "sensor", "modality", "rate_hz", "unit", "start_s", "end_s", "source")
CALIBRATION_SEED = 99
LICENCES = {
    "esc10": "CC-BY-3.0 (single clips CC0 or CC-BY); authors in the LICENSE file of ESC-50",
    "vroom": "MIT",
    "simulator": "own, Apache-2.0",
}
_SOUND = {".flac", ".ogg", ".wav"}


def esc10(folder: Path, half: int) -> Iterator[dict[str, object]]:
    """Every second source of each category: the first, third, … for half 0; the others as one problem of their own."""
    for category in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in category.iterdir() if path.suffix in _SOUND)
        sources = sorted({source(path) for path in files})
        for path in files:
            if sources.index(source(path)) % 2 == half:
                yield {
                    "path": path.resolve(), "label": category.name, "group": f"freesound {source(path)}",
                    "machine": "esc10" if half else category.name, "sensor": "microphone", "modality": "acoustic",
                    "unit": "FS", "source": "esc10",
                }  # fmt: skip


def source(path: Path) -> int:
    """Number of the recording on Freesound that a clip was cut from."""
    return int(path.stem.split("-")[1])


def vroom(folders: list[Path], half: int) -> Iterator[dict[str, object]]:
    """A half of each recording: 0 is the first."""
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.suffix in _SOUND):
            length_s = soundfile.info(str(path)).duration
            yield {
                "path": path.resolve(), "label": path.parent.name, "group": path.stem, "machine": folder.name,
                "sensor": "microphone", "modality": "acoustic", "unit": "FS",
                "start_s": round(half * length_s / 2, 3), "end_s": round((1 + half) * length_s / 2, 3),
                "source": "vroom",
            }  # fmt: skip


def simulated(folders: list[Path]) -> Iterator[dict[str, object]]:
    """All rows of simulated sets, whatever split they name."""
    for folder in folders:
        with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                kept = {k: row[k] for k in COLUMNS if k in row and k not in {"path", "group", "source"}}
                yield kept | {
                    "path": (folder / row["path"]).resolve(), "group": f"{folder.name} {row['group']}",
                    "source": f"simulator {folder.name.split('-')[0]}",
                }  # fmt: skip


def recordings(used: Path) -> dict[str, object]:
    """What was learned from, short enough for a card: groups by source, hours, licence."""
    with used.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    found: dict[str, object] = {}
    for name in sorted({row["source"] for row in rows}):
        groups = sorted({row["group"] for row in rows if row["source"] == name})
        if name.startswith("simulator"):
            groups = sorted({group.split()[0] for group in groups})
        found[name] = {"licence": LICENCES[name.split()[0]], "groups": groups}
    return found


def package(args: argparse.Namespace) -> int:
    """Export a run with all that its card should tell."""
    from models.impact.crops import Crops
    from models.impact.export import Facts
    from models.impact.training import facts_for_card
    from pipeline.cli.packaging import Judges, labelled_sources, package_run
    from pipeline.pretraining import takes_of

    scores = json.loads(args.scores.read_text(encoding="utf-8"))
    training = facts_for_card(args.run) | {"recordings": recordings(args.used), "note": args.note}
    crops = Crops(takes_of(args.used), seed=CALIBRATION_SEED)
    hours = {name: round(value, 3) for name, value in crops.hours().items()}
    training["data"] = {**training["data"], "hours": hours}
    told = {
        "probe": "logistic regression on held-out ESC-10 sources, folds by source; scripts/probe_weights.py",
        **{key: scores[key] for key in ("seconds", "sources", "classes", "logmel")},
        **scores[args.run.name],
    }
    name = f"impact-{training['settings']['size']}"
    facts = Facts(name=name, version=args.version, pooling=args.pooling, training=training, scores=told)
    judges = Judges(takes_of(args.held_out), labelled_sources(args.labelled))
    made = package_run(args.run, args.out, crops, facts, judges)
    print(args.out, made.digest, f"{made.size / 1e6:.2f} MB", made.card.latency, made.card.quantisation)
    return 0


def write_list(args: argparse.Namespace) -> int:
    """The manifest of what is learned from."""
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with args.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        if args.esc10 is not None:
            writer.writerows(esc10(args.esc10, args.other_half))
        writer.writerows(vroom(args.vroom, args.other_half))
        writer.writerows(simulated(args.simulated))
    print(args.out)
    return 0


def main() -> int:
    """List or package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    listing = commands.add_parser("list")
    listing.add_argument("--esc10", type=Path)
    listing.add_argument("--vroom", type=Path, nargs="+", default=[])
    listing.add_argument("--simulated", type=Path, nargs="+", default=[])
    listing.add_argument("--other-half", action="store_true")
    listing.set_defaults(do=write_list)
    packing = commands.add_parser("package")
    packing.add_argument("run", type=Path)
    packing.add_argument("--used", type=Path, required=True)
    packing.add_argument("--scores", type=Path, required=True)
    packing.add_argument("--held-out", type=Path, required=True)
    packing.add_argument("--labelled", type=Path, required=True)
    packing.add_argument("--pooling", default="band")
    packing.add_argument("--version", default="1")
    packing.add_argument("--note", default="")
    packing.set_defaults(do=package)
    for command in (listing, packing):
        command.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    return int(args.do(args))


if __name__ == "__main__":
    raise SystemExit(main())
