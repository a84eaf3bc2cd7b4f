"""What authors' commands stand on: the configuration where there is one, and the actions that it offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soar.cli.base import err, run, settings, text
from soar.connector.registry import Registry
from soar.errors import ConfigError, InputError, NotFoundError, Place
from soar.library.folder import Library, load_folders
from soar.located import did_you_mean
from soar.model.action import ActionSpec, Effect, Risk
from soar.model.catalogue import Catalogue, Offer
from soar.model.clock import SystemClock
from soar.service import build_registry
from soar.settings import DEFAULT_FILE, Loaded


class Unchecked(Catalogue):
    """Stands in where nothing says which actions there are: every word after `use:` is one, and takes anything."""

    def resolve(self, use: str) -> Offer:
        """An action with open schemas, so that all else about a playbook can still be checked."""
        owner, _, verb = use.partition(".")
        anything = {"additionalProperties": True}
        spec = ActionSpec(
            connector=owner,
            verb=verb,
            summary="unchecked",
            effect=Effect.UNSAFE,
            risk=Risk.NONE,
            params_schema=anything,
            result_schema=anything,
        )
        return Offer(instance=owner, connector_version="", spec=spec)


@dataclass(frozen=True, slots=True)
class Ground:
    """A configuration if there is one, what `use:` can mean, and why that was not checked if it was not."""

    loaded: Loaded | None
    catalogue: Catalogue
    unchecked: str | None = None

    def folders(self) -> list[Path]:
        """The configured folders of playbooks."""
        return [self.loaded.path(path) for path in self.loaded.settings.playbooks] if self.loaded else []

    def library(self) -> Library:
        """The playbooks in force, from the configured folders or from the one here."""
        return load_folders(self.folders() or [Path("playbooks")], self.catalogue)


def at_hand(config: Path | None) -> Loaded | None:
    """The configuration; None where none was named and the one here is missing, or wrong, which is told.

    Who writes a mapping must not wait for somebody else's soar.yaml. Raises ConfigError for one that was named.
    """
    try:
        return settings(config)
    except ConfigError as failure:
        if config is not None:
            raise
        if failure.place != Place(DEFAULT_FILE) or Path(DEFAULT_FILE).exists():
            err.print("[yellow]going on without the configuration, which is wrong:[/yellow]")
            print_faults([failure])
        return None


def ground(config: Path | None) -> Ground:
    """What there is to stand on; raises ConfigError as `at_hand` does."""
    loaded = at_hand(config)
    if loaded is None:
        return Ground(None, Unchecked(), "actions were not checked: without a soar.yaml nothing says which there are")
    try:
        return Ground(loaded, run(_catalogue(loaded)))
    except ConfigError as failure:
        return Ground(loaded, Unchecked(), f"actions were not checked, as the connectors cannot be built:\n{failure}")


async def _catalogue(loaded: Loaded) -> Catalogue:
    registry: Registry = build_registry(loaded, SystemClock())
    try:
        return registry.catalogue()
    finally:
        await registry.close()


def no_playbook(name: str, library: Library, *, what: str = "playbook") -> NotFoundError:
    """What to raise where this names none: with the nearest name, and the files whose playbooks are left out."""
    files = sorted({fault.place.file for fault in library.errors if fault.place})
    left_out = f"; left out with errors: {', '.join(files)}" if files else ""
    return NotFoundError(f"no {what} {name!r}{did_you_mean(name, library.playbooks)}{left_out}")


def print_faults(faults: Iterable[InputError]) -> None:
    """Print what is wrong, one `file:line:col: message` a line."""
    for fault in faults:
        for line in str(fault).splitlines():
            err.print(text(line))


def plain_faults(faults: Sequence[InputError]) -> list[dict[str, Any]]:
    """What is wrong, for programs; `file` is null where no one file is to blame."""
    return [
        {
            "file": fault.place.file if fault.place else None,
            "line": fault.place.line if fault.place else 0,
            "column": fault.place.column if fault.place else 0,
            "message": fault.message,
        }
        for fault in faults
    ]


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 error`, `2 errors`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
