"""`soar mapping`: list, test."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from soar.cli.base import FOUND, ConfigOption, JsonOption, err, out, print_json, table, text
from soar.cli.ground import at_hand, counted, print_faults
from soar.errors import InputError, MappingError, NotFoundError, Place
from soar.ingest.describe import DescribedElement, Description, describe
from soar.ingest.mapping import Mappings, load_mappings, read_mapping
from soar.located import did_you_mean
from soar.model.alert import Record
from soar.model.clock import SystemClock

_LINES = (".ndjson", ".jsonl")
_ALWAYS = ("source", "product", "rule.name", "severity", "severity_score", "time", "uid")  # every alert has them


def add_to(app: typer.Typer) -> None:
    """Add `mapping` and its commands."""
    group = typer.Typer(help="See and try how payloads become alerts.", no_args_is_help=True)
    group.command(name="list")(list_mappings)
    group.command(name="test")(try_mapping)
    app.add_typer(group, name="mapping")


def list_mappings(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the mappings in force: the built-in ones, and yours.

    Example: soar mapping list
    """
    mappings, built_in = _in_force(config), load_mappings().by_name
    rows = [
        {
            "name": each.name,
            "product": each.product,
            "shapes": len(each.shapes),
            "priority": each.priority,
            "from": _origin(name, mappings, built_in),
        }
        for name, each in sorted(mappings.by_name.items())
    ]
    if as_json:
        print_json(rows)
    else:
        table("", ("mapping", "product", "shapes", "priority", "from"), (tuple(row.values()) for row in rows))
    for fault in mappings.errors:
        err.print(f"[yellow]left out:[/yellow] {text(fault)}")


def _origin(name: str, mappings: Mappings, built_in: dict[str, Any]) -> str:
    if name not in built_in:
        return "you"
    return "built in" if mappings.by_name[name] == built_in[name] else "you, instead of the built-in one"


def _in_force(config: Path | None) -> Mappings:
    loaded = at_hand(config)
    return load_mappings([loaded.path(path) for path in loaded.settings.mappings] if loaded else ())


def try_mapping(
    files: Annotated[
        list[Path],
        typer.Argument(help="A mapping (.yaml) and samples; or samples alone, or - first, to try those in force."),
    ],
    name: Annotated[str | None, typer.Option("--mapping", help="Use this mapping in force.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a mapping makes of samples: the alert, and which expression filled each field.

    Exit code 1 if a sample, or a part of one, becomes no alert.

    Example: soar mapping test mappings/acme.yaml sample.json
    """
    mappings, samples = _in_force(config), list(files)
    if files[0].suffix in {".yaml", ".yml"}:
        mappings, name = _with(mappings, files[0])
        samples = files[1:]
    elif str(files[0]) == "-":
        samples = files[1:]
    if name is not None and name not in mappings.by_name:
        raise NotFoundError(f"no mapping {name!r}{did_you_mean(name, mappings.by_name)}")
    if not samples:
        raise MappingError("there is no sample; name one or more JSON files", Place(str(files[0])))
    found = [(label, describe(mappings, record)) for path in samples for label, record in _records(path, name)]
    if as_json:
        print_json([{"sample": label, **each.model_dump(mode="json")} for label, each in found])
    else:
        for label, each in found:
            _show(label, each, named=name)
    if any(element.alert is None for _, each in found for element in each.elements):
        raise typer.Exit(FOUND)


def _with(mappings: Mappings, path: Path) -> tuple[Mappings, str]:
    parsed = read_mapping(path)
    if parsed.mapping is None:
        print_faults(parsed.errors[:-1])
        raise parsed.errors[-1]
    return mappings.including(parsed.mapping), parsed.mapping.name


def _records(path: Path, mapping: str | None) -> list[tuple[str, Record]]:
    """A sample's records: one for each line of NDJSON, else the whole file."""
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise InputError(f"cannot be read: {failure.strerror}", Place(str(path))) from failure
    parts = [(str(path), data)]
    if path.suffix in _LINES:
        parts = [(f"{path}:{number}", line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]
    now = SystemClock().now()
    return [
        (label, Record(source="sample", topic=label, offset=0, value=value, mapping=mapping, received_at=now))
        for label, value in parts
    ]


def _show(label: str, description: Description, *, named: str | None) -> None:
    found = ", ".join(description.detected) or "none"
    chosen = f"mapping {named} as named; by shape it would be {found}" if named else f"mapping {found}, by its shape"
    out.print(f"[bold]{text(label)}[/bold]: {text(chosen)}; {counted(len(description.elements), 'element')}")
    for element in description.elements:
        _show_element(element)


def _show_element(element: DescribedElement) -> None:
    if element.alert is None:
        out.print(f"[red]dead letter[/red] {text(element.code)}: it {text(element.reason)}")
        return
    alert = element.alert
    out.print(f"[green]alert[/green] {text(alert['title'])}")
    sources = {**dict.fromkeys(_ALWAYS, ""), **element.filled}
    rows = ((field, _short(_value(alert, field)), source) for field, source in sorted(sources.items()))
    table("", ("field", "value", "filled by"), rows)
    for warning in element.warnings:
        out.print(f"[yellow]warning[/yellow] {text(warning)}")


def _value(alert: dict[str, Any], field: str) -> Any:
    """What stands at `rule.id`, `labels.x`, or in each of `hosts`."""
    head, _, rest = field.partition(".")
    if head in alert["entities"]:
        return [item[rest] for item in alert["entities"][head] if item.get(rest) not in (None, [])]
    value = alert.get(head)
    return value.get(rest) if rest and isinstance(value, dict) else value


def _short(value: Any) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return shown if len(shown) <= 100 else f"{shown[:99]}…"
