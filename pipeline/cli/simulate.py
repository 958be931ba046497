"""`stethos simulate chatter|drill|bearing|shop`: seeded machines with known truth."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from pipeline.cli.number import Number
from pipeline.cli.progress import progress_bar
from pipeline.errors import ConfigError

_SEED = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
_MINUTES = click.option(
    "--minutes", type=Number(0, 100_000, min_open=True), default=20.0, show_default=True, help="In all."
)
SPINDLES = [str(bits) for bits in (1, *range(10, 121, 10))]  # heads have rows of ten
_OUT = click.option("--out", type=click.Path(path_type=Path), help="Folder for files and truth.")


@click.command()
@click.argument("kind", type=click.Choice(["chatter", "drill", "bearing", "shop"]))
@_SEED
@_MINUTES
@_OUT
@click.option(
    "--normal-s",
    type=Number(0, 1e7),
    default=60.0,
    show_default=True,
    help="Shop only: seconds before the first event.",
)
@click.option(
    "--spindles",
    type=click.Choice(SPINDLES),
    default="1",
    show_default=True,
    callback=lambda _ctx, _param, value: int(value),
    help="Drill only: bits of a head.",
)
@click.option(
    "--microphones",
    type=click.IntRange(1, 8),
    default=4,
    show_default=True,
    help="With many spindles only: that hear the head.",
)
@click.option(
    "--tool-life", is_flag=True, help="Drill only: holes in order, as bits wear, break, are missing and are changed."
)
@click.option("--lobes", type=click.Path(path_type=Path), help="Chatter only: draw the stability lobes into this PNG.")
def simulate(
    kind: str, seed: int, minutes: float, out: Path | None, normal_s: float, spindles: int, microphones: int,
    tool_life: bool, lobes: Path | None,
) -> int:  # fmt: skip
    """Simulate machines: labelled recordings with a manifest, or (shop) one MCAP with its configuration inside."""
    _refuse_what_has_no_effect(kind, spindles, tool_life)
    if lobes is not None:
        from connectors.simulator.lobes import draw_lobes

        click.echo(str(draw_lobes(lobes)))
        if out is None:
            return 0
    if out is None:
        raise click.UsageError("name --out DIR")
    if kind == "shop" and (out / "shop.mcap").exists():
        raise ConfigError(f"{out / 'shop.mcap'}: exists already; name another folder")
    if kind != "shop" and out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out}: is not empty; two sets in one folder would be taken for one: name another folder")
    with progress_bar() as bar:
        task = bar.add_task(f"simulating {kind}", total=None)
        if kind == "shop":
            from pipeline.shop import record_shop

            bar.update(task, total=minutes * 60)
            recording, truth = record_shop(
                seed, minutes, normal_s, out, lambda seconds: bar.update(task, completed=seconds)
            )
            made = [recording, truth]
        else:
            from connectors.simulator.files import simulate as write_set

            def progress(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total)

            if spindles > 1:
                from connectors.simulator.head_set import simulate_head

                made = [simulate_head(seed, minutes, out, spindles, microphones, progress)]
            elif tool_life:
                from connectors.simulator.tool_life_set import simulate_tool_life

                made = [simulate_tool_life(seed, minutes, out, progress)]
            else:
                made = [write_set(kind, seed, minutes, out, progress)]  # type: ignore[arg-type]
    for path in made:
        click.echo(str(path))
    return 0


def _refuse_what_has_no_effect(kind: str, spindles: int, tool_life: bool) -> None:
    """A default may stand where it is not used; what somebody typed may not."""
    context = click.get_current_context()

    def typed(option: str) -> bool:
        return context.get_parameter_source(option) is not ParameterSource.DEFAULT

    if typed("lobes") and kind != "chatter":
        raise click.UsageError("only chatter has stability lobes")
    if spindles > 1 and kind != "drill":
        raise click.UsageError("only drill has a head of many spindles")
    if tool_life and (kind != "drill" or spindles > 1):
        raise click.UsageError("--tool-life is of drill with one spindle")
    if typed("microphones") and spindles == 1:
        raise click.UsageError("--microphones is of a head of many spindles: simulate drill with --spindles 10 or more")
    if typed("normal_s") and kind != "shop":
        raise click.UsageError(
            "--normal-s is of shop: the recordings of other kinds have no time before the first event"
        )
