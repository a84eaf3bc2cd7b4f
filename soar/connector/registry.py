"""The configured instances: what they offer, and the one way to call them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, Field, ValidationError

from soar.connector.base import BoundAction, Connector
from soar.connector.call import Call, Trail
from soar.connector.capabilities import CAPABILITIES
from soar.connector.client import Client
from soar.connector.loader import Loaded, LoadedConnector, Loader
from soar.connector.network import Transport
from soar.connector.response import printable, problems
from soar.connector.secret import SecretResolver
from soar.errors import (
    ConfigError,
    ConnectorError,
    InputError,
    NotFoundError,
    OutcomeUnknownError,
    Place,
    RejectedError,
    RemoteFailureError,
    RemoteNotFoundError,
)
from soar.located import did_you_mean
from soar.model.action import ActionRequest, ActionResult, Effect, Target
from soar.model.base import Frozen
from soar.model.catalogue import Catalogue, Offer
from soar.model.clock import Clock
from soar.model.limits import Limits

log = structlog.get_logger(__name__)

Locate = Callable[[tuple[str | int, ...]], Place | None]

TEST_SECONDS = 15.0
_GRACE_SECONDS = 0.5  # the client ends first at the deadline, as it knows whether anything was sent
_INSTANCE = re.compile(r"[a-z][a-z0-9_-]{0,62}")


class InstanceConfig(Frozen):
    """One configured connector: which one, and its own configuration."""

    use: str
    config: dict[str, Any] = Field(default_factory=dict)
    limits: dict[str, Any] = Field(default_factory=dict)  # those that it says, in place of the connector's own


@dataclass(frozen=True)
class Instance:
    """A connector with its configuration, ready to be called."""

    name: str
    loaded: Loaded
    connector: Connector[Any]
    limits: Limits


class Registry:
    """All configured instances. Made by `build`; ended by `close`."""

    def __init__(self, instances: Mapping[str, Instance], bindings: Mapping[str, str], clock: Clock) -> None:
        self._instances = instances
        self._catalogue = _catalogue(instances, bindings)
        self._clock = clock

    @classmethod
    def build(  # noqa: PLR0913 - the composition root passes everything, by keyword
        cls,
        instances: Mapping[str, InstanceConfig],
        bindings: Mapping[str, str],
        resolver: SecretResolver,
        *,
        clock: Clock,
        connectors_dir: Path | None = None,
        loader: Loader | None = None,
        transport: Transport | None = None,
        locate: Locate | None = None,
    ) -> Registry:
        """Build every instance, or raise one ConfigError that lists everything wrong, each with its place.

        `locate` turns a path such as `("jira-prod", "config", "base_url")` or `("bindings", "ticket.*")` into a
        place. `loader` shares one that was made before, in place of `connectors_dir`; `transport` replaces the
        network, for tests.
        """
        builder = _Builder(loader or Loader(connectors_dir), resolver, clock, transport, locate or (lambda _: None))
        built = {name: each for name, config in instances.items() if (each := builder.instance(name, config))}
        builder.check_bindings(bindings, instances, built)
        builder.finish()
        return cls(built, bindings, clock)

    def loaded(self) -> list[LoadedConnector]:
        """The connectors' code in use, for the journal, each once."""
        return sorted({each.loaded.info for each in self._instances.values()}, key=lambda info: info.name)

    def catalogue(self) -> Catalogue:
        """What `use:` can mean here."""
        return self._catalogue

    def prepare(self, instance: str, verb: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """`params` validated and completed with defaults, as JSON; raises InputError listing every problem."""
        bound = self._bound(instance, verb)
        try:
            return bound.params.model_validate(params).model_dump(mode="json")
        except ValidationError as failure:
            known = list(bound.params.model_fields)
            found = "; ".join(_problem(item, known) for item in failure.errors(include_url=False))
            raise InputError(f"{instance}.{verb}: {found}") from None

    def targets(self, instance: str, verb: str, params: Mapping[str, Any]) -> tuple[Target, ...]:
        """Whom the call acts on: one target for each value of each declared field."""
        found = []
        for name, kind in self._bound(instance, verb).spec.targets:
            value = params.get(name)
            each = value if isinstance(value, list | tuple) else [value]
            found += [Target(type=kind, id=str(item)) for item in each if item not in (None, "")]
        return tuple(found)

    async def invoke(self, request: ActionRequest, call: Call) -> ActionResult:
        """Send one action and return its validated result; raises ConnectorError, one of its leaves, always."""
        effect = request.effect
        name = f"{request.instance}.{request.verb}"
        try:
            bound = self._bound(request.instance, request.verb)
            params = bound.params.model_validate(request.params)
        except NotFoundError as failure:
            raise RejectedError(f"{name} was not sent: {failure}") from None
        except ValidationError as failure:
            raise RejectedError(f"{name} was not sent: {problems(failure)}") from None
        method = getattr(self._instances[request.instance].connector, request.verb)
        trail = Trail()
        try:
            value = await self._bounded(method(params, replace(call, effect=effect, trail=trail)), call)
            checked = bound.result.model_validate(value)
        except OutcomeUnknownError:
            raise
        except ConnectorError as failure:
            if trail.changes:
                raise OutcomeUnknownError(f"{name} was carried out in part; then: {failure}") from failure
            raise
        except TimeoutError:
            raise _failed(name, effect, "it did not end within its deadline") from None
        except ValidationError as failure:
            raise _failed(name, effect, f"its result is not as declared: {problems(failure)}") from None
        except Exception as failure:
            log.exception("connector.defect", instance=request.instance, verb=request.verb, run=request.run_id)
            raise _failed(name, effect, f"a defect in the connector, {type(failure).__name__}") from failure
        return ActionResult(value=checked.model_dump(mode="json"))

    async def read_back(self, request: ActionRequest, call: Call) -> ActionResult | None:
        """The result of a verifiable action whose outcome is unknown, where its read-back shows that it happened.

        None means that nothing shows it (yet): no proof of the contrary before the other side's own delays have
        passed. `call` carries the action's own idempotency key. Raises ConnectorError where looking failed.
        """
        try:
            bound = self._bound(request.instance, request.verb)
        except NotFoundError:  # its instance was taken out of the configuration since
            return None
        if bound.spec.verify is None or bound.shows is None:
            return None
        look = ActionRequest.model_validate(request.model_dump() | {"verb": bound.spec.verify, "effect": Effect.READ})
        try:
            seen = (await self.invoke(look, call)).value
        except RemoteNotFoundError:
            return None
        if any(seen.get(name) != value for name, value in bound.shows.items()):
            return None
        return ActionResult(value=seen)

    async def test(self, instance: str) -> str:
        """Ask the instance's product whether we are known and welcome; raises ConnectorError where not."""
        connector = self._instance(instance).connector
        deadline = self._clock.now() + timedelta(seconds=TEST_SECONDS)
        call = Call(idempotency_key="test", run_id="test", path="test", deadline=deadline, effect=Effect.READ)
        try:
            return printable(await self._bounded(connector.test(call), call))
        except ConnectorError:
            raise
        except TimeoutError:
            raise RemoteFailureError(f"{instance}: no answer within {TEST_SECONDS:.0f} s") from None
        except Exception as failure:
            log.exception("connector.defect", instance=instance, verb="test")
            raise _failed(f"{instance}.test", Effect.READ, f"a defect, {type(failure).__name__}") from failure

    async def close(self) -> None:
        """End every instance's connections."""
        for each in self._instances.values():
            await each.connector.http.close()

    async def _bounded(self, work: Any, call: Call) -> Any:
        remaining = (call.deadline - self._clock.now()).total_seconds()
        async with asyncio.timeout(max(0.0, remaining) + _GRACE_SECONDS):
            return await work

    def _instance(self, name: str) -> Instance:
        if name not in self._instances:
            raise NotFoundError(f"no connector instance {name!r}{did_you_mean(name, self._instances)}")
        return self._instances[name]

    def _bound(self, instance: str, verb: str) -> BoundAction:
        actions = self._instance(instance).loaded.actions
        if verb not in actions:
            raise NotFoundError(f"no action '{instance}.{verb}'{did_you_mean(verb, actions)}")
        return actions[verb]


def limits_of(own: Limits, given: Mapping[str, Any]) -> Limits:
    """A connector's own limits, with those that an instance says otherwise; raises pydantic's ValidationError."""
    return Limits.model_validate({**own.model_dump(), **given})


def _catalogue(instances: Mapping[str, Instance], bindings: Mapping[str, str]) -> Catalogue:
    offers = tuple(
        Offer(instance=each.name, connector_version=each.connector.version, spec=bound.spec)
        for each in instances.values()
        for bound in each.loaded.actions.values()
    )
    limits = {each.name: each.limits for each in instances.values() if each.limits}
    return Catalogue(offers=offers, bindings=dict(bindings), capabilities=tuple(CAPABILITIES), limits=limits)


def _failed(name: str, effect: Effect, why: str) -> ConnectorError:
    """What an ending without a connector error means: it proves nothing about what was sent."""
    if effect is Effect.READ:
        return RemoteFailureError(f"{name} failed: {why}")
    return OutcomeUnknownError(f"{name} may or may not have happened: {why}")


def _problem(item: Mapping[str, Any], known: list[str]) -> str:
    """One thing that pydantic found, without the value."""
    name = ".".join(str(part) for part in item["loc"])
    match item["type"]:
        case "missing":
            return f"{name!r} is missing; add it"
        case "extra_forbidden":
            key = str(item["loc"][-1])
            return f"unknown key {key!r}{did_you_mean(key, known)}"
        case _:
            message = item["msg"].removeprefix("Value error, ")
            return f"{name!r}: {message}" if name else message


@dataclass
class _Builder:
    """Builds instances and collects what is wrong, so that one start tells all of it."""

    loader: Loader
    resolver: SecretResolver
    clock: Clock
    transport: Transport | None
    locate: Locate

    def __post_init__(self) -> None:
        self.errors: list[ConfigError] = []

    def instance(self, name: str, config: InstanceConfig) -> Instance | None:
        if not _INSTANCE.fullmatch(name):
            self.wrong((name,), f"{name!r} is no instance name; use a-z, 0-9, - and _, a letter first")
            return None
        try:
            loaded = self.loader.load(config.use)
        except ConfigError as failure:
            self.wrong((name, "use"), f"{name}: {failure.message}")
            return None
        own = self.own_config(name, loaded.connector.Config, config.config)
        limits = self.limits(name, loaded.connector.limits, config.limits)
        if own is None or limits is None:
            return None
        try:
            options = loaded.connector.client_options(own)
            client = Client(
                instance=name, resolver=self.resolver, clock=self.clock, transport=self.transport, **options
            )
        except (ValueError, OSError) as failure:  # OSError: an authority's file that cannot be read
            self.wrong((name, "config"), f"{name}: {failure}")
            return None
        return Instance(name, loaded, loaded.connector(own, client), limits)

    def own_config(self, name: str, model: type[BaseModel], given: Mapping[str, Any]) -> BaseModel | None:
        try:
            return model.model_validate(given)
        except ValidationError as failure:
            for item in failure.errors(include_url=False, include_input=False):
                loc = tuple(part for part in item["loc"] if isinstance(part, str | int))
                self.wrong((name, "config", *loc), f"{name}: {_problem(item, list(model.model_fields))}")
            return None

    def limits(self, name: str, own: Limits, given: Mapping[str, Any]) -> Limits | None:
        try:
            limits = limits_of(own, given)
        except ValidationError as failure:
            for item in failure.errors(include_url=False, include_input=False):
                self.wrong((name, "limits", *item["loc"]), f"{name}: {_problem(item, list(Limits.model_fields))}")
            return None
        if "burst" in given and limits.rate is None:
            self.wrong((name, "limits", "burst"), f"{name}: a burst is part of a rate; add rate: 60/m, or remove it")
            return None
        return limits

    def check_bindings(
        self, bindings: Mapping[str, str], instances: Mapping[str, InstanceConfig], built: Mapping[str, Instance]
    ) -> None:
        for pattern, name in bindings.items():
            where = ("bindings", pattern)
            meant = {each for each in CAPABILITIES if fnmatchcase(each, pattern)}
            if not meant:
                self.wrong(where, f"bindings: no capability {pattern!r}{did_you_mean(pattern, CAPABILITIES)}")
            elif name not in instances:
                self.wrong(where, f"bindings: {pattern!r} names no connector {name!r}{did_you_mean(name, instances)}")
            elif name in built and not meant & set(_capabilities(built[name])):
                self.wrong(where, f"bindings: {name!r} offers none of {pattern!r}; bind it to one that does")

    def wrong(self, path: tuple[str | int, ...], message: str) -> None:
        self.errors.append(ConfigError(message, self.locate(path)))

    def finish(self) -> None:
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ConfigError("\n".join(str(each) for each in self.errors))


def _capabilities(instance: Instance) -> Iterator[str]:
    for bound in instance.loaded.actions.values():
        if bound.spec.capability:
            yield bound.spec.capability
