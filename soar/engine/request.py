"""From a step to a fully rendered call."""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from soar.connector.base import Call
from soar.engine.context import RunContext, Scope
from soar.errors import InputError, PlaybookError
from soar.model.action import ActionRequest, ActionResult, Target
from soar.model.catalogue import Catalogue, Offer


class Connectors(Protocol):
    """What the engine asks of the connector registry."""

    def catalogue(self) -> Catalogue:
        """What `use:` may name."""
        ...

    def prepare(self, instance: str, verb: str, params: dict[str, Any]) -> dict[str, Any]:
        """Params as the action takes them; raises InputError naming each problem."""
        ...

    def targets(self, instance: str, verb: str, params: dict[str, Any]) -> tuple[Target, ...]:
        """Whom the action acts on."""
        ...

    async def read_back(self, request: ActionRequest, call: Call) -> ActionResult | None:
        """What happened to a verifiable action whose outcome is unknown; None where nothing shows that it did."""
        ...

    async def invoke(self, request: ActionRequest, call: Call) -> ActionResult:
        """Make the call; raises ConnectorError."""
        ...


def build_request(
    context: RunContext,
    connectors: Connectors,
    catalogue: Catalogue,
    *,
    use: str,
    params: Any,
    path: str,
    scope: Scope,
) -> ActionRequest:
    """Render and validate; raises PlaybookError or another InputError for what cannot be sent."""
    offer = catalogue.resolve(use)
    if offer is None:
        raise PlaybookError(f"use: {catalogue.why_not(use)}")
    rendered = context.program.render(params, scope.names())
    return request_for(context, connectors, offer=offer, params=rendered, path=path)


def request_for(
    context: RunContext,
    connectors: Connectors,
    *,
    offer: Offer,
    params: dict[str, Any],
    path: str,
    key: str | None = None,
) -> ActionRequest:
    """The request for one offered action with these values; `key` where it is not to have its step's own."""
    spec = offer.spec
    ready = connectors.prepare(offer.instance, spec.verb, params)
    request = ActionRequest(
        run_id=context.run.id,
        path=path,
        step_id=path.rpartition(".")[2],
        connector=spec.connector,
        instance=offer.instance,
        connector_version=offer.connector_version,
        verb=spec.verb,
        effect=spec.effect,
        risk=spec.risk,
        impact=spec.impact,
        undo=spec.undo,
        params=ready,
        targets=connectors.targets(offer.instance, spec.verb, ready),
        idempotency_key=key or idempotency_key(context.run.id, path),
    )
    try:
        _ = request.digest
    except ValueError as failure:  # an approval could not be bound to it
        raise InputError(
            f"{offer.instance}.{spec.verb}: params hold a value that JSON does not keep exactly: {failure}"
        ) from failure
    return request


def idempotency_key(run_id: str, path: str) -> str:
    """One key per step and iteration of a run, the same for every try of it."""
    return hashlib.sha256(f"{run_id}\n{path}".encode()).hexdigest()[:32]
