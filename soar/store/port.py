"""The Store port: what the engine asks of a database.

All change goes through `commit` or `admit` as Facts: state and journal entries in one transaction, durable
on return. A Fact is atomic; facts that are committed together share one transaction where they can (group
commit) but never each other's failure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from soar.errors import StoreError
from soar.model.action import Attempt, AttemptState, Risk
from soar.model.alert import Alert, AlertDocument, DeadLetter, Outcome
from soar.model.approval import Approval, ApprovalState
from soar.model.entry import Entry
from soar.model.run import Run, RunState, StepRecord
from soar.model.suppression import Suppression
from soar.store.aging import Ages
from soar.store.ceilings import Ceiling, CountsActions
from soar.store.erasure import Erases
from soar.store.matches import AlertMatch, KnowsKin
from soar.store.outbox import Sends
from soar.store.queueing import CallTurn, HoldInstance, JoinQueue, KeepsTurns, SweepTurns, Turn
from soar.store.seen import Counts, EntryRow


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertAlert:
    """A consumed alert with its one outcome; `entry_id` is the entry whose payload holds its body."""

    alert: AlertDocument
    outcome: Outcome
    matches: tuple[AlertMatch, ...]
    coordinates: str
    content: str  # name of the raw payload under the store's key, to tell a repeat from a conflict
    entry_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertRecord:
    """A consumed record's coordinates, unique for ever."""

    coordinates: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertDeadLetter:
    """A record that could not become an alert."""

    letter: DeadLetter


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A dedupe window of one playbook and key: how many alerts it saw, and which run they belong to."""

    key: str
    started_at: datetime
    until: datetime
    count: int
    run_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutWindow:
    """Open or advance a dedupe window."""

    window: Window


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertRun:
    """A new run, `ready` or `waiting`; a sub-run of a paused run is refused with `RunPausedError`."""

    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkRun:
    """running -> waiting until `wake_at` (None: until signalled); ready at once if signalled meanwhile."""

    run_id: str
    wake_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRun:
    """running -> ready: its worker gives it back, or, with `expired_before`, recovery takes it from a dead one."""

    run_id: str
    expired_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRun:
    """Something the run may wait for has happened: waiting -> ready, or remembered while it is running."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishRun:
    """running -> a final state or `needs_review`."""

    run_id: str
    state: RunState
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCancel:
    """Ask for the end of a run: at its next step, or at once where it is parked or paused."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPaused:
    """Hold a run that has not ended, whatever its state, or let it go on as if signalled; refused where it is so."""

    run_id: str
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReopenRun:
    """failed, denied, needs_review or waiting -> ready; the named steps are forgotten and done again.

    A run that had ended forgets that it was to be cancelled; one that had not is still to be.
    """

    run_id: str
    expect: RunState
    forget: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PutStep:
    """What is known of a step; a final record is never overwritten."""

    record: StepRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertAttempt:
    """An intent.

    Refused in the same transaction: with `HaltedError` while the kill switch is set, with `RunCancelledError`
    where the run's end was asked for, with `RunPausedError` while the run is paused, with `RecountError` where more
    was done than a ceiling allows, with `BusyError` while its instance is held or has no turn for it.
    """

    attempt: Attempt
    playbook_id: str
    turn: Turn | None = None
    ceilings: tuple[Ceiling, ...] = ()

    @property
    def counted(self) -> list[str]:
        """The keys that it is counted under from now on."""
        request = self.attempt.request
        always = [] if request.risk is Risk.NONE else request.counts_against(self.playbook_id)
        return list(dict.fromkeys([*always, *(ceiling.key for ceiling in self.ceilings)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveAttempt:
    """An attempt's outcome: how it stands from now on; refused unless it is in state `expect`. Its turn is over."""

    attempt: Attempt
    expect: AttemptState


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertApproval:
    """A new request for people."""

    approval: Approval


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateApproval:
    """Compare-and-swap: refused unless state and number of votes are still what the caller read."""

    approval: Approval
    expect: ApprovalState
    expect_votes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InsertPlaybook:
    """Pin a playbook's text under its digest; a known digest is left as it is."""

    digest: str
    playbook_id: str
    file: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetControl:
    """A switch for all workers, such as `halt`; None clears it."""

    key: str
    value: str | None


Write = (
    InsertAlert
    | InsertRecord
    | InsertDeadLetter
    | PutWindow
    | InsertRun
    | ParkRun
    | ReleaseRun
    | SignalRun
    | FinishRun
    | RequestCancel
    | SetPaused
    | ReopenRun
    | PutStep
    | InsertAttempt
    | MoveAttempt
    | JoinQueue
    | CallTurn
    | HoldInstance
    | SweepTurns
    | InsertApproval
    | UpdateApproval
    | InsertPlaybook
    | SetControl
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A worker's claim: refused unless the run is still `running` under this epoch."""

    run_id: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """State changes and the entries that tell of them: all or nothing."""

    writes: tuple[Write, ...] = ()
    entries: tuple[Entry, ...] = ()
    lease: Lease | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionKeys:
    """What intake must know before it can decide on a batch."""

    coordinates: frozenset[str]
    uids: frozenset[tuple[str, str, str]]  # (source, uid, content)
    uids_since: datetime
    windows: frozenset[str]
    now: datetime
    awaited: Callable[[Iterable[str]], set[str]] = lambda _: set()
    """Given the fields that open waits are kept under, the keys of the waits that these alerts may end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store knows of those keys, held still until the admission commits."""

    coordinates: frozenset[str]
    uids: Mapping[tuple[str, str], str]  # (source, uid) -> id of the first alert of that name
    repeats: Mapping[tuple[str, str, str], str]  # (source, uid, content) -> id of the first with that content too
    windows: Mapping[str, Window]
    waits: Sequence[StepRecord] = ()  # open `for_alert` steps of unfinished runs that one of the alerts may end
    suppressions: Sequence[Suppression] = ()  # in the order they were made, those that are over included


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """An alert as lists show it."""

    id: str
    source: str
    title: str
    severity: str
    rule_id: str | None
    rule_name: str | None
    outcome: Outcome
    matches: tuple[AlertMatch, ...]
    time: datetime
    received_at: datetime
    coordinates: str


class Store(KeepsTurns, CountsActions, Ages, Erases, Sends, KnowsKin, Protocol):
    """A durable home for runs and the journal."""

    async def open(self) -> None:
        """Connect and bring the schema up to date; raises `StoreUnavailableError`."""
        ...

    async def close(self) -> None:
        """Finish what is under way and disconnect."""
        ...

    async def now(self) -> datetime | None:
        """What the clock says that all who use this store share; None where that is their machine's."""
        ...

    async def listen(self, woken: Callable[[], None]) -> None:
        """Call `woken` whenever some process made a run ready, as far as the store can tell, until cancelled.

        Polling finds what is ready too, only later.
        """
        ...

    async def commit(self, facts: Sequence[Fact]) -> list[StoreError | None]:
        """Make facts durable, in order; one result per fact, None for success.

        A fact that cannot be written, for whatever reason of its own, is refused alone. Raises
        `StoreUnavailableError`: none was written.
        """
        ...

    async def admit(self, keys: AdmissionKeys, decide: Callable[[Known], Fact]) -> Fact:
        """Read what `keys` ask for, let `decide` (pure, quick) say what to write, write it: one transaction.

        Raises the StoreError that refused the fact, or `StoreUnavailableError`.
        """
        ...

    async def lease(self, *, owner: str, until: datetime, limit: int) -> list[Run]:
        """Take up to `limit` ready runs, most urgent first, but none that is paused or whose lock another holds."""
        ...

    async def renew(self, *, owner: str, leases: Sequence[Lease], until: datetime) -> list[Lease]:
        """Extend leases; returns those that are lost."""
        ...

    async def due(self, now: datetime, limit: int) -> list[Run]:
        """Waiting runs whose time has come."""
        ...

    async def expired_leases(self, now: datetime, limit: int, *, beyond: datetime | None = None) -> list[Run]:
        """Running runs whose lease ended before `now`, or ends after `beyond`, later than any clock like ours gives."""
        ...

    async def due_approvals(self, now: datetime, limit: int) -> list[Approval]:
        """Pending ones past `decide_by` and granted ones past `execute_by`."""
        ...

    async def run(self, run_id: str) -> Run | None:
        """One run."""
        ...

    async def runs(
        self,
        *,
        state: RunState | None = None,
        alert_id: str | None = None,
        parent: tuple[str, str] | None = None,
        playbook_id: str | None = None,
        limit: int = 100,
    ) -> list[Run]:
        """Runs, newest first. `parent` is (run id, path)."""
        ...

    async def steps(self, run_id: str) -> dict[str, StepRecord]:
        """What is recorded of a run's steps, by path."""
        ...

    async def attempts(self, run_id: str) -> list[Attempt]:
        """A run's attempts in order."""
        ...

    async def approval(self, approval_id: str) -> Approval | None:
        """One approval."""
        ...

    async def approvals(
        self, *, state: ApprovalState | None = None, run_id: str | None = None, limit: int = 100
    ) -> list[Approval]:
        """Approvals, newest first."""
        ...

    async def alert(self, alert_id: str) -> Alert | None:
        """One alert's body; None where it does not exist or was erased."""
        ...

    async def alert_documents(self, alert_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """The bodies of alerts as they were admitted, by id; without those that do not exist or were erased."""
        ...

    async def alert_row(self, alert_id: str) -> AlertRow | None:
        """One alert with its outcome."""
        ...

    async def alerts(
        self, *, outcome: Outcome | None = None, source: str | None = None, limit: int = 100
    ) -> list[AlertRow]:
        """Alerts, newest first."""
        ...

    async def dead_letters(self, limit: int = 100, *, before: str | None = None) -> list[DeadLetter]:
        """Records that could not become alerts, newest first; only those whose ids are below `before`, if given."""
        ...

    async def playbook_text(self, digest: str) -> tuple[str, str] | None:
        """(file, text) of a pinned playbook."""
        ...

    async def naming_key(self) -> str:
        """The key, in hex, under which values from alerts have their names; each store has its own for ever."""
        ...

    async def control(self, key: str) -> str | None:
        """A switch's value."""
        ...

    async def suppressions(self) -> list[Suppression]:
        """Those in force and to come, and the lately over, oldest first."""
        ...

    async def counts(self) -> Counts:
        """How much of everything there is."""
        ...

    async def tree(self) -> tuple[int, bytes]:
        """Size and frontier of the journal's tree."""
        ...

    def entries(
        self, *, start: int = 0, run_id: str | None = None, newest: int | None = None
    ) -> AsyncIterator[EntryRow]:
        """Entries in tree order from `start`; of one run; or the `newest` so many (still in tree order)."""
        ...

    async def checkpoints(self, *, newest: int | None = None) -> list[str]:
        """Signed checkpoints, oldest first; or the `newest` so many."""
        ...

    async def add_checkpoint(self, size: int, text: str) -> None:
        """Keep a signed checkpoint."""
        ...

    async def add_cosigned(self, size: int, text: str) -> None:
        """Keep the same checkpoint with its witnesses' lines; `checkpoints` gives this one from then on."""
        ...

    async def cosigned(self) -> str | None:
        """The newest checkpoint that was kept with its witnesses' lines."""
        ...

    async def hashes(self, level: int, start: int, count: int) -> list[bytes]:
        """Nodes of the journal's tree; see `soar.journal.nodes.KeepsNodes`."""
        ...

    async def add_hashes(self, nodes: Mapping[tuple[int, int], bytes]) -> None:
        """Keep nodes above the leaves, all or none; those that are kept already stay."""
        ...
