"""What stands outside of soar: the time, the network, and the services behind it, which keep a log of their own."""

import asyncio
import contextvars
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from soar.connector.base import Call
from soar.errors import (
    ConnectorError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    RejectedError,
    RemoteFailureError,
)
from soar.model.action import ActionRequest, ActionResult, ActionSpec, Effect, Risk, Target
from soar.model.catalogue import Catalogue, Offer

from .loop import PROCESS, SimLoop

BEGIN = datetime(2026, 1, 5, 9, tzinfo=UTC)


@dataclass
class SimClock:
    """The loop's time as a date, and how far somebody has turned the clock."""

    loop: SimLoop
    offset: timedelta = timedelta()

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.loop.time()) + self.offset


@dataclass
class SimIds:
    """Names as `UlidSource` gives them: by time, in order within one process, at random between processes."""

    clock: SimClock
    random: Random
    _last_ms: int = 0
    _tail: int = 0

    def new(self, kind: str) -> str:
        ms = int(self.clock.now().timestamp() * 1000)
        if ms > self._last_ms:
            self._last_ms, self._tail = ms, self.random.randrange(10**9)
        else:
            self._tail += 1
        return f"{kind}-{self._last_ms:013d}{self._tail:010d}"


@dataclass
class Trace:
    """What happened, in order: equal for equal seeds."""

    loop: SimLoop
    clock: SimClock
    told: list[tuple[float, datetime, str, str, dict[str, Any]]] = field(default_factory=list)

    def tell(self, word: str, **fields: Any) -> None:
        process = PROCESS.get()
        self.told.append((self.loop.time(), self.clock.now(), process.name if process else "-", word, fields))

    def lines(self) -> Iterator[str]:
        """In words: the loop's time, the clock, the process, and what it did."""
        for seconds, at, who, word, fields in self.told:
            words = "".join(f" {name}={value}" for name, value in fields.items() if value is not None)
            yield f"{seconds:9.4f} {at:%H:%M:%S} {who:8} {word}{words}"


@dataclass(frozen=True, kw_only=True)
class Weather:
    """How the network behaves in one seed: the share of calls that meet each fate, out of 1."""

    refused: float = 0.0  # nothing was sent
    limited: float = 0.0  # 429
    failed: float = 0.0  # 503: nothing was done
    rejected: float = 0.0  # 400
    lost: float = 0.0  # no answer; done or not
    slow: float = 0.0  # takes up to half a minute


FAIR = Weather()


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change that a service made."""

    at: float
    verb: str
    name: str
    key: str
    run_id: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One call as it left."""

    at: float
    verb: str
    effect: Effect
    run_id: str
    path: str
    key: str


def _spec(verb: str, effect: Effect, risk: Risk = Risk.NONE, **more: Any) -> ActionSpec:
    names = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    return ActionSpec(
        connector="sim", verb=verb, summary=verb, effect=effect, risk=risk, params_schema=names, result_schema=names,
        targets=(("name", "host"),), **more,
    )  # fmt: skip


SPECS = {
    spec.verb: spec
    for spec in (
        _spec("look", Effect.READ),
        _spec("ticket", Effect.KEYED),
        _spec("disable", Effect.IDEMPOTENT, Risk.CONTAIN, undo="enable"),
        _spec("enable", Effect.IDEMPOTENT),
        _spec("block", Effect.VERIFIABLE, Risk.CONTAIN, undo="unblock", verify="look"),
        _spec("unblock", Effect.IDEMPOTENT),
        _spec("page", Effect.UNSAFE),
        _spec("wipe", Effect.UNSAFE, Risk.DESTRUCTIVE),
    )
}
CATALOGUE = Catalogue(offers=tuple(Offer(instance="sim", connector_version="1", spec=spec) for spec in SPECS.values()))


@dataclass(eq=False)
class World:
    """The services. What is on its way arrives, whatever becomes of who sent it."""

    loop: SimLoop
    clock: SimClock
    trace: Trace
    random: Random
    weather: Weather
    effects: list[Change] = field(default_factory=list)
    calls: list[Sent] = field(default_factory=list)
    in_flight: Counter[tuple[str, str]] = field(default_factory=Counter)
    _own: contextvars.Context = field(default_factory=contextvars.Context)

    def after(self, seconds: float, callback: Callable[..., None], *args: Any) -> None:
        """Later, in nobody's process."""
        self.loop.call_later(seconds, callback, *args, context=self._own)

    def happened(self, run_id: str, path: str) -> bool:
        """Whether what this step does was done, as anybody could see who looks."""
        return any((effect.run_id, effect.path) == (run_id, path) for effect in self.effects)

    def receive(self, request: ActionRequest, *, answer: Callable[[], None] | None, seconds: float) -> None:
        """A request is under way and arrives after so many seconds."""
        where = (request.run_id, request.path)
        self.in_flight[where] += 1

        def arrive() -> None:
            self.in_flight[where] -= 1
            self._act(request)
            if answer is not None:
                self.after(self.random.random() * 0.2, answer)

        self.after(seconds, arrive)

    def _act(self, request: ActionRequest) -> None:
        if request.effect is Effect.READ:
            return
        known = any(effect.key == request.idempotency_key for effect in self.effects)
        if request.effect is Effect.KEYED and known:
            return
        effect = Change(
            at=self.loop.time(), verb=request.verb, name=request.params["name"], key=request.idempotency_key,
            run_id=request.run_id, path=request.path,
        )  # fmt: skip
        self.effects.append(effect)
        self.trace.tell("EFFECT", verb=effect.verb, name=effect.name, run=effect.run_id, path=effect.path)

    def state(self, name: str) -> dict[str, Any]:
        """What a look at a name shows."""
        last = [effect.verb for effect in self.effects if effect.name == name and effect.verb in {"disable", "enable"}]
        return {"name": name, "disabled": last[-1:] == ["disable"]}


@dataclass(eq=False)
class SimConnectors:
    """The engine's way out, over a network that the seed makes. `watch` looks at each call before it leaves."""

    world: World
    watch: Callable[[ActionRequest, Call], None]

    def catalogue(self) -> Catalogue:
        return CATALOGUE

    def prepare(self, instance: str, verb: str, params: dict[str, Any]) -> dict[str, Any]:
        return {"name": str(params["name"])}

    def targets(self, instance: str, verb: str, params: dict[str, Any]) -> tuple[Target, ...]:
        return tuple(Target(type=kind, id=params[name]) for name, kind in SPECS[verb].targets)

    async def invoke(self, request: ActionRequest, call: Call) -> ActionResult:
        await self._exchange(request, call)
        return ActionResult(value=self.world.state(request.params["name"]))

    async def read_back(self, request: ActionRequest, call: Call) -> ActionResult | None:
        look = request.model_copy(update={"verb": "look", "effect": Effect.READ, "path": call.path})
        await self._exchange(look, call)
        found = [effect for effect in self.world.effects if effect.key == request.idempotency_key]
        return ActionResult(value=self.world.state(request.params["name"])) if found else None

    async def _exchange(self, request: ActionRequest, call: Call) -> None:
        world, random = self.world, self.world.random
        self.watch(request, call)
        remaining = (call.deadline - world.clock.now()).total_seconds()
        fate = self._fate()
        if remaining <= 0 or fate == "refused":
            world.trace.tell("call refused", verb=request.verb, run=request.run_id, path=request.path)
            raise NotSentError("nobody listens there")
        world.calls.append(
            Sent(
                at=world.loop.time(), verb=request.verb, effect=request.effect, run_id=request.run_id,
                path=request.path, key=request.idempotency_key,
            )
        )  # fmt: skip
        world.trace.tell("call", verb=request.verb, run=request.run_id, path=request.path, fate=fate)
        if (failure := self._failure(fate)) is not None:
            await asyncio.sleep(random.random() * 0.3)
            raise failure
        reply: asyncio.Future[None] = world.loop.create_future()
        seconds = random.random() * (30 if fate == "slow" else 0.3)
        if fate != "lost":
            world.receive(request, answer=lambda: reply.done() or reply.set_result(None), seconds=seconds)
        elif random.random() < 0.6:
            world.receive(request, answer=None, seconds=seconds)
        broken = random.random() * 2 if fate == "lost" and random.random() < 0.8 else remaining
        try:
            async with asyncio.timeout(min(broken, remaining)):
                await reply
        except TimeoutError:
            if request.effect is Effect.READ:
                raise RemoteFailureError("no answer") from None
            raise OutcomeUnknownError("no answer") from None

    def _fate(self) -> str:
        drawn, weather = self.world.random.random(), self.world.weather
        for name in ("refused", "limited", "failed", "rejected", "lost", "slow"):
            drawn -= getattr(weather, name)
            if drawn < 0:
                return name
        return "fair"

    def _failure(self, fate: str) -> ConnectorError | None:
        match fate:
            case "limited":
                seconds = self.world.random.choice([None, 0.5, 3.0, 20.0])
                return RateLimitedError("too many requests", retry_after_seconds=seconds)
            case "failed":
                return RemoteFailureError("out of order", status=503)
            case "rejected":
                return RejectedError("no such name", status=400)
            case _:
                return None
