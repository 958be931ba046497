"""`stethos graph` and `stethos topics`: the two tables, printed."""

from __future__ import annotations

import json

import click

from pipeline import topics as table
from pipeline import topology
from pipeline.cli import kafka


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def graph(as_json: bool) -> int:
    """Print the graph of stages as a Mermaid diagram and check that it is sound."""
    wrong = topology.check()
    if as_json:
        rows = [
            {"name": s.name, "kind": s.kind, "scope": s.scope, "reads": s.reads, "writes": s.writes, "text": s.text}
            for s in topology.STAGES
        ]
        click.echo(json.dumps({"stages": rows, "wrong": wrong}, indent=2))
    else:
        click.echo(topology.mermaid())
    for line in wrong:
        click.echo(f"wrong: {line}", err=True)
    return 1 if wrong else 0


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--markdown", is_flag=True, help="As it stands in the README.")
@click.pass_context
def topics(ctx: click.Context, as_json: bool, markdown: bool) -> None:
    """Print the table of topics; with a command, look at Kafka."""
    if ctx.invoked_subcommand is not None:
        return
    if markdown:
        click.echo(table.markdown())
        return
    rows = [
        {"name": t.name, "kind": t.kind, "carries": [k.__name__ for k in t.carries], "text": t.text,
         "rate_hz": t.rate_hz, "max_age_s": t.max_age_s, "retention_h": t.retention_h}
        for t in table.TOPICS
    ]  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']:<18}{row['kind']:<6}{row['text']}")


for _command in (kafka.topics_create, kafka.topics_list, kafka.topics_lag, kafka.topics_clean):
    topics.add_command(_command)
