"""`soar playbook`: lint, list, graph, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import FOUND, ConfigOption, JsonOption, err, out, print_json, table, text
from soar.cli.ground import Ground, counted, ground, no_playbook, plain_faults, print_faults
from soar.errors import PlaybookError
from soar.library.describe import conditions
from soar.library.folder import load_folders
from soar.library.graph import mermaid, svg
from soar.library.lint import lint
from soar.library.parse import parse
from soar.library.schema import playbook_schema
from soar.located import read_text
from soar.model.playbook import Playbook


def add_to(app: typer.Typer) -> None:
    """Add `playbook` and its commands."""
    group = typer.Typer(help="Check, list and draw playbooks.", no_args_is_help=True)
    group.command(name="lint")(lint_playbooks)
    group.command(name="list")(list_playbooks)
    group.command()(graph)
    group.command()(schema)
    app.add_typer(group, name="playbook")


def lint_playbooks(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Files and folders; else the configured folders.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check playbooks and print everything wrong as `file:line:col: message`; exit code 1 if there is any.

    Without a configuration at hand all but the actions is checked.

    Example: soar playbook lint playbooks/phishing-report.yaml
    """
    base = ground(config)
    given = list(paths or base.folders()) or [Path("playbooks")]
    folders = [path for path in given if path.is_dir() or (not paths and not path.exists())]
    library = load_folders(folders, base.catalogue)
    files = [path for path in given if path not in folders]
    faults = [*library.errors, *_lint_files(files, base)]
    checked = len(library.playbooks) + len({fault.place and fault.place.file for fault in library.errors}) + len(files)
    if as_json:
        print_json({"files": checked, "errors": plain_faults(faults), "unchecked": base.unchecked})
    else:
        print_faults(faults)
        if base.unchecked:
            err.print(f"[yellow]{text(base.unchecked)}[/yellow]")
        out.print(f"{counted(checked, 'file')}, {counted(len(faults), 'error')}")
    if faults:
        raise typer.Exit(FOUND)


def _lint_files(files: list[Path], base: Ground) -> list[PlaybookError]:
    """Check single files; they may call each other, their neighbours, and what is configured."""
    if not files:
        return []
    neighbours = {path.parent for path in files}
    known = {
        name
        for folder in (*base.folders(), *neighbours)
        if folder.is_dir()
        for name in load_folders([folder], base.catalogue).playbooks
    }
    faults: list[PlaybookError] = []
    for path in files:
        try:
            parsed = parse(read_text(path, PlaybookError), str(path))
        except PlaybookError as failure:
            faults.append(failure)
            continue
        faults += lint(parsed, base.catalogue, known)
    return faults


def list_playbooks(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """List the playbooks in force; those left out are told on standard error. --json says what they answer too.

    Example: soar playbook list --json
    """
    base = ground(config)
    library = base.library()
    found = library.playbooks.values()
    if as_json:
        print_json({"playbooks": [_listed(each) for each in found], "errors": plain_faults(library.errors)})
        return
    table("", ("playbook", "mode", "description"), ((p.id, p.mode, p.description) for p in found))
    for fault in library.errors:
        err.print(f"[yellow]left out:[/yellow] {text(fault)}")


def _listed(playbook: Playbook) -> dict[str, object]:
    return {
        "id": playbook.id,
        "description": playbook.description,
        "owner": playbook.owner,
        "mode": playbook.mode,
        "answers": conditions(playbook.on),
        "steps": len(playbook.steps),
        "file": playbook.file,
        "digest": playbook.digest,
    }


def graph(
    playbook: Annotated[str, typer.Argument(help="A playbook's id, or its file.")],
    config: ConfigOption = None,
    as_svg: Annotated[bool, typer.Option("--svg", help="A picture.")] = False,
    as_mermaid: Annotated[bool, typer.Option("--mermaid", help="Mermaid text; the default.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write here; .svg means --svg.")] = None,
) -> None:
    """Draw a playbook.

    Example: soar playbook graph ransomware-host -o ransomware-host.svg
    """
    found = _named(playbook, config)
    wanted_svg = as_svg or (output is not None and output.suffix == ".svg" and not as_mermaid)
    drawn = svg(found) if wanted_svg else mermaid(found)
    if output is None:
        typer.echo(drawn, nl=False)
        return
    output.write_text(drawn, encoding="utf-8")
    out.print(f"wrote {text(output)}")


def _named(name: str, config: Path | None) -> Playbook:
    path = Path(name)
    if path.is_file():
        parsed = parse(read_text(path, PlaybookError), name)
        if parsed.playbook is None:
            raise PlaybookError("\n".join(map(str, parsed.errors)))
        return parsed.playbook
    base = ground(config)
    library = base.library()
    if name not in library.playbooks:
        raise no_playbook(name, library, what="playbook or file")
    return library.playbooks[name]


def schema() -> None:
    """Print the JSON Schema of a playbook, for editors.

    Example: soar playbook schema > playbook.schema.json
    """
    print_json(playbook_schema())
