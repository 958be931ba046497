"""`stethos bench drill`: the drill paper's experiment, its protocol beside the leak-free one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

import click

from pipeline.cli.number import Number
from pipeline.cli.progress import progress_bar
from pipeline.errors import MissingExtra

Likelihood: TypeAlias = Literal["bernoulli", "gaussian", "l1"]
_QUICK_ARMS = ("none", "classical 1x", "vae 1x", "vae only 1x")
_QUICK_CLIPS = 24


def vae_options(command: Callable[..., int]) -> Callable[..., int]:
    """Options of the autoencoder, as `vae_epochs`, `latent`, `conditional`, `likelihood`, `stft`, `warm_up`."""
    for option in (
        click.option(
            "--warm-up", type=click.IntRange(min=0), default=0, show_default=True,
            help="Epochs until the latent terms count fully.",
        ),
        click.option(
            "--stft", type=Number(min=0), default=0.0, show_default=True,
            help="Weight of the multi-resolution spectral loss.",
        ),
        click.option("--likelihood", type=click.Choice(get_args(Likelihood)), default="bernoulli", show_default=True),
        click.option("--conditional", is_flag=True, help="One autoencoder that is told the class, not one per class."),
        click.option("--latent", type=click.IntRange(min=1), default=2, show_default=True, help="Latent numbers."),
        click.option("--vae-epochs", type=click.IntRange(min=1), default=20, show_default=True),
    ):  # fmt: skip
        command = option(command)
    return command


def vae_training(
    seed: int, *, vae_epochs: int, latent: int, conditional: bool, likelihood: str, stft: float, warm_up: int
) -> Any:
    """The settings (`models.drill.train.Training`) that the options mean; torch is set to one thread.

    Raises:
        MissingExtra: without torch.
    """
    try:
        from models.drill.elbo import Objective
        from models.drill.train import Training, one_thread
        from models.drill.vae import VaeSettings
    except ImportError as error:
        raise MissingExtra("train", "the drill experiment") from error

    one_thread()
    objective = Objective(cast(Likelihood, likelihood), stft, warm_up)
    return Training(vae_epochs, seed=seed, network=VaeSettings(latent, 2 * conditional), objective=objective)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for cells, tables, figures, report."
)
@click.option("--quick", is_flag=True, help="Few clips, arms and epochs: shows that it runs, measures nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
@click.option(
    "--sounds", type=click.Path(path_type=Path), help="normal/ and anomaly/ (and groups.csv). [default: simulated]"
)
@click.option("--bits", type=click.IntRange(min=2), default=6, show_default=True, help="Of the simulated heads.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True, help="Of the group five-fold.")
@click.option(
    "--paper-seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Divisions, paper's protocol."
)
@click.option(
    "--by", type=click.Choice(["event", "run"]), default="event", show_default=True, help="Held out together."
)
@click.option(
    "--epochs", type=click.IntRange(min=0), default=160, show_default=True, help="Of AlexNet; 0 leaves it out."
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Pretrained AlexNet, safetensors only.",
)
@click.option("--report-only", is_flag=True, help="Compute no further cell.")
@click.option(
    "--refresh",
    type=click.Path(path_type=Path, exists=True),
    help="Markdown to renew marked parts and figures in.",
)
@vae_options
def drill(
    out: Path, quick: bool, as_json: bool, sounds: Path | None, bits: int, seed: int, repeats: int, paper_seeds: int,
    by: str, epochs: int, weights: Path | None, report_only: bool, refresh: Path | None, **vae: Any,
) -> int:  # fmt: skip
    """Repeat the drill paper (arXiv 2209.11527): tables, figures, provenance and a report in one go.

    Go on after an interruption by the same command; --repeats, --epochs and --weights may change in between.
    """
    if quick:
        vae["vae_epochs"], repeats, paper_seeds, epochs = min(2, vae["vae_epochs"]), 1, 1, 0
    training = vae_training(seed, **vae)
    from models.drill.arms import ARMS
    from models.drill.cells import Cells
    from models.drill.classifiers import Alex
    from models.drill.data import digest, load
    from models.drill.document import refresh as renew
    from models.drill.grid import Grid, Plan
    from models.drill.report import provenance, sentences, write
    from models.drill.summary import as_json as whole
    from models.drill.summary import summarise

    began = time.process_time()
    known = load(sounds or _simulated(out, seed, bits, _QUICK_CLIPS if quick else 67))
    arms = tuple(a for a in ARMS if not quick or a.name in _QUICK_ARMS)
    alex = Alex(weights=weights, choices=(float(epochs),))
    plan = Plan(repeats, 3 if quick else 5, 4, by, arms, paper_seeds, training, epochs, alex, seed)
    cells = Cells(out / "cells", {"data": digest(known), "plan": plan.identity()})
    with progress_bar() as bar:
        task = bar.add_task("drill", total=None)
        grid = Grid(known, plan, cells, lambda name: bar.update(task, description=name))
        if not report_only:
            grid.run()
        bar.update(task, description="report")
        source = "own sounds" if sounds else "simulated drills"
        summary = summarise(grid, [alex.name] if epochs else [], 200 if quick else 3000, 200 if quick else 2000, source)
        simulated = None if sounds else {"seed": seed, "bits": bits}
        settings = {"plan": plan.identity(), "simulated": simulated, "alexnet": alex.name, "repeats": repeats}
        made = write(summary, out, provenance(settings, digest(known), time.process_time() - began))
        if refresh is not None:
            made += renew(refresh, summary, [p for p in made if p.suffix == ".png"])
    if as_json:
        click.echo(json.dumps(whole(summary), allow_nan=False))
    else:
        for line in [*sentences(summary), *map(str, made)]:
            click.echo(line)
    return 0


def _simulated(out: Path, seed: int, bits: int, per_class: int) -> Path:
    """The simulated sounds of these settings, written if they are not there; their table is written last."""
    from models.drill.data import TABLE

    folder = out / f"sounds-seed-{seed}-bits-{bits}-clips-{per_class}"
    if (folder / TABLE).is_file():
        return folder
    from pipeline.cli.drill_sounds import write_sounds

    with progress_bar() as bar:
        task = bar.add_task("simulating drills", total=None)
        return write_sounds(
            seed, folder, per_class=per_class, bits=bits, progress=lambda d, t: bar.update(task, completed=d, total=t)
        )
