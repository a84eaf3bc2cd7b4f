"""What a policy engine is: the embedded one and the OPA server answer the same question the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, Protocol

ENTRY_POINT: Final = "data.soar.main.decision"


class Undefined(Enum):
    """Rego's undefined: no rule gave a value. It is never an allow."""

    UNDEFINED = "undefined"


UNDEFINED: Final[Literal[Undefined.UNDEFINED]] = Undefined.UNDEFINED


@dataclass(frozen=True, slots=True)
class Answer:
    """What an engine said: a value not yet trusted, and the revision that gave it.

    `fault` is set where the policy itself failed on this input (a conflict, a document too deep). The same
    question would fail again, so the gate denies; it does not wait.
    """

    revision: str
    value: Any = UNDEFINED
    fault: str | None = None


class PolicyEngine(Protocol):
    """Evaluates `ENTRY_POINT` of one pinned revision."""

    @property
    def name(self) -> str:
        """`embedded` or `opa`; journalled with every decision."""
        ...

    @property
    def revision(self) -> str:
        """The bundle revision that answers must come from."""
        ...

    @property
    def problem(self) -> str | None:
        """Why no decision can be had now, in few words and without addresses; None while all is well."""
        ...

    async def open(self) -> None:
        """Make ready; raises `PolicyError` where it must not decide. That it is away for now is no error."""
        ...

    async def evaluate(self, document: dict[str, Any]) -> Answer:
        """The answer to one input document; raises `PolicyUnavailableError` when none could be had in time."""
        ...

    async def evaluate_many(self, documents: Sequence[dict[str, Any]]) -> list[Answer]:
        """The answers to several documents, in their order and in one go; raises as `evaluate` does."""
        ...

    async def close(self) -> None:
        """Answer what was asked before, then let go of threads, connections and processes."""
        ...
