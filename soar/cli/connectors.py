"""`soar connectors`: list, show, test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from soar.cli.base import FOUND, UNAVAILABLE, ConfigOption, JsonOption, out, print_json, run, settings, table, text
from soar.cli.ground import at_hand, print_faults
from soar.connector.base import BoundAction
from soar.connector.loader import Loaded, Loader
from soar.connector.registry import Registry
from soar.errors import ConfigError, ConnectorError, NotFoundError
from soar.located import did_you_mean
from soar.model.clock import SystemClock
from soar.service import build_registry
from soar.settings import Loaded as Configuration


def add_to(app: typer.Typer) -> None:
    """Add `connectors` and its commands."""
    group = typer.Typer(help="See and try what soar can act through.", no_args_is_help=True)
    group.command(name="list")(list_connectors)
    group.command()(show)
    group.command(name="test")(test_connectors)
    app.add_typer(group, name="connectors")


def list_connectors(
    available: Annotated[bool, typer.Option("--available", help="Those installed, configured or not.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the configured connectors; the digest is over the code that runs.

    Example: soar connectors list --available
    """
    loaded = at_hand(config) if available else settings(config)
    loader = _loader(loaded)
    faults: list[ConfigError] = []
    rows: list[dict[str, Any]] = []
    for name, use in _wanted(loaded, loader, available=available):
        try:
            rows.append({"name": name, **_described(loader.load(use))})
        except ConfigError as failure:
            place = loaded.place("connectors", name, "use") if loaded and not available else None
            faults.append(ConfigError(failure.message, place))
    if as_json:
        print_json(rows)
    else:
        columns = ("connector", "version", "quality", "digest", "actions", "product", "from")
        shown = ((row["name"], *(row[c] if c != "digest" else row[c][:12] for c in columns)) for row in rows)
        table("", ("name", *columns), (row[1:] if available else row for row in shown)) if not available else table(
            "", columns, (row[1:] for row in shown)
        )
    print_faults(faults)
    if faults:
        raise typer.Exit(FOUND)
