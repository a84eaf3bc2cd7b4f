"""A batch of facts as a unit of work: lock the runs, decide in memory, write each row once.

Whatever a fact can be refused for is known once its runs are locked, so a refused fact is left out and takes no other
with it. What memory cannot know, a name that another process has just used, the database refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from soar.errors import JournalError, StoreError
from soar.journal.leaf import Sealed, seal
from soar.journal.merkle import Frontier
from soar.journal.salts import Randomness
from soar.model.entry import Entry
from soar.model.run import RunState
from soar.store import port, queueing
from soar.store.postgres import turns
from soar.store.postgres.ceilings import CountNames
from soar.store.postgres.connect import Db, RefusedError, refusals
from soar.store.postgres.database import Done
from soar.store.postgres.rows import RunRow, array, columns
from soar.store.postgres.sheet import Chain, Held, Sheet
from soar.store.postgres.sql import statements, together
from soar.store.postgres.tip import Tip
from soar.store.postgres.turns import TurnNames
from soar.store.postgres.writes import carry_out, check_lease
from soar.store.turns import hold_key

_AT_ONCE = 50  # facts that are applied before the event loop may do something else

_SWITCHES = "(1936683378, 1)"  # an advisory lock

_PLAIN = ("acted", "windows", "playbooks", "records", "alerts", "dead_letters", "control")
"""Tables whose rows are kept as they are written."""


@dataclass(slots=True)
class _Names:
    """The rows that facts will ask for, by name."""

    runs: set[str] = field(default_factory=set)
    chains: set[str] = field(default_factory=set)
    steps: set[tuple[str, str]] = field(default_factory=set)
    attempts: set[tuple[str, str, int]] = field(default_factory=set)
    approvals: set[str] = field(default_factory=set)
    control: set[str] = field(default_factory=set)
    turns: TurnNames = field(default_factory=TurnNames)
    counts: CountNames = field(default_factory=CountNames)

    def add(self, fact: port.Fact) -> None:
        """Add what one fact touches."""
        if fact.lease is not None:
            self.runs.add(fact.lease.run_id)
        for entry in fact.entries:
            if entry.run_id is not None:
                self.runs.add(entry.run_id)
                self.chains.add(entry.run_id)
        for write in fact.writes:
            self._add(write)

    def _add(self, write: port.Write) -> None:
        match write:
            case port.InsertRun():
                self.runs.add(write.run.id)
                if write.run.parent_run_id is not None:
                    self.runs.add(write.run.parent_run_id)
            case port.PutStep():
                self.runs.add(write.record.run_id)
                self.steps.add((write.record.run_id, write.record.path))
            case port.InsertAttempt():
                attempt = write.attempt
                self.runs.add(attempt.run_id)
                self.attempts.add((attempt.run_id, attempt.path, attempt.number))
                self.control |= {"halt", hold_key(attempt.request.instance)}
                self.counts.add(write)
                if write.turn is not None:
                    self.turns.add(attempt.request.instance, attempt.run_id, attempt.path, attempt.intended_at)
            case port.MoveAttempt():
                attempt = write.attempt
                self.runs.add(attempt.run_id)
                self.attempts.add((attempt.run_id, attempt.path, attempt.number))
            case queueing.JoinQueue() | queueing.CallTurn() | queueing.HoldInstance() | queueing.SweepTurns():
                self._add_turn(write)
            case port.InsertApproval() | port.UpdateApproval():
                self.runs.add(write.approval.run_id)
                self.approvals.add(write.approval.id)
            case (
                port.ParkRun()
                | port.ReleaseRun()
                | port.SignalRun()
                | port.FinishRun()
                | port.RequestCancel()
                | port.SetPaused()
                | port.ReopenRun()
            ):
                self.runs.add(write.run_id)

    def _add_turn(
        self, write: queueing.JoinQueue | queueing.CallTurn | queueing.HoldInstance | queueing.SweepTurns
    ) -> None:
        if isinstance(write, queueing.SweepTurns):
            self.turns.sweep_before = write.before
            return
        self.control.add(hold_key(write.instance))
        self.turns.instances.add(write.instance)
        if not isinstance(write, queueing.HoldInstance):
            self.runs.add(write.run_id)
            self.turns.add(write.instance, write.run_id, write.path, write.at)

    def more_than(self, new: set[str]) -> bool:
        """Whether they name anything that may exist, besides these runs, which do not yet."""
        turns = self.turns != TurnNames()
        return bool(self.runs - new or self.steps or self.attempts or self.approvals or self.control or turns)

    @classmethod
    def of(cls, facts: Sequence[port.Fact]) -> _Names:
        """What all these facts touch."""
        names = cls()
        for fact in facts:
            names.add(fact)
        return names


async def write_together(db: Db, facts: Sequence[port.Fact], tip: Tip) -> Done[list[StoreError | None]]:
    """Write facts as one batch; raises RefusedError where the database refuses one of them, whichever it is."""
    batch = Batch(facts)
    await batch.load(db)
    results = await batch.apply()
    await batch.flush(db, tip)
    xid = batch.xid if None in results else None
    return Done(result=results, xid=xid, entry_id=batch.entry_id, wakes=batch.wakes)


async def write_apart(db: Db, facts: Sequence[port.Fact]) -> Done[list[StoreError | None]]:
    """Write facts in one transaction, each as a batch of its own, without those that the database refuses."""
    names = _Names.of(facts)
    await db.fetch(statements("writes.sql")["lock_runs"], array(sorted(names.runs)))
    await names.turns.lock(db, Sheet())
    await names.counts.lock(db)
    results: list[StoreError | None] = []
    parts: list[Done[list[StoreError | None]]] = []
    for fact in facts:
        await db.execute("SAVEPOINT fact")
        try:
            with refusals():
                part = await write_together(db, [fact], Tip())
        except RefusedError as refused:
            await db.execute("ROLLBACK TO fact")
            results.append(refused.refusal)
        else:
            parts.append(part)
            results += part.result
        await db.execute("RELEASE fact")
    return Done(
        result=results,
        xid=next((part.xid for part in parts if part.xid), None),
        entry_id=next((part.entry_id for part in parts if part.entry_id), None),
        wakes=any(part.wakes for part in parts),
    )


def begin_for(facts: Sequence[port.Fact]) -> str:
    """How to begin.

    Who records an intent shares a lock that who sets a switch takes alone: once `halt` is written no intent is, and
    in the journal none stands behind it.
    """
    kinds = {type(write) for fact in facts for write in fact.writes}
    if port.SetControl in kinds:
        return f"BEGIN; SELECT pg_advisory_xact_lock{_SWITCHES}"
    if port.InsertAttempt in kinds:
        return f"BEGIN; SELECT pg_advisory_xact_lock_shared{_SWITCHES}"
    return "BEGIN"


class Batch:
    """Facts on their way into the database, inside the caller's transaction."""

    def __init__(self, facts: Sequence[port.Fact]) -> None:
        self.xid = ""
        self.sheet = Sheet()
        self.sealed: list[tuple[Entry, int | None, Sealed]] = []
        self._facts = facts
        self._turns = TurnNames()
        self._salts = Randomness()

    @property
    def entry_id(self) -> str | None:
        """A name by which the journal shows whether this batch was committed."""
        return self.sealed[0][0].id if self.sealed else None

    @property
    def wakes(self) -> bool:
        """Whether it makes a run ready."""
        return any(run.state == RunState.READY for run in self.sheet.written("runs"))

    async def load(self, db: Db, *, xid: str = "") -> None:
        """Lock the runs, then read what else the facts ask for; `xid` where the transaction's name is known already."""
        names = _Names.of(self._facts)
        self.xid = xid
        new = {w.run.id for fact in self._facts for w in fact.writes if isinstance(w, port.InsertRun)}
        if not xid or names.more_than(new):
            await self._load(db, names)

    async def _load(self, db: Db, names: _Names) -> None:
        sql = statements("writes.sql")
        for row in await db.fetch(sql["lock_runs"], array(sorted(names.runs))):
            run = RunRow(*row)
            self.sheet.hold("runs", run.id, row=run)
        if names.approvals:
            for approval_id, state, votes in await db.fetch(sql["lock_approvals"], array(sorted(names.approvals))):
                self.sheet.hold("approvals", approval_id, row=Held(state, votes))
        await names.turns.lock(db, self.sheet)
        await names.counts.lock(db)
        await names.counts.load(db, self.sheet)
        rows = await db.fetch(
            sql["look"],
            *_by_column(names.steps, 2),
            *_by_column(names.attempts, 3),
            array(names.control),
            array(names.chains),
        )
        for what, first, second, number, state in rows:
            match what:
                case "xid":
                    self.xid = first
                case "chains":
                    self.sheet.hold(what, first, row=Chain(number, second))
                case "steps":
                    self.sheet.hold(what, first, second, row=Held(state))
                case "attempts":
                    self.sheet.hold(what, first, second, number, row=Held(state))
                case "control":
                    self.sheet.hold(what, first, row=Held(state))
        await names.turns.load(db, self.sheet)
        self._turns = names.turns

    async def apply(self) -> list[StoreError | None]:
        """Apply the facts in order, each to what those before it left; one result per fact."""
        results: list[StoreError | None] = []
        for start in range(0, len(self._facts), _AT_ONCE):
            if start:
                await asyncio.sleep(0)
            results += [self._refusal(fact) for fact in self._facts[start : start + _AT_ONCE]]
        return results

    def _refusal(self, fact: port.Fact) -> StoreError | None:
        try:
            if fact.lease is not None:
                check_lease(self.sheet, fact.lease)
            carry_out(fact.writes, self.sheet)
            sealed = self._seal(fact.entries)
        except StoreError as refusal:
            self.sheet.drop()
            return refusal
        except JournalError as failure:
            self.sheet.drop()
            return StoreError(f"the journal cannot hold this: {failure}")
        except (ValueError, TypeError, OverflowError, RecursionError) as failure:
            self.sheet.drop()
            return StoreError(f"a value cannot be stored: {type(failure).__name__}: {failure}")
        self.sheet.keep()
        self.sealed += sealed
        return None

    def _seal(self, entries: Sequence[Entry]) -> list[tuple[Entry, int | None, Sealed]]:
        """The next links of their runs' chains. The tree gives them indexes later, and no leaf speaks of its own."""
        chains: dict[str, Chain] = {}
        links: list[tuple[Entry, int | None, Sealed]] = []
        for entry in entries:
            if entry.run_id is None:
                links.append((entry, None, seal(entry, run_seq=0, run_prev="", salt_source=self._salts)))
                continue
            length, last = chains.get(entry.run_id) or self._chain(entry.run_id)
            sealed = seal(entry, run_seq=length, run_prev=last, salt_source=self._salts)
            chains[entry.run_id] = Chain(length + 1, sealed.leaf_hash.hex())
            links.append((entry, length, sealed))
        for run_id, chain in chains.items():
            self.sheet.put("chains", run_id, row=chain)
        return links

    def _chain(self, run_id: str) -> Chain:
        if self.sheet.run(run_id) is None:
            raise StoreError(f"an entry names run {run_id}, which does not exist")
        chain: Chain | None = self.sheet.get("chains", run_id)
        return chain or Chain()

    async def flush(self, db: Db, tip: Tip, *, unclaim: Sequence[int] = ()) -> None:
        """Write what was accepted, in one statement where the tree is as `tip` has it; else the tree apart and last."""
        sheet = self.sheet
        new, moved = sheet.written("runs", new=True), sheet.written("runs", new=False)
        parts = (
            ("new_runs", [(*run, *sheet.get("origins", run.id)) for run in new]),
            ("runs", moved),
            ("steps", [held.values for held in sheet.written("steps")]),
            ("forget_steps", sheet.deleted("steps")),
            ("attempts", [held.values for held in sheet.written("attempts")]),
            ("new_approvals", [held.values for held in sheet.written("approvals", new=True)]),
            ("approvals", [held.values for held in sheet.written("approvals", new=False)]),
            ("clear_control", sheet.deleted("control")),
            *((table, sheet.written(table)) for table in _PLAIN),
            ("payloads", [(e.id, s.salt, s.payload) for e, _, s in self.sealed if s.payload is not None]),
        )
        filled: dict[str, list[Any]] = {name: columns(rows) for name, rows in parts if rows}
        if unclaim:
            filled["unclaim"] = [list(unclaim)]
        await turns.flush(db, sheet, self._turns)
        if self.sealed:
            await tip.take(db)
            tip.remember(sheet.changed("chains"))
        guess = tip.known if self.sealed else None
        if guess is not None:
            filled |= self.grown(guess)
        if filled:
            values = [column for rows in filled.values() for column in rows]
            changed, grown = await db.fetchrow(together("writes.sql", *filled), *values)
            assert changed == len(moved), f"runs changed although they are locked: {changed} of {len(moved)}"
            if grown:
                tip.found(filled["grow"][0], filled["grow"][1])
                return
        if self.sealed:
            await self._append(db, tip)

    def grown(self, tree: tuple[int, bytes]) -> dict[str, list[Any]]:
        """The tree after this batch, as the parameters of `grow` and `append_grown`, by name."""
        rows = [
            (index, entry.id, entry.type, entry.at, entry.run_id, seq, sealed.leaf, sealed.leaf_hash)
            for index, (entry, seq, sealed) in enumerate(self.sealed, start=tree[0])
        ]
        return {"grow": [*self.tree_after(tree), *tree], "append_grown": columns(rows)}

    def tree_after(self, tree: tuple[int, bytes]) -> tuple[int, bytes]:
        """Size and frontier after this batch."""
        frontier = Frontier.from_bytes(tree[1]).extend(sealed.leaf_hash for _, _, sealed in self.sealed)
        return frontier.size, frontier.to_bytes()

    async def _append(self, db: Db, tip: Tip) -> None:
        """Entries into tree order. The row lock is held from here to the commit, and nothing else is waited for."""
        size, raw = await db.fetchrow(statements("writes.sql")["lock_tree"])
        # Where others write too, a guess would be wrong most of the time.
        alone = tip.seen in {None, (size, raw)}
        grown = self.grown((size, raw))
        await db.fetchrow(together("writes.sql", *grown), *(each for rows in grown.values() for each in rows))
        tip.found(grown["grow"][0], grown["grow"][1], alone=alone)


def _by_column(keys: set[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return columns(list(keys)) if keys else [[] for _ in range(width)]
