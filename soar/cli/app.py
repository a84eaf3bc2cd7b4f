"""The tree of commands."""

from __future__ import annotations

from typing import Annotated

import typer

from soar import __version__
from soar.cli import keys, operate, start, study, witness

app = typer.Typer(
    name="soar",
    help="Answers security alerts: journal first, policy always, approvals bound to what runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"soar {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


start.add_to(app)  # init, run, demo, lab, ingest
operate.add_to(app)  # alerts, runs, approvals, explain, deadletters, halt, resume
study.add_to(app)  # playbook, policy, connectors, mapping, audit, config, doctor
keys.add_to(app)  # init, show, rotate
witness.add_to(app)
