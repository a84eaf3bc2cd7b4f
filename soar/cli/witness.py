"""`soar witness`: a witness for journals, of this product or any other log after c2sp.org/tlog-checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from soar.cli.base import out
from soar.errors import ConfigError, JournalError
from soar.journal.cosignature import Cosigner
from soar.journal.note import Verifier
from soar.logs import configure
from soar.model.clock import SystemClock
from soar.witness.app import build_app
from soar.witness.memory import Memory
from soar.witness.server import run as serve

KeyOption = Annotated[Path, typer.Option("--key", help="The file with the witness's own private key.")]


def add_to(app: typer.Typer) -> None:
    """Add `witness` and its commands."""
    group = typer.Typer(help="Cosign what journals publish, and remember it.", no_args_is_help=True)
    group.command()(init)
    group.command("run")(serve_forever)
    app.add_typer(group, name="witness")


def init(
    name: Annotated[str, typer.Argument(help="The witness's name, for ever: its address without https, by custom.")],
    key: KeyOption = Path("witness.key"),
) -> None:
    """Make a witness's key and print the verifier key, which belongs into trust policies.

    Example: soar witness init witness.example.com
    """
    cosigner = Cosigner(name, os.urandom(32), clock=SystemClock())
    try:
        descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigError(f"{key} cannot be made: {error.strerror}; a key is never written over") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{cosigner.to_text()}\n")
    typer.echo(str(cosigner.verifier))


def serve_forever(
    log: Annotated[list[str], typer.Option("--log", help="The verifier key of a log to witness: NAME+ID+KEY.")],
    key: KeyOption = Path("witness.key"),
    memory: Annotated[Path, typer.Option("--memory", help="The folder for what was cosigned last.")] = Path("witness"),
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.")] = 8790,
) -> None:
    """Answer logs until Ctrl-C: cosign what continues what was cosigned before, refuse what does not.

    It belongs on another machine than the log, under other hands; behind a proxy that speaks HTTPS.

    Example: soar witness run --log soar.example.com+282f4603+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4
    """
    cosigner = _cosigner(key)
    logs: dict[str, list[Verifier]] = {}
    for each in map(_verifier, log):
        logs.setdefault(each.name, []).append(each)
    configure()
    kept = Memory(memory, verifier=cosigner.verifier)
    try:
        out.print(f"witness {cosigner.verifier} at http://{host}:{port}, knows {', '.join(logs)}")
        serve(build_app(memory=kept, cosigner=cosigner, logs=logs), host=host, port=port)
    finally:
        kept.close()


def _verifier(text: str) -> Verifier:
    try:
        return Verifier.from_text(text)
    except JournalError as error:
        raise ConfigError(f"--log: {error}") from error


def _cosigner(path: Path) -> Cosigner:
    if not path.is_file():
        raise ConfigError(f"the witness's key {path} does not exist; `soar witness init` makes one")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"the witness's key {path} can be read by others; run: chmod 600 {path}")
    try:
        return Cosigner.from_text(path.read_bytes().decode().strip(), clock=SystemClock())
    except (JournalError, UnicodeDecodeError) as error:
        raise ConfigError(f"the witness's key {path} cannot be read as one: {error}") from error
