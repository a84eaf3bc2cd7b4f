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
        lines = str(failure).split("\n")
        start = " " if len(lines) == 1 else "\n"
        err.print("[red]soar:[/red]" + start + "\n".join(text(line) for line in lines))
        sys.exit(exit_code(failure))
