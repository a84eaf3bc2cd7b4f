"""What time does: wakes runs, expires approvals, takes runs back from dead workers, signs checkpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import structlog

from soar.engine.approvals import expire
from soar.engine.leases import LeaseTimes, LeaseWatch
from soar.engine.publishing import Anchor, Publisher
from soar.engine.recorder import Recorder
from soar.engine.scribe import Scribe
from soar.errors import StoreError, StoreUnavailableError
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.merkle import Frontier
from soar.journal.nodes import keep_nodes
from soar.journal.note import Signer
from soar.journal.standing import Comparison, Standing
from soar.journal.trust import TrustPolicy, claimed
from soar.model.entry import EntryType
from soar.store.port import Fact, Lease, ReleaseRun, SignalRun, Store

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.2
CHECKPOINT_SECONDS = 1.0
ASK_SECONDS = 5.0
_MOST = 500
_UNRENEWED = timedelta(microseconds=1)  # past the end that was looked at: a renewal has moved it on


class Timekeeper:
    """Looks at the clock and the store; all that it knows is rows, so a restart forgets nothing."""

    def __init__(
        self,
        *,
        store: Store,
        recorder: Recorder,
        scribe: Scribe,
        woken: Callable[[], None],
        times: LeaseTimes,
    ) -> None:
        self._store = store
        self._leases = LeaseWatch(store=store, times=times)
        self._recorder = recorder
        self._scribe = scribe.acting_as("timekeeper")
        self._woken = woken

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            try:
                if await self.tick():
                    self._woken()
            except StoreUnavailableError as failure:
                log.warning("timekeeper.store_unavailable", error=str(failure))
            await asyncio.sleep(TICK_SECONDS)

    async def tick(self) -> int:
        """Do what is due now; returns how much it was."""
        now = self._scribe.clock.now()
        facts = [expire(approval, self._scribe) for approval in await self._store.due_approvals(now, _MOST)]
        facts += [Fact(writes=(SignalRun(run_id=run.id),)) for run in await self._store.due(now, _MOST)]
        for run in await self._leases.over(now, _MOST):
            assert run.lease_until is not None, "a running run has a lease"
            log.warning("run.recovered", run=run.id, owner=run.owner, epoch=run.epoch)
            told = self._scribe.entry(
                EntryType.RUN_RECOVERED, run.id, run_id=run.id, data={"owner": run.owner or "", "epoch": run.epoch}
            )
            release = ReleaseRun(run_id=run.id, expired_before=run.lease_until + _UNRENEWED)
            facts.append(Fact(writes=(release,), entries=(told,), lease=Lease(run_id=run.id, epoch=run.epoch)))
        await asyncio.gather(*(self._record(fact) for fact in facts))
        return len(facts)

    async def _record(self, fact: Fact) -> None:
        try:
            await self._recorder.record(fact)
        except StoreUnavailableError:
            raise
        except StoreError as lost:
            log.info("timekeeper.too_late", why=str(lost))  # somebody else was first, and that is fine


class Sequencer:
    """Signs a checkpoint of the tree, at least every second while there is something new, and publishes it.

    Once a witness knows another history of ours, or an anchor a longer one, nothing is signed any more: `disowned`
    says why, and what to do.
    """

    def __init__(self, *, store: Store, signer: Signer, origin: str, publisher: Publisher | None = None) -> None:
        self._store = store
        self._signer = signer
        self._origin = origin
        self._publisher = publisher
        self._signed = -1
        self.disowned: str | None = None

    async def check(self) -> None:
        """Find out, before the first signature, whether this is the tree that others have seen."""
        size, _ = await self._store.tree()
        await keep_nodes(self._store, size)
        if self._publisher is not None:
            await self._ask(self._publisher, self._publisher.anchors, size)
        for note in await self._store.checkpoints(newest=1):
            await self.publish(note)

    async def run(self) -> None:
        """Sign until cancelled; anchors that could not be asked at the start are asked meanwhile."""
        await asyncio.gather(self._sign_on(), self._ask_on())

    @property
    def unasked(self) -> list[str]:
        """The anchors that could not be asked yet what they hold."""
        return [each.place for each in self._publisher.unasked] if self._publisher else []

    @property
    def away(self) -> int:
        """How many anchors cannot be asked, or given the newest checkpoint, now."""
        unasked = self.unasked
        return sum(each.place in unasked or each.problem is not None for each in self.anchors)

    @property
    def anchors(self) -> Sequence[Anchor]:
        """Where checkpoints go."""
        return self._publisher.anchors if self._publisher else ()

    async def close(self) -> None:
        """Let what is under way arrive where it is published."""
        if self._publisher is not None:
            await self._publisher.close()

    async def _ask_on(self) -> None:
        while self._publisher is not None and self._publisher.unasked:
            await asyncio.sleep(ASK_SECONDS)
            try:
                size, _ = await self._store.tree()
                await keep_nodes(self._store, size)
                await self._ask(self._publisher, self._publisher.unasked, size)
            except StoreUnavailableError as failure:
                log.warning("sequencer.store_unavailable", error=str(failure))

    async def _ask(self, publisher: Publisher, anchors: Sequence[Anchor], size: int) -> None:
        policy = TrustPolicy.of([self._signer.verifier])
        self._heed(await publisher.ask(anchors, self._store, size=size, policy=policy))

    async def _sign_on(self) -> None:
        while True:
            try:
                await self.sign()
            except StoreUnavailableError as failure:
                log.warning("sequencer.store_unavailable", error=str(failure))
            await asyncio.sleep(CHECKPOINT_SECONDS)

    async def sign(self) -> None:
        """Sign the tree as it stands, if it has grown."""
        size, raw = await self._store.tree()
        if size in {0, self._signed} or self.disowned:
            return
        checkpoint = Checkpoint(origin=self._origin, size=size, root=Frontier.from_bytes(raw).root())
        note = sign_checkpoint(checkpoint, self._signer)
        await self._store.add_checkpoint(size, note)
        self._signed = size
        await keep_nodes(self._store, size)
        await self.publish(note)

    async def publish(self, note: str) -> None:
        """Show a checkpoint of this tree to witnesses and anchors, and keep it with what they say."""
        if self._publisher is None or self.disowned:
            return
        published = await self._publisher.publish(note)
        self._heed(published.comparison)
        if published.note != note:
            await self._store.add_cosigned(claimed(note).size, published.note)

    def _heed(self, comparison: Comparison) -> None:
        if comparison.standing is not Standing.OK:
            self.disowned = comparison.message
            log.error("journal.disowned", standing=comparison.standing.value, why=comparison.message)
