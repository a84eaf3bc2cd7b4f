"""Commands for authors, auditors and operators: playbook, policy, connectors, mapping, audit, config, doctor."""

from __future__ import annotations

import typer

from soar.cli import audit, config, connectors, doctor, mappings, playbooks, policies


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for part in (playbooks, policies, connectors, mappings, audit, config, doctor):
        part.add_to(app)
