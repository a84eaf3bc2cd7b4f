"""`soar audit archive`: what is old leaves the store now, as the service does it once a day."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import ConfigOption, JsonOption, out, print_json, run, text
from soar.cli.ground import counted
from soar.cli.stored import stored
from soar.engine.retention import Retention, Swept
from soar.errors import ConfigError
from soar.service.storage import archive_of

DaysOption = Annotated[
    int | None,
    typer.Option("--older-than", min=7, help="Days; else what retention.days says.", show_default=False),
]


def add_to(group: typer.Typer) -> None:
    """Add the command to `soar audit`."""
    group.command()(archive)


def archive(days: DaysOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Move old payloads into the archive, and let go of runs, alerts and records that ended long ago; journalled.

    Entries stay, and so does what a run needs that has not ended. Small batches: the service goes on working.

    Example: soar audit archive --older-than 365
    """
    swept, folder = run(_archive(days, config))
    if as_json:
        print_json(swept)
        return
    out.print(f"{counted(swept.payloads, 'payload')} moved into {counted(swept.files, 'file')} of {text(folder)}")
    gone = swept.forgotten
    out.print(
        f"gone: {counted(gone.runs, 'run')}, {counted(gone.alerts, 'alert')},"
        f" {counted(gone.dead_letters, 'dead letter')}, {counted(gone.records, 'record')},"
        f" {counted(gone.windows + gone.acted, 'counter')}"
    )


async def _archive(days: int | None, config: Path | None) -> tuple[Swept, Path]:
    async with stored(config) as opened:
        age = opened.loaded.settings.retention.days if days is None else days
        if age is None:
            raise ConfigError(
                "retention.days is null, so nothing is too old; say --older-than DAYS",
                opened.loaded.place("retention", "days"),
            )
        folder = archive_of(opened.loaded)
        retention = Retention(store=opened.store, scribe=opened.scribe, folder=folder, days=age)
        return await retention.sweep(), folder.path
