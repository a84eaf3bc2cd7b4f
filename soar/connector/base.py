"""What a connector is: a typed class, its configuration, and one declaration beside each action."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar, get_type_hints

from pydantic import BaseModel

from soar.connector.call import Call, Model, Result
from soar.connector.client import Client
from soar.model.action import ActionSpec, Effect, Risk
from soar.model.limits import Limits

__all__ = ["BoundAction", "Call", "Connector", "Declaration", "Model", "Result", "action", "actions_of"]

_DECLARATION = "__soar_action__"


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """What `@action` was told."""

    effect: Effect
    risk: Risk
    capability: str | None = None
    undo: str | None = None
    verify: str | None = None
    shows: dict[str, Any] | None = None
    react: str | None = None
    docs: str | None = None
    max_tlp: str | None = None
    targets: dict[str, str] = field(default_factory=dict)


Method = TypeVar("Method", bound=Callable[..., Awaitable[BaseModel]])


def action(  # noqa: PLR0913 - one declaration, all of it by keyword
    *,
    effect: Effect,
    risk: Risk = Risk.NONE,
    capability: str | None = None,
    undo: str | None = None,
    verify: str | None = None,
    shows: dict[str, Any] | None = None,
    react: str | None = None,
    docs: str | None = None,
    max_tlp: str | None = None,
    targets: dict[str, str] | None = None,
) -> Callable[[Method], Method]:
    """Declare `async def verb(self, params: P, call: Call) -> R` an action.

    `capability` is the neutral verb it implements (`ticket.create`); `undo` and `verify` are verbs of the
    same connector that take the same params; `react` the RE&CT id; `targets` says which params field names
    whom it acts on: `{"host": "host"}`.

    A verifiable action names the read that finds out whether it happened, and what its result then `shows`:
    `verify="ip_status", shows={"blocked": True}`. Where finding it at all is proof, that read raises
    RemoteNotFoundError if there is nothing, and `shows={}`. Without `shows` no read-back is conclusive.
    """
    declared = Declaration(
        effect=effect,
        risk=risk,
        capability=capability,
        undo=undo,
        verify=verify,
        shows=shows,
        react=react,
        docs=docs,
        max_tlp=max_tlp,
        targets=targets or {},
    )

    def mark(method: Method) -> Method:
        setattr(method, _DECLARATION, declared)
        return method

    return mark


C = TypeVar("C", bound=BaseModel)


class Connector(Generic[C]):
    """An integration. Subclasses set the class fields, name their `Config`, and declare actions.

    `Config` holds what one instance needs; secrets are `Secret`, references that only the client resolves,
    inside the send. One instance serves all runs: an action keeps no state of its own.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    vendor: ClassVar[str]
    product: ClassVar[str]
    product_versions: ClassVar[str] = ""
    quality: ClassVar[str] = "bronze"  # bronze: unit tests; silver: vendor's spec; gold: the real server
    limits: ClassVar[Limits] = Limits()  # what the vendor documents that one account bears; soar.yaml may say otherwise
    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: C, client: Client) -> None:
        self.config = config
        self.http = client

    @classmethod
    def client_options(cls, config: C) -> dict[str, Any]:
        """Keyword arguments for the instance's `Client`: `base_url`, `auth`, `allow_private`, limits."""
        raise NotImplementedError

    async def test(self, call: Call) -> str:
        """Ask the other side whether we are known and welcome; a sentence saying as whom. Changes nothing."""
        raise NotImplementedError


@dataclass(frozen=True)
class BoundAction:
    """An action found on a connector class: its declaration, and the types to validate with."""

    spec: ActionSpec
    params: type[BaseModel]
    result: type[BaseModel]
    shows: dict[str, Any] | None = None


def actions_of(connector: type[Connector[Any]]) -> dict[str, BoundAction]:
    """Every declared action of a class, by verb; raises TypeError where a declaration is incomplete."""
    found: dict[str, BoundAction] = {}
    for verb, method in inspect.getmembers(connector, inspect.isfunction):
        declared: Declaration | None = getattr(method, _DECLARATION, None)
        if declared is not None:
            found[verb] = _bind(connector, verb, method, declared)
    for bound in found.values():
        for role in ("undo", "verify"):
            other = getattr(bound.spec, role)
            if other is not None and other not in found:
                raise TypeError(f"{bound.spec.name}: {role}={other!r} is no action of {connector.name}")
        if bound.spec.effect is Effect.VERIFIABLE:
            _check_read_back(bound, found.get(bound.spec.verify or ""))
    return found


def _check_read_back(bound: BoundAction, look: BoundAction | None) -> None:
    if look is None or look.spec.effect is not Effect.READ:
        raise TypeError(f"{bound.spec.name} is verifiable; name with verify= the read that finds out")
    lacking = sorted(bound.result.model_fields.keys() - look.result.model_fields.keys())
    if lacking or not look.params.model_fields.keys() >= bound.params.model_fields.keys():
        raise TypeError(f"{look.spec.name} must take the params and give the result of {bound.spec.name}: {lacking}")


def _bind(connector: type[Connector[Any]], verb: str, method: Callable[..., Any], declared: Declaration) -> BoundAction:
    where = f"{connector.name}.{verb}"
    hints = get_type_hints(method)
    params, result = hints.get("params"), hints.get("return")
    for role, model in (("params", params), ("return", result)):
        if not (inspect.isclass(model) and issubclass(model, BaseModel)):
            raise TypeError(f"{where}: {role} must be annotated with a pydantic model, not {model!r}")
    assert params is not None
    assert result is not None
    summary = (inspect.getdoc(method) or "").partition("\n")[0]
    if not summary:
        raise TypeError(f"{where} has no docstring; its first line is what people read")
    for name in declared.targets:
        if name not in params.model_fields:
            raise TypeError(f"{where}: target {name!r} is no field of {params.__name__}")
    spec = ActionSpec(
        connector=connector.name,
        verb=verb,
        summary=summary,
        effect=declared.effect,
        risk=declared.risk,
        capability=declared.capability,
        undo=declared.undo,
        verify=declared.verify,
        react=declared.react,
        docs=declared.docs,
        max_tlp=declared.max_tlp,
        params_schema=params.model_json_schema(),
        result_schema=result.model_json_schema(mode="serialization"),
        targets=tuple(sorted(declared.targets.items())),
    )
    return BoundAction(spec, params, result, declared.shows)
