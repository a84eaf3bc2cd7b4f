"""Records in, outcomes out: normalise, match, decide, and one transaction for the whole batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

import structlog

from soar.engine.admission import Admission, Admitted, Candidate, Consumed, window_key
from soar.engine.awaited import keys_in
from soar.engine.joining import Joint
from soar.engine.naming import Names
from soar.engine.scribe import Scribe
from soar.errors import SoarError, StoreError, StoreUnavailableError
from soar.library.index import TriggerIndex
from soar.model.alert import AlertDocument, DeadLetter, Record
from soar.store.port import AdmissionKeys, Fact, Known, Store

log = structlog.get_logger(__name__)

TURN_SECONDS = 0.0005
_LONGEST_REASON = 1000
REPEAT_WINDOW = timedelta(hours=24)
"""How long the same alert id with the same content counts as a repeat of the producer's."""


class Normalise(Protocol):
    """Turns a record into alerts, or into dead letters that say why; never raises, never returns nothing."""

    def __call__(self, record: Record) -> Iterable[AlertDocument | DeadLetter]:
        """Alerts and dead letters of one record."""
        ...


class Intake:
    """The door: what is admitted is durable, and has exactly one outcome."""

    def __init__(
        self,
        *,
        store: Store,
        scribe: Scribe,
        normalise: Normalise,
        index: Callable[[], TriggerIndex],
        admitted: Callable[[], None],
    ) -> None:
        self._store = store
        self._scribe = scribe
        self._normalise = normalise
        self._index = index  # asked for each batch, so that a reload takes effect between batches
        self._admitted = admitted  # wakes the worker
        self._names: Names | None = None  # the store has their key
        self._joint = Joint(self._admit)

    async def admit(self, records: Sequence[Record]) -> Sequence[Admitted]:
        """Consume a batch of records; on return all of it is durable.

        Raises StoreUnavailableError: none of it is, and the source must not commit its offsets.
        """
        return await self.take(await self.read(records))

    async def read(self, records: Sequence[Record]) -> list[Consumed]:
        """What a batch holds, and which playbooks it concerns; nothing is stored. Raises StoreUnavailableError."""
        index, names = self._index(), self._names
        if names is None:
            names = self._names = Names(await self._store.naming_key())
        turns = _Turns()
        return [await self._consume(record, index, names, turns) for record in records]

    async def take(self, consumed: Sequence[Consumed]) -> Sequence[Admitted]:
        """Admit what was read, as `admit` does."""
        admitted = await self._joint.admit(consumed)
        self._admitted()
        return admitted

    async def _admit(self, consumed: Sequence[Consumed]) -> list[Admitted]:
        """One transaction for all; where the store refuses it, one for each, so that one record stops no other."""
        names, index = self._names, self._index()
        assert names is not None, "what was consumed has names"
        consumed = [one if one.index is index else one.matched(index) for one in consumed]
        admission = Admission(scribe=self._scribe, names=names, now=self._scribe.clock.now())
        admitted: list[Admitted] = []

        def decide(known: Known) -> Fact:
            with _mistakes_refuse():
                fact, admitted[:] = admission.decide(consumed, known)
            return fact

        try:
            with _mistakes_refuse():
                keys = self._keys(consumed, names)
            await self._store.admit(keys, decide)
        except StoreUnavailableError:
            raise
        except StoreError as refusal:
            if len(consumed) > 1:
                return [done for one in consumed for done in await self._admit([one])]
            if not consumed[0].candidates and not consumed[0].record.value:
                raise
            log.warning("intake.refused", coordinates=consumed[0].record.coordinates, why=str(refusal))
            return await self._admit([self._buried(consumed[0], refusal)])
        return admitted

    def _buried(self, refused: Consumed, refusal: StoreError) -> Consumed:
        """What the store cannot hold as alerts is kept as it came, with the reason; at the least, that it came."""
        record, letters = refused.record, refused.letters
        if not refused.candidates:
            record, letters = record.model_copy(update={"value": b"", "key": None, "headers": {}}), ()
        return Consumed(record=record, letters=(*letters, self._letter(record, "not_storable", str(refusal))))

    def _letter(self, record: Record, code: str, reason: str) -> DeadLetter:
        text = reason[:_LONGEST_REASON].encode(errors="replace").decode()
        return DeadLetter(
            id=self._scribe.ids.new("dead"), record=record, code=code, reason=text, at=self._scribe.clock.now()
        )

    async def _consume(self, record: Record, index: TriggerIndex, names: Names, turns: _Turns) -> Consumed:
        """One record, whatever it holds: where reading it meets a mistake of ours, others must not wait behind it."""
        candidates, letters = [], []
        try:
            for item in self._normalise(record):
                if isinstance(item, DeadLetter):
                    letters.append(item)
                else:
                    candidates.append(Candidate.of(item, index.match(item.body), names))
                if turns.over:
                    await turns.next()
        except Exception as bug:
            log.exception("intake.bug", coordinates=record.coordinates)
            return Consumed(
                record=record, letters=(self._letter(record, "bug", f"soar failed to read it: {_mistake(bug)}"),)
            )
        return Consumed(record=record, candidates=tuple(candidates), letters=tuple(letters), index=index)

    def _keys(self, consumed: Sequence[Consumed], names: Names) -> AdmissionKeys:
        now = self._scribe.clock.now()
        candidates = [candidate for item in consumed for candidate in item.candidates]
        return AdmissionKeys(
            coordinates=frozenset(item.record.coordinates for item in consumed),
            uids=frozenset(c.sameness for c in candidates),
            uids_since=now - REPEAT_WINDOW,
            windows=frozenset(
                window_key(playbook, c.alert.body, names)
                for c in candidates
                for playbook in c.playbooks
                if playbook.dedupe
            ),
            awaited=lambda fields: keys_in((c.alert.body for c in candidates), fields),
            now=now,
        )


class _Turns:
    """Heartbeats of other tasks go on while much is read."""

    def __init__(self) -> None:
        self._now = asyncio.get_running_loop().time
        self._end = self._now() + TURN_SECONDS

    @property
    def over(self) -> bool:
        """Whether it is the others' turn."""
        return self._now() >= self._end

    async def next(self) -> None:
        """Let the others go on."""
        await asyncio.sleep(0)
        self._end = self._now() + TURN_SECONDS


@contextmanager
def _mistakes_refuse() -> Iterator[None]:
    """A mistake of ours in deciding on records is as if the store refused them: it is found whose it is."""
    try:
        yield
    except SoarError:
        raise
    except Exception as bug:
        log.exception("intake.bug")
        raise StoreError(f"soar failed to decide on it: {_mistake(bug)}") from bug


def _mistake(bug: Exception) -> str:
    return f"{type(bug).__name__}: {bug}; please report this, and replay the record once it is mended"
