"""The doors of a running service: HTTP and Kafka."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from soar.connector.secret import Secret, SecretResolver
from soar.engine.control import HALT
from soar.errors import StoreUnavailableError
from soar.ingest.kafka import KafkaSource
from soar.service.brokers import outboxes_of, subscription_of
from soar.service.exposure import Signing, signing
from soar.service.running import Running
from soar.service.sending import EVENTS, LETTERS
from soar.store.seen import Counts
from soar.web.access import Doorkeeper
from soar.web.app import build_app
from soar.web.ingest import IngestDoor
from soar.web.server import WebServer, serve

KAFKA_STOP_SECONDS = 10.0


class Doors:
    """What lets alerts in. Opened after the worker has started, closed before it stops."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._web: WebServer | None = None
        self._consumed = asyncio.Event()
        subscription = subscription_of(running.service.loaded)
        self._kafka = KafkaSource(subscription, clock=running.service.clock) if subscription is not None else None
        self.outboxes = outboxes_of(running.service, owner=running.service.ids.new("sender"))

    @property
    def url(self) -> str | None:
        """Where the HTTP door answers, once it is open."""
        return self._web.url if self._web else None

    @property
    def parts(self) -> list[Callable[[], Awaitable[None]]]:
        """What runs until the doors are closed."""
        consuming = [] if self._kafka is None else [self._consume]
        return [self._serve, *consuming, *(outbox.run for outbox in self.outboxes)]

    async def open(self) -> None:
        """Listen; raises ConfigError where the port cannot be had."""
        service = self._running.service
        web = service.loaded.settings.web
        resolver = SecretResolver(service.loaded.environ)
        tokens = {name: partial(resolver.reveal, Secret(reference)) for name, reference in web.ingest_tokens.items()}
        door = IngestDoor(
            admit=self._running.admit,
            clock=service.clock,
            ids=service.ids,
            max_body_bytes=web.max_body_bytes,
            mappings=service.mappings.by_name,
        )
        metrics_token = partial(resolver.reveal, Secret(web.metrics_token)) if web.metrics_token else None
        doorkeeper = Doorkeeper(tokens=tokens, metrics_token=metrics_token)
        app = build_app(ingest=door, doorkeeper=doorkeeper, health=self.problems, metrics=self._metrics)
        self._web = await serve(app, host=web.host, port=web.port)

    async def close(self) -> None:
        """Take nothing more; what was taken is durable."""
        if self._kafka is not None:
            self._kafka.stop()
            with contextlib.suppress(TimeoutError):  # what it has not committed comes again
                await asyncio.wait_for(self._consumed.wait(), KAFKA_STOP_SECONDS)
        if self._web is not None:
            await self._web.stop()

    async def problems(self) -> Mapping[str, str]:
        """What is wrong now, by part; nothing when all is well."""
        wrong = {}
        try:
            await self._running.service.store.tree()
        except StoreUnavailableError:
            wrong["store"] = "cannot be read"
        else:
            if problem := self._running.recorder.pulse.problem:
                wrong["store"] = problem
        if problem := self._running.gate.problem:
            wrong["policy"] = problem
        if self._running.sequencer.disowned:
            wrong["journal"] = "is not signed any more; run: soar audit verify"
        if self._kafka is not None and self._kafka.problem:
            wrong["kafka"] = self._kafka.problem
        return wrong

    async def _serve(self) -> None:
        assert self._web is not None, "the doors are not open"
        await self._web.wait()

    async def _consume(self) -> None:
        assert self._kafka is not None
        try:
            await self._kafka.run(self._running.take, read=self._running.intake.read)
        finally:
            self._consumed.set()
        await asyncio.Event().wait()  # stopped on purpose: the service goes on until it is stopped as a whole

    async def _traffic(self) -> str:
        """What comes from Kafka and what leaves for it."""
        lag = self._kafka.lag if self._kafka is not None else {}
        waiting = {}
        if self.outboxes:
            unsent = await self._running.service.store.unsent(EVENTS)
            waiting = {LETTERS: unsent.letters, EVENTS: unsent.entries or 0}
        return kafka_prometheus(
            lag={(each.topic, each.partition): records for each, records in lag.items()},
            waiting={outbox.name: waiting[outbox.name] for outbox in self.outboxes},
            failing={outbox.name: outbox.problem is not None for outbox in self.outboxes},
        )

    async def _metrics(self) -> str:
        service = self._running.service
        store, sequencer = service.store, self._running.sequencer
        disowned = sequencer.disowned is not None
        anchored = [each.anchored for each in sequencer.anchors]
        signed = await signing(
            store, now=service.clock.now(), disowned=disowned, loaded=service.loaded, anchored=anchored
        )
        halted = await store.control(HALT) is not None
        away = sequencer.away if anchored else None
        told = prometheus(await store.counts(), halted=halted, signed=signed, away=away)
        return told + _policy(self._running) + await self._traffic()


def prometheus(counts: Counts, *, halted: bool, signed: Signing, away: int | None = None) -> str:
    """Counts in the Prometheus text format."""
    groups = (
        ("soar_alerts", "Consumed alerts and dead letters by outcome.", "outcome", counts.alerts),
        ("soar_runs", "Runs by state.", "state", counts.runs),
        ("soar_attempts", "Attempts by effect and state.", "attempt", counts.actions),
        ("soar_approvals", "Requests for people by state.", "state", counts.approvals),
    )
    lines = []
    for name, about, label, numbers in groups:
        lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
        lines += [f'{name}{{{label}="{value}"}} {number}' for value, number in sorted(numbers.items())]
    singles: list[tuple[str, str, float]] = [
        ("soar_journal_entries", "Entries in the journal.", counts.entries),
        ("soar_journal_exposed_entries", "Entries that are under no checkpoint yet.", signed.exposed),
        ("soar_journal_exposed_seconds", "Age of the oldest entry under no checkpoint.", signed.exposed_seconds),
        ("soar_journal_disowned", "Whether others know another history, so nothing is signed.", int(signed.disowned)),
        ("soar_halted", "Whether the kill switch is set.", int(halted)),
    ]
    if signed.age_seconds is not None:
        name, about = "soar_journal_checkpoint_age_seconds", "Age of the newest entry under a checkpoint."
        singles.append((name, about, signed.age_seconds))
    for name, about, behind in (
        ("soar_journal_not_cosigned_entries", "Entries under no cosigned checkpoint yet.", signed.not_cosigned),
        ("soar_journal_not_anchored_entries", "Entries under no anchored checkpoint yet.", signed.not_anchored),
        ("soar_journal_anchors_away", "Anchors that cannot be reached now.", away),
    ):
        if behind is not None:
            singles.append((name, about, behind))
    for name, about, number in singles:
        lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name} {number}"]
    return "\n".join(lines) + "\n"


def _policy(running: Running) -> str:
    """The revision in force, and how the candidate beside it compares."""
    name = "soar_policy_info"
    revision = running.gate.revision
    lines = [
        f"# HELP {name} The policy revision in force.",
        f"# TYPE {name} gauge",
        f'{name}{{revision="{revision}"}} 1',
    ]
    if running.shadow is not None:
        name, seen = "soar_policy_shadow_decisions", running.shadow.seen
        lines += [f"# HELP {name} Decisions by how the candidate compares.", f"# TYPE {name} counter"]
        lines += [f'{name}{{result="{word}"}} {seen[word]}' for word in ("same", "differed", "dropped", "failed")]
    return "\n".join(lines) + "\n"


def kafka_prometheus(
    *, lag: Mapping[tuple[str, int], int], waiting: Mapping[str, int], failing: Mapping[str, bool]
) -> str:
    """What comes and what leaves, in the same format; nothing where neither is configured."""
    lines = []
    for name, about, numbers in (
        (
            "soar_kafka_lag_records",
            "Records that wait in a partition of this worker's.",
            {f'topic="{topic}",partition="{number}"': records for (topic, number), records in lag.items()},
        ),
        ("soar_outbox_waiting", "What waits to be sent.", {f'outbox="{name}"': n for name, n in waiting.items()}),
        (
            "soar_outbox_failing",
            "Whether this worker tries to send and cannot.",
            {f'outbox="{name}"': int(bad) for name, bad in failing.items()},
        ),
    ):
        if numbers:
            lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge"]
            lines += [f"{name}{{{labels}}} {number}" for labels, number in sorted(numbers.items())]
    return "".join(f"{line}\n" for line in lines)
