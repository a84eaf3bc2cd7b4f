"""The command line; thin: every command parses its words, calls one thing, and prints what came back."""

from __future__ import annotations

import sys

from soar.cli.app import app
from soar.cli.base import err, exit_code, text
from soar.errors import SoarError


def main() -> None:
    """Entry point of `soar`: an error of ours is one clear message and an exit code, never a traceback."""
    try:
        app()
    except SoarError as failure:
        err.print(f"[red]soar:[/red] {text(failure)}" if "\n" not in str(failure) else f"[red]soar:[/red]\n{failure}")
        sys.exit(exit_code(failure))
