"""Commands that begin something: init, run, demo, lab, ingest."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.progress import Progress

from soar import logs
from soar.cli import live
from soar.cli.base import FOUND, ConfigOption, JsonOption, err, out, plain, print_json, run, service, table, text
from soar.connector.secret import Secret, SecretResolver
from soar.demo.home import make_home
from soar.demo.samples import samples
from soar.demo.scenario import Summary, demonstrate
from soar.errors import ConfigError, InputError, StoreAwayError
from soar.ingest.files import FileReport, FileSource
from soar.lab import LabServer, serve
from soar.located import did_you_mean
from soar.service import Doors, Running, Service, assemble
from soar.service.collector import settle
from soar.settings import DEFAULT_FILE, Loaded, load_settings

log = structlog.get_logger(__name__)

STORE_SECONDS = 60.0  # that a start waits for a database

_TRICKLE_SECONDS = 4.0


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(init)
    app.command(name="run")(run_service)
    app.command()(demo)
    app.command()(lab)
    app.command()(ingest)


def init(
    folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")] = Path(),
) -> None:
    """Make a home: soar.yaml, starter playbooks and policies, keys. Nothing is active anywhere else."""
    config = make_home(folder)
    out.print(f"made [bold]{text(config)}[/bold] with starter playbooks, policies and keys")
    out.print(
        f"next: [bold]soar run --lab -c {text(config)}[/bold], or put your connectors into it and run without --lab"
    )


def run_service(
    config: ConfigOption = None,
    with_lab: Annotated[
        bool, typer.Option("--lab", help="Start the lab too, and trickle sample alerts into it.")
    ] = False,
    make: Annotated[bool, typer.Option("--init", help="Make the home first where there is none yet.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Logs only, no live view.")] = False,
) -> None:
    """Start the service in the foreground; Ctrl-C stops it and lets runs come to rest."""
    file = config or Path(DEFAULT_FILE)
    if make and not file.exists():
        make_home(file.parent)
    loaded = load_settings(config)
    watched = with_lab and not quiet
    logs.configure(
        level="error" if watched and out.is_terminal else loaded.settings.log.level, style=loaded.settings.log.style
    )
    run(_run(loaded, with_lab=with_lab, watched=watched))


async def _run(loaded: Loaded, *, with_lab: bool, watched: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with _lab(loaded) if with_lab else contextlib.nullcontext(), _assembled(loaded, stop) as assembled:
        for problem in (*assembled.library.errors, *assembled.mappings.errors):
            err.print(f"[yellow]left out:[/yellow] {text(problem)}")
        running = Running(assembled)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, running.reload)
        doors = Doors(running)
        await doors.open()
        parts = doors.parts
        if with_lab:
            parts.append(lambda: _trickle(running))
        hints = _hints(loaded, doors.url, with_lab=with_lab)
        if watched:
            parts.append(lambda: live.watch(assembled.store, hints=hints))
        await running.start(*parts)
        settle()
        if not watched or not out.is_terminal:
            for hint in hints:
                out.print(hint)
        ended = asyncio.create_task(running.wait())
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                ended.result()
        finally:
            for task in (ended, stopped):
                task.cancel()
            out.print("stopping: runs come to rest, the journal is signed")
            await doors.close()
            await running.stop()


@contextlib.asynccontextmanager
async def _assembled(loaded: Loaded, stop: asyncio.Event) -> AsyncIterator[Service]:
    """The service, once its store is there: database and service are often started together."""
    give_up = time.monotonic() + STORE_SECONDS
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                assembled = await stack.enter_async_context(assemble(loaded))
                break
            except StoreAwayError as failure:
                if stop.is_set() or time.monotonic() > give_up:
                    raise
                log.warning("service.waits_for_store", why=str(failure))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 1)
        yield assembled


@contextlib.asynccontextmanager
async def _lab(loaded: Loaded) -> AsyncIterator[None]:
    settings = loaded.settings.lab
    token = SecretResolver(loaded.environ).reveal(Secret(settings.token))
    path = loaded.path(settings.log)
    path.parent.mkdir(parents=True, exist_ok=True)
    server = LabServer(host=settings.host, port=settings.port, log_path=path, token=token)
    try:
        await server.start()
    except OSError as failure:
        where = f"{settings.host}:{settings.port}"
        raise ConfigError(
            f"the lab cannot listen on {where}: {failure.strerror}; change lab.port", loaded.place("lab")
        ) from failure
    try:
        yield
    finally:
        await server.stop()


async def _trickle(running: Running) -> None:
    """A sample alert every few seconds, round and round, each round with new ids."""
    number = 0
    while True:
        topic = running.service.ids.new("round")
        for record in samples(running.service.clock.now(), topic=topic):
            await running.admit([record.model_copy(update={"received_at": running.service.clock.now()})])
            await asyncio.sleep(_TRICKLE_SECONDS if number else _TRICKLE_SECONDS / 4)
        number += 1
        await asyncio.sleep(_TRICKLE_SECONDS * 5)


def _hints(loaded: Loaded, url: str | None, *, with_lab: bool) -> list[str]:
    option = "" if loaded.file == DEFAULT_FILE else f" -c {loaded.file}"
    soar = "soar" if shutil.which("soar") else sys.argv[0]
    hints = []
    if url and loaded.settings.web.ingest_tokens:
        token = f"$(cat {loaded.path(Path('keys/ingest-token'))})"
        hints.append(
            f"[dim]send an alert:[/dim] curl -H \"Authorization: Bearer {token}\" -H 'Content-Type: application/json' "
            f'-d \'{{"title": "Test", "severity": "high"}}\' {url}/ingest/test'
        )
    approvals = f"{soar} approvals"
    hints.append(
        f"[dim]what waits for you:[/dim] {approvals} list{option}   [dim]then[/dim] {approvals} grant ID{option}"
    )
    if with_lab:
        lab_settings = loaded.settings.lab
        hints.append(
            f"[dim]see the lab:[/dim] http://{lab_settings.host}:{lab_settings.port}/   [dim]stop:[/dim] Ctrl-C"
        )
    return hints


def demo(
    as_json: JsonOption = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", help="Leave the demonstration's home in this new folder.")
    ] = None,
) -> None:
    """Show it all, bounded: samples in, one approval answered, one action taken back, the journal verified.

    Exits 0 only if every one of these was seen in the store and in the lab.
    """
    logs.configure(level="error")
    say = (lambda line: err.print(f"[dim]·[/dim] {text(line)}")) if not as_json else (lambda _: None)
    if keep is not None:
        summary = run(demonstrate(keep, say))
    else:
        with tempfile.TemporaryDirectory(prefix="soar-demo-") as folder:
            summary = run(demonstrate(Path(folder), say))
    if as_json:
        print_json({**plain(summary), "ok": summary.ok})
    else:
        _show(summary, keep)
    if not summary.ok:
        raise typer.Exit(FOUND)


def _show(summary: Summary, keep: Path | None) -> None:
    def counted(numbers: dict[str, int]) -> str:
        return ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in sorted(numbers.items()))

    rows = [
        ("sample records", summary.records),
        ("alerts by outcome", counted(summary.alerts)),
        ("runs by state", counted(summary.runs)),
        ("actions by effect and result", counted(summary.actions)),
        ("approvals by state", counted(summary.approvals)),
        ("tickets opened in the lab", summary.tickets),
        ("actions denied by policy", summary.denied_by_policy),
        ("actions approved by a person", summary.approved),
        ("actions taken back", summary.undone),
        ("journal", f"{summary.entries} entries, {'verified' if summary.verified else 'DOES NOT VERIFY'}"),
    ]
    table("What happened", ("", ""), rows)
    out.print("[bold green]all of it shown[/bold green]" if summary.ok else "[bold red]something is missing[/bold red]")
    if keep is not None:
        out.print(f"look around: soar runs list -c {text(keep / DEFAULT_FILE)}")


def lab(
    config: ConfigOption = None,
    port: Annotated[int | None, typer.Option("--port", help="Listen here instead of lab.port.")] = None,
) -> None:
    """Start the lab alone: a ticket desk, EDR, identity provider, chat, intelligence and firewall on loopback."""
    loaded = load_settings(config)
    settings = loaded.settings.lab
    logs.configure(level=loaded.settings.log.level, style=loaded.settings.log.style)
    token = SecretResolver(loaded.environ).reveal(Secret(settings.token))
    path = loaded.path(settings.log)
    path.parent.mkdir(parents=True, exist_ok=True)
    run(serve(port if port is not None else settings.port, path, token, host=settings.host, announce=_announce))


def _announce(url: str) -> None:
    out.print(f"the lab listens on [bold]{url}[/bold]; Ctrl-C stops it")


def ingest(
    files: Annotated[list[Path], typer.Argument(help="NDJSON or JSON files; - for standard input.")],
    config: ConfigOption = None,
    mapping: Annotated[
        str | None, typer.Option("--mapping", help="Use this mapping; else it is found by shape.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read alerts from files into the store, each with one recorded outcome. A running service carries the runs out.

    What was read before is recognised by its content and adds nothing.
    """
    logs.configure(level="error")
    report = run(_ingest(files, config, mapping=mapping))
    if as_json:
        print_json(report)
        return
    rows = [*sorted((str(outcome), count) for outcome, count in report.outcomes.items())]
    if report.redelivered:
        rows.append(("known already", report.redelivered))
    table(f"{report.records} records, {report.runs} runs", ("outcome", "count"), rows)
    for letter in report.dead_letters:
        err.print(f"[yellow]dead letter[/yellow] {text(letter.coordinates)}: {text(letter.reason)}")


async def _ingest(files: list[Path], config: Path | None, *, mapping: str | None) -> FileReport:
    async with service(config) as assembled:
        if mapping is not None and mapping not in assembled.mappings.by_name:
            known = did_you_mean(mapping, assembled.mappings.by_name)
            raise InputError(f"no mapping {mapping!r}{known}; `soar mapping list` shows all")
        with Progress(console=err, transient=True) as bar:
            task = bar.add_task("reading", total=None)
            source = FileSource(
                files,
                clock=assembled.clock,
                mapping=mapping,
                progress=lambda done, total: bar.update(task, completed=done, total=total or None),
            )
            report = await source.run(assembled.intake().admit)
        await assembled.sequencer().sign()
        return report
