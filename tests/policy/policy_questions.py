"""Questions as the engine would put them, and the smallest bundle."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from soar.policy.input import (
    ActionFacts,
    AlertFacts,
    PlaybookFacts,
    PolicyInput,
    RunFacts,
    TargetFacts,
    TimeFacts,
)

ROOT = Path(__file__).resolve().parents[2]
MONDAY = datetime(2026, 1, 5, 12, tzinfo=UTC)

Ask = Callable[..., PolicyInput]
Write = Callable[..., Path]


class CountingIds:
    """Names that a test can foresee."""

    def __init__(self) -> None:
        self.last = 0

    def new(self, kind: str) -> str:
        self.last += 1
        return f"{kind}-{self.last}"


RISKS = {
    "status": ("read", "none"),
    "lookup": ("read", "none"),
    "search": ("read", "none"),
    "isolate": ("reversible", "contain"),
    "release": ("reversible", "contain"),
    "disable": ("reversible", "contain"),
    "block": ("reversible", "contain"),
    "delete": ("destructive", "destructive"),
}


def question(
    capability: str, *targets: str, severity: str = "high", confidence: int | None = None, **parts: Any
) -> PolicyInput:
    system, _, verb = capability.partition(".")
    effect, risk = RISKS.get(verb, ("reversible", "none"))
    facts = [TargetFacts(type=t.partition(":")[0], id=t.partition(":")[2]) for t in targets]
    action = {
        "id": "1",
        "connector": f"lab_{system}",
        "connector_version": "1",
        "verb": verb,
        "capability": capability,
        "effect": effect,
        "risk": risk,
        "digest": "00",
        "targets": facts,
    }
    return PolicyInput(
        action=ActionFacts(**{**action, **parts.pop("action", {})}),
        alert=AlertFacts(severity=severity, confidence=confidence),
        playbook=parts.pop("playbook", PlaybookFacts(id="p1", sha256="00", author="ada")),
        run=parts.pop("run", RunFacts(id="run-1")),
        time=parts.pop("time", TimeFacts.of(MONDAY)),
        **parts,
    )


DECISION = """
package soar.main

decision := {"schema": "soar.decision/v1", "effect": "allow", "controls_evaluated": ["mine"]}
"""
