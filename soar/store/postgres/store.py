"""The store for several machines: one PostgreSQL, any number of workers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from asyncpg import Record as Row

from soar.errors import StoreError
from soar.model.action import Attempt
from soar.model.alert import Alert, DeadLetter, Outcome
from soar.model.approval import Approval, ApprovalState
from soar.model.clock import earliest
from soar.model.entry import Entry
from soar.model.run import Run, RunState, StepRecord
from soar.model.suppression import Suppression
from soar.store import port, queueing
from soar.store.aging import Forgotten, OldPayloads
from soar.store.erasure import Touched
from soar.store.matches import Namesake
from soar.store.outbox import Unsent
from soar.store.postgres import admission, aging, ceilings, erasing, outbox, reads, turns
from soar.store.postgres.batch import begin_for, write_apart, write_together
from soar.store.postgres.connect import RefusedError
from soar.store.postgres.database import Database
from soar.store.postgres.rows import alert_row_of, array, letter_of, namesake_of, run_of
from soar.store.postgres.scrubbing import scrub
from soar.store.postgres.sql import statements
from soar.store.postgres.sure import write_surely
from soar.store.postgres.tip import Tip
from soar.store.seen import Counts, EntryRow

PATIENCE_SECONDS = 10.0
_PAGE = 1000


class PostgresStore:
    """A `Store` in one PostgreSQL database (schema: the DSN's `?search_path=`)."""

    def __init__(self, dsn: str, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._tip = Tip()
        self._database = Database(dsn, patience_seconds=patience_seconds, ended=self._tip.release)
        self._reads = statements("reads.sql")
        self._writes = statements("writes.sql")

    @property
    def where(self) -> str:
        """The database, without user and password."""
        return self._database.where

    async def open(self) -> None:
        """Connect and bring the schema up to date; raises `StoreUnavailableError`."""
        await self._database.open()

    async def close(self) -> None:
        """Finish what is under way and disconnect."""
        await self._database.close()

    async def now(self) -> datetime | None:
        """The server's clock: workers on other machines go by it too."""
        now: datetime = (await self._fetch(self._reads["clock"]))[0]["now"]
        return now

    async def listen(self, woken: Callable[[], None]) -> None:
        """Call `woken` whenever some process made a run ready, until cancelled. Polling finds it too, only later."""
        await self._database.listen(woken)

    async def commit(self, facts: Sequence[port.Fact]) -> list[StoreError | None]:
        """Make facts durable in one transaction, without those that are refused."""
        written = await write_surely(self._database, facts, self._tip)
        if written is not None:
            return written
        begin = begin_for(facts)
        try:
            return await self._database.write(lambda db: write_together(db, facts, self._tip), begin=begin)
        except RefusedError as refused:
            if len(facts) == 1:
                return [refused.refusal]
        return await self._database.write(lambda db: write_apart(db, facts), begin=begin)

    async def admit(self, keys: port.AdmissionKeys, decide: Callable[[port.Known], port.Fact]) -> port.Fact:
        """Read, decide, write: one transaction. `decide` is asked again where another process was first."""
        try:
            return await self._database.write(
                lambda db: admission.admit(db, keys, decide, self._tip),
                ring=False,  # the intake wakes its worker
            )
        except RefusedError as refused:
            raise refused.refusal from refused

    async def lease(self, *, owner: str, until: datetime, limit: int) -> list[Run]:
        """Take up to `limit` ready runs, most urgent first.

        If we crash before the answer arrives, the runs are leased to nobody who knows; recovery takes them back.
        """
        rows = await self._database.read(lambda db: reads.lease(db, owner, until, limit))
        runs = [run_of(row) for row in rows]
        return sorted(runs, key=lambda run: (-run.priority, run.id))

    async def renew(self, *, owner: str, leases: Sequence[port.Lease], until: datetime) -> list[port.Lease]:
        """Extend leases; returns those that are lost."""
        if not leases:
            return []
        ids, epochs = array(lease.run_id for lease in leases), [lease.epoch for lease in leases]
        rows = await self._fetch(self._writes["renew"], owner, until, ids, epochs)
        held = {(row["id"], row["epoch"]) for row in rows}
        return [lease for lease in leases if (lease.run_id, lease.epoch) not in held]

    async def due(self, now: datetime, limit: int) -> list[Run]:
        """Waiting runs whose time has come."""
        return [run_of(row) for row in await self._fetch(self._reads["due"], now, limit)]

    async def expired_leases(self, now: datetime, limit: int, *, beyond: datetime | None = None) -> list[Run]:
        """Running runs whose lease ended before `now`, or ends after `beyond`."""
        return [run_of(row) for row in await self._fetch(self._reads["expired_leases"], now, limit, beyond)]

    async def due_approvals(self, now: datetime, limit: int) -> list[Approval]:
        """Pending ones past `decide_by` and granted ones past `execute_by`."""
        return _approvals(await self._fetch(self._reads["due_approvals"], now, limit))

    async def run(self, run_id: str) -> Run | None:
        """One run."""
        row = await self._row("run", run_id)
        return run_of(row) if row else None

    async def runs(
        self,
        *,
        state: RunState | None = None,
        alert_id: str | None = None,
        parent: tuple[str, str] | None = None,
        playbook_id: str | None = None,
        limit: int = 100,
    ) -> list[Run]:
        """Runs, newest first."""
        filters = {"state": state, "alert_id": alert_id, "playbook_id": playbook_id}
        if parent is not None:
            filters |= {"parent_run_id": parent[0], "parent_path": parent[1]}
        return [run_of(row) for row in await self._newest("runs", filters, limit)]

    async def steps(self, run_id: str) -> dict[str, StepRecord]:
        """What is recorded of a run's steps, by path."""
        rows = await self._fetch(self._reads["steps"], run_id)
        return {row["path"]: StepRecord.model_validate_json(row["record"]) for row in rows}

    async def attempts(self, run_id: str) -> list[Attempt]:
        """A run's attempts in order."""
        rows = await self._fetch(self._reads["attempts"], run_id)
        return [Attempt.model_validate_json(row["attempt"]) for row in rows]

    async def approval(self, approval_id: str) -> Approval | None:
        """One approval."""
        row = await self._row("approval", approval_id)
        return Approval.model_validate_json(row["approval"]) if row else None

    async def approvals(
        self, *, state: ApprovalState | None = None, run_id: str | None = None, limit: int = 100
    ) -> list[Approval]:
        """Approvals, newest first."""
        return _approvals(await self._newest("approvals", {"state": state, "run_id": run_id}, limit))

    async def alert(self, alert_id: str) -> Alert | None:
        """One alert's body; None where it does not exist or was erased."""
        found = await self.alert_documents([alert_id])
        return Alert.model_validate(found[alert_id]) if found else None

    async def alert_documents(self, alert_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """The bodies of alerts as they were admitted."""
        rows = await self._fetch(self._reads["alert_documents"], list(alert_ids)) if alert_ids else []
        return {row["id"]: json.loads(row["body"])["alert"] for row in rows}

    async def namesakes(self, alert_id: str, limit: int = 20) -> list[Namesake]:
        """Alerts of the same source and uid that came before."""
        return [namesake_of(row) for row in await self._fetch(self._reads["namesakes"], alert_id, limit)]

    async def joined(self, run_id: str, *, since: datetime, until: datetime, limit: int = 100) -> list[str]:
        """Alerts that joined a run."""
        span = (earliest("alert", at) for at in (since, until))
        return [row["id"] for row in await self._fetch(self._reads["joined"], run_id, *span, limit)]

    async def alert_row(self, alert_id: str) -> port.AlertRow | None:
        """One alert with its outcome."""
        row = await self._row("alert_row", alert_id)
        return alert_row_of(row) if row else None

    async def alerts(
        self, *, outcome: Outcome | None = None, source: str | None = None, limit: int = 100
    ) -> list[port.AlertRow]:
        """Alerts, newest first."""
        rows = await self._newest("alerts", {"outcome": outcome, "source": source}, limit)
        return [alert_row_of(row) for row in rows]

    async def dead_letters(self, limit: int = 100, *, before: str | None = None) -> list[DeadLetter]:
        """Records that could not become alerts, newest first."""
        return [letter_of(row) for row in await self._fetch(self._reads["dead_letters"], before, limit)]

    async def playbook_text(self, digest: str) -> tuple[str, str] | None:
        """(file, text) of a pinned playbook."""
        row = await self._row("playbook_text", digest)
        return (row["file"], row["text"]) if row else None

    async def naming_key(self) -> str:
        """The key of names."""
        row, *_ = await self._fetch(self._reads["naming_key"])
        return str(row["key"])

    async def control(self, key: str) -> str | None:
        """A switch's value."""
        row = await self._row("control", key)
        return row["value"] if row else None

    async def suppressions(self) -> list[Suppression]:
        """Those in force and to come, and the lately over, oldest first."""
        return await self._database.read(reads.suppressions)

    async def action_counts(
        self, keys: Sequence[str], since: datetime, *, besides: tuple[str, str] | None = None
    ) -> dict[str, int]:
        """How many actions each key saw since."""
        return await self._database.read(lambda db: ceilings.action_counts(db, keys, since, besides))

    async def targets_acted_on(self, kind: str, since: datetime, *, besides: Collection[str]) -> int:
        """How many targets of a type actions had since."""
        return await self._database.read(lambda db: ceilings.targets_acted_on(db, kind, since, besides))

    async def calls(self, now: datetime) -> queueing.Calls:
        """Who waits for a turn that is free."""
        return await self._database.read(lambda db: turns.calls(db, now))

    async def before(self, run_id: str, path: str) -> int | None:
        """How many wait before this step for a turn."""
        rows = await self._fetch(statements("turns.sql")["before"], run_id, path)
        return rows[0]["number"] if rows else None

    async def traffic(self, now: datetime) -> list[queueing.Traffic]:
        """What goes on at instances with limits."""
        return await self._database.read(lambda db: turns.traffic(db, now))

    async def counts(self) -> Counts:
        """How much of everything there is."""
        return await self._database.read(reads.counts)

    async def tree(self) -> tuple[int, bytes]:
        """Size and frontier of the journal's tree."""
        row = (await self._fetch(self._reads["tree"]))[0]
        return row["size"], row["frontier"]

    async def entries(
        self, *, start: int = 0, run_id: str | None = None, newest: int | None = None
    ) -> AsyncIterator[EntryRow]:
        """Entries in tree order, a page at a time."""
        if newest is not None:
            start = max(start, (await self.tree())[0] - newest)
        while page := await self._page(start, run_id):
            for entry in page:
                yield entry
            start = page[-1].index + 1

    async def checkpoints(self, *, newest: int | None = None) -> list[str]:
        """Signed checkpoints, oldest first."""
        rows = await self._fetch(self._reads["checkpoints"], newest)
        return [row["text"] for row in reversed(rows)]

    async def add_checkpoint(self, size: int, text: str) -> None:
        """Keep a signed checkpoint; one that is already there for this size stays."""
        await self._fetch(self._writes["add_checkpoint"], size, text)

    async def add_cosigned(self, size: int, text: str) -> None:
        """Keep the same checkpoint with its witnesses' lines."""
        await self._fetch(self._writes["add_cosigned"], size, text)

    async def cosigned(self) -> str | None:
        """The newest checkpoint that was kept with its witnesses' lines."""
        rows = await self._fetch(self._reads["cosigned"])
        return rows[0]["text"] if rows else None

    async def hashes(self, level: int, start: int, count: int) -> list[bytes]:
        """Nodes of the journal's tree."""
        if level:
            rows = await self._fetch(self._reads["subtree_hashes"], start, count, level)
        else:
            rows = await self._fetch(self._reads["leaf_hashes"], start, count)
        return [row["hash"] for row in rows]

    async def add_hashes(self, nodes: Mapping[tuple[int, int], bytes]) -> None:
        """Keep nodes above the leaves."""
        levels, indexes = zip(*nodes, strict=True)
        await self._fetch(self._writes["add_hashes"], levels, indexes, list(nodes.values()))

    async def touched(self, subject: str) -> Touched:
        """What tells of somebody."""
        return await self._database.read(lambda db: erasing.touched(db, subject))

    async def erase(self, subject: str, tell: Callable[[str], Entry], *, elsewhere: Sequence[Entry] = ()) -> Touched:
        """Forget them, and tell the journal; their bytes stay in the server's files until `scrub`."""
        return await self._database.write(lambda db: erasing.erase(db, subject, tell, elsewhere=elsewhere))

    async def scrub(self) -> tuple[str, ...]:
        """Write the tables and the write-ahead log anew, without what was deleted."""
        return await self._database.maintain(scrub)

    async def old_payloads(self, before: datetime, *, after: str, limit: int) -> OldPayloads:
        """Payloads that may leave."""
        return await self._database.read(lambda db: aging.old_payloads(db, before, after, limit))

    async def archive(self, names: Sequence[str], told: Entry) -> None:
        """Delete these payloads, and tell the journal where they are."""
        await self._database.write(lambda db: aging.archive(db, names, told))

    async def leaves(self, kind: str) -> list[bytes]:
        """The leaves of this type, oldest first."""
        return [row["leaf"] for row in await self._fetch(statements("evidence.sql")["leaves"], kind)]

    async def forget(self, before: datetime, *, limit: int, tell: Callable[[Forgotten], Entry]) -> Forgotten:
        """Delete what ended before a time, and tell the journal."""
        return await self._database.write(lambda db: aging.forget(db, before, limit, tell))

    async def _page(self, start: int, run_id: str | None) -> list[EntryRow]:
        return await self._database.read(lambda db: reads.entries(db, start, run_id, _PAGE))

    async def hold_outbox(self, name: str, *, owner: str, now: datetime, until: datetime) -> int | None:
        """Take an outbox, or keep it: where to go on, None if it is another's."""
        return await self._database.read(lambda db: outbox.hold(db, name, owner, now, until))

    async def advance_outbox(self, name: str, *, owner: str, position: int) -> bool:
        """Remember that all entries before `position` were sent."""
        return await self._database.read(lambda db: outbox.advance(db, name, owner, position))

    async def release_outbox(self, name: str, *, owner: str) -> None:
        """Let others take it at once."""
        await self._database.read(lambda db: outbox.release(db, name, owner))

    async def unsent_letters(self, limit: int) -> list[DeadLetter]:
        """Dead letters that were not sent yet, oldest first."""
        return await self._database.read(lambda db: outbox.unsent_letters(db, limit))

    async def letters_sent(self, ids: Sequence[str]) -> None:
        """Remember that these were sent."""
        await self._database.read(lambda db: outbox.letters_sent(db, ids))

    async def unsent(self, name: str) -> Unsent:
        """How much waits, in this outbox."""
        return await self._database.read(lambda db: outbox.unsent(db, name))

    async def consumed(self, coordinates: Collection[str]) -> set[str]:
        """Of these coordinates, those of records that were consumed."""
        return await self._database.read(lambda db: outbox.consumed(db, coordinates))

    async def _newest(self, table: str, filters: dict[str, str | None], limit: int) -> list[Row]:
        return await self._database.read(lambda db: reads.newest(db, table, filters, limit))

    async def _row(self, query: str, key: str) -> Row | None:
        rows = await self._fetch(self._reads[query], key)
        return rows[0] if rows else None

    async def _fetch(self, sql: str, *values: Any) -> list[Row]:
        """One statement by itself: a query, or a change that may be done twice."""
        return await self._database.read(lambda db: db.fetch(sql, *values))


def _approvals(rows: Sequence[Row]) -> list[Approval]:
    return [Approval.model_validate_json(row["approval"]) for row in rows]
