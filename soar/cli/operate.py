"""Commands of the day: alerts, runs, approvals, explain, deadletters, halt, resume."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
