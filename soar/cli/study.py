"""Commands for authors, auditors and operators: playbook, policy, connectors, mapping, audit, config, doctor."""

import typer


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
