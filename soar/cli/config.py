"""`soar config`: schema, check."""

from __future__ import annotations

import typer

from soar.cli.base import FOUND, ConfigOption, JsonOption, out, print_json, run, settings, text
from soar.cli.ground import counted, plain_faults, print_faults
from soar.errors import ConfigError
from soar.model.clock import SystemClock
from soar.service import build_registry
from soar.service.deciding import server_of
from soar.settings import Loaded, settings_schema


def add_to(app: typer.Typer) -> None:
    """Add `config` and its commands."""
    group = typer.Typer(help="Check soar.yaml and describe it to editors.", no_args_is_help=True)
    group.command()(schema)
    group.command()(check)
    app.add_typer(group, name="config")


def schema() -> None:
    """Print the JSON Schema of soar.yaml, for editors.

    Example: soar config schema > soar.schema.json
    """
    print_json(settings_schema())


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the configuration, the environment's overrides, connectors and bindings; exit code 1 if one is wrong.

    `soar doctor` looks further: at folders, keys, the store, policies and the other side.

    Example: soar config check -c /etc/soar/soar.yaml
    """
    faults: list[ConfigError] = []
    loaded = None
    try:
        loaded = settings(config)
        run(_build(loaded))
    except ConfigError as failure:
        faults.append(failure)
    if as_json:
        print_json({"file": loaded.file if loaded else None, "errors": plain_faults(faults)})
    else:
        print_faults(faults)
    if faults:
        raise typer.Exit(FOUND)
    if loaded and not as_json:
        chosen = loaded.settings
        store = "PostgreSQL" if chosen.store.url else loaded.path(chosen.store.path)
        parts = counted(len(chosen.connectors), "connector"), counted(len(chosen.people), "person", "people")
        out.print(f"{text(loaded.file)}: no errors; {', '.join(parts)}, store {text(store)}")


async def _build(loaded: Loaded) -> None:
    server_of(loaded)
    registry = build_registry(loaded, SystemClock())
    await registry.close()
