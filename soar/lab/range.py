"""The systems of the lab together, and how the request log brings them back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from soar.lab.chat import Chat
from soar.lab.desk import Desk
from soar.lab.edr import Edr
from soar.lab.exchange import Answer, Request, System
from soar.lab.firewall import Firewall
from soar.lab.idp import Idp
from soar.lab.intel import Intel
from soar.model.base import from_rfc3339


class Range:
    """Every system by its name; a fresh range holds the seed and nothing else."""

    def __init__(self) -> None:
        systems: tuple[System, ...] = (Desk(), Edr(), Idp(), Chat(), Intel(), Firewall())
        self.systems = {system.name: system for system in systems}

    def handle(self, system: str, request: Request) -> Answer:
        """Have one system do what it is asked."""
        return self.systems[system].handle(request)

    def replay(self, lines: Iterable[dict[str, Any]]) -> None:
        """Do again what the log says was done; the state and the idempotency keys are then as they were."""
        for line in lines:
            if line["applied"]:
                self.handle(
                    line["system"],
                    Request(
                        at=from_rfc3339(line["at"]),
                        method=line["method"],
                        path=line["path"],
                        body=line["body"],
                        idempotency_key=line["idempotency_key"],
                    ),
                )

    def snapshot(self) -> dict[str, Any]:
        """The whole state, by system."""
        return {name: system.snapshot() for name, system in self.systems.items()}
