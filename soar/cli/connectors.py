"""`soar connectors`: list, show, test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from soar import logs
from soar.cli.base import FOUND, UNAVAILABLE, ConfigOption, JsonOption, out, print_json, run, settings, table, text
from soar.cli.ground import at_hand, print_faults
from soar.cli.stored import stored
from soar.connector.base import BoundAction
from soar.connector.loader import Loaded, Loader
from soar.connector.registry import Registry
from soar.errors import ConfigError, ConnectorError, NotFoundError
from soar.located import did_you_mean
from soar.model.clock import SystemClock
from soar.model.limits import Limits
from soar.service import build_registry
from soar.settings import Loaded as Configuration
from soar.store.queueing import Traffic


def add_to(app: typer.Typer) -> None:
    """Add `connectors` and its commands."""
    group = typer.Typer(help="See and try what soar can act through.", no_args_is_help=True)
    group.command(name="list")(list_connectors)
    group.command()(show)
    group.command()(status)
    group.command(name="test")(ask_connectors)
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
        columns = ("version", "quality", "digest", "actions", "product")
        first = ("connector",) if available else ("name", "connector")
        shown = ([*(row[key] for key in first), *(_brief(row, column) for column in columns)] for row in rows)
        table("", (*first, *columns), shown)
    print_faults(faults)
    if faults:
        raise typer.Exit(FOUND)


def _wanted(loaded: Configuration | None, loader: Loader, *, available: bool) -> Iterable[tuple[str, str]]:
    """Instance and connector."""
    if available or loaded is None:
        return [(name, name) for name in loader.names()]
    return [(name, each.use) for name, each in loaded.settings.connectors.items()]


def _loader(loaded: Configuration | None) -> Loader:
    folder = loaded.settings.connectors_dir if loaded else None
    return Loader(loaded.path(folder) if loaded and folder else None)


def _described(found: Loaded) -> dict[str, Any]:
    connector = found.connector
    return {
        "connector": found.info.name,
        "version": connector.version,
        "quality": connector.quality,
        "vendor": connector.vendor,
        "product": connector.product,
        "digest": found.info.digest,
        "from": found.info.origin,
        "actions": len(found.actions),
    }


def _brief(row: dict[str, Any], column: str) -> Any:
    return row[column][:12] if column == "digest" else row[column]


def show(
    name: Annotated[str, typer.Argument(help="A configured instance, or an installed connector.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what one connector can do, what harm that can do, and how it is taken back.

    Example: soar connectors show jira
    """
    loaded = at_hand(config)
    loader = _loader(loaded)
    instances = {key: each.use for key, each in loaded.settings.connectors.items()} if loaded else {}
    known = {*instances, *loader.names()}
    if name not in known:
        raise NotFoundError(f"no connector {name!r}{did_you_mean(name, sorted(known))}")
    found = loader.load(instances.get(name, name))
    if as_json:
        specs = [bound.spec.model_dump(mode="json") for bound in found.actions.values()]
        print_json({"name": name, **_described(found), "actions": specs})
        return
    about = _described(found)
    out.print(
        f"[bold]{text(name)}[/bold]: {text(about['connector'])} {text(about['version'])}, {text(about['quality'])}"
    )
    out.print(f"for {text(about['vendor'])} {text(about['product'])} {text(found.connector.product_versions)}".rstrip())
    out.print(f"from {text(about['from'])}, digest {about['digest'][:12]}")
    if found.connector.limits:
        out.print(f"limits of its own: {text(found.connector.limits)}")
    for bound in found.actions.values():
        _show_action(bound)
    out.print("[dim]params with * are required[/dim]")


def _show_action(bound: BoundAction) -> None:
    spec = bound.spec
    required = set(spec.params_schema.get("required", ()))
    params = ", ".join(f"{name}*" if name in required else name for name in spec.params_schema.get("properties", {}))
    nature = [f"effect {spec.effect}", f"risk {spec.risk}"]
    nature += [f"{role} {verb}" for role, verb in (("undo", spec.undo), ("verify", spec.verify)) if verb]
    capability = f" [cyan]{text(spec.capability)}[/cyan]" if spec.capability else ""
    out.print(f"\n[bold]{text(spec.verb)}[/bold]{capability}: {text(spec.summary)}")
    out.print(f"  {', '.join(nature)}")
    out.print(f"  params {text(params or 'none')}")


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what each instance bears, how many calls are under way and queued there, and whether it is left alone.

    Example: soar connectors status
    """
    rows = run(_traffic(config))
    if as_json:
        print_json(rows)
        return
    table("", ("instance", "limits", "in flight", "queued", "held until"), [list(row.values()) for row in rows])


async def _traffic(config: Path | None) -> list[dict[str, Any]]:
    async with stored(config) as opened:
        now = SystemClock().now()
        registry = build_registry(opened.loaded, SystemClock())
        try:
            limits = registry.catalogue().limits
        finally:
            await registry.close()
        found = {each.instance: each for each in await opened.store.traffic(now)}
        return [_standing(name, limits.get(name), found.get(name), now) for name in opened.loaded.settings.connectors]


def _standing(name: str, limits: Limits | None, found: Traffic | None, now: datetime) -> dict[str, Any]:
    held = found.held_until if found else None
    return {
        "instance": name,
        "limits": str(limits or "none"),
        "in_flight": found.under_way if found else 0,
        "queued": found.queued if found else 0,
        "held_until": held if held and held > now else None,
    }


def ask_connectors(
    names: Annotated[list[str] | None, typer.Argument(help="Instances; else all of them.", show_default=False)] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask each product whether it knows us and lets us in; changes nothing. Exit code 4 if one does not.

    Example: soar connectors test jira-prod
    """
    logs.configure(level="error")
    results = run(_test(settings(config), names or []))
    if as_json:
        print_json(results)
    else:
        for result in results:
            word = "[green]ok[/green]    " if result["ok"] else "[red]FAILED[/red]"
            out.print(f"{word} {text(result['name'])}: {text(result['message'])}")
        if not results:
            out.print("no connectors are configured")
    if not all(result["ok"] for result in results):
        raise typer.Exit(UNAVAILABLE)


async def _test(loaded: Configuration, names: list[str]) -> list[dict[str, Any]]:
    registry = build_registry(loaded, SystemClock())
    try:
        unknown = [name for name in names if name not in loaded.settings.connectors]
        if unknown:
            raise NotFoundError(
                f"no connector instance {unknown[0]!r}{did_you_mean(unknown[0], loaded.settings.connectors)}"
            )
        wanted = dict.fromkeys(names or loaded.settings.connectors)
        return list(await asyncio.gather(*(tried(registry, name) for name in wanted)))
    finally:
        await registry.close()


async def tried(registry: Registry, name: str) -> dict[str, Any]:
    """What one product says to us: name, ok, message, and the error's code where it says no."""
    try:
        return {"name": name, "ok": True, "message": await registry.test(name), "code": None}
    except ConnectorError as failure:
        return {"name": name, "ok": False, "message": str(failure).removeprefix(f"{name}: "), "code": failure.code}
