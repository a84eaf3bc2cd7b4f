"""What passes between an action and its client: typed values, and one call's circumstances."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from soar.model.action import Effect


class Model(BaseModel):
    """Base of every connector's configuration, params and results: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Result(BaseModel):
    """Base of results: what a vendor adds beyond the declared fields is dropped."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


@dataclass
class Trail:
    """What one call has done so far; the client writes it, the registry judges later failures by it."""

    changes: int = 0  # requests that are no reads and were answered with success


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call's circumstances: an action reads its key here, and hands all of it to its client.

    `effect` decides what an answer that never came means. The registry sets it, and a fresh `trail`, from
    the request; the default is the most careful.
    """

    idempotency_key: str
    run_id: str
    path: str
    deadline: datetime
    dry_run: bool = False
    effect: Effect = Effect.UNSAFE
    trail: Trail = field(default_factory=Trail, compare=False, repr=False)

    def reading(self) -> Call:
        """The same call for a request that changes nothing: its failure is a failure, not an unknown outcome."""
        return replace(self, effect=Effect.READ)
