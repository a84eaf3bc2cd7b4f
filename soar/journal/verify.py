"""Does this journal verify? One pass over its entries and checkpoints.

Memory is bounded by the number of runs in the log (about 250 bytes each: a finished run may be retried and then
continues its chain), not by its entries.
"""

from __future__ import annotations

import contextlib
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint, open_checkpoint
from soar.journal.leaf import keeps_promise, parse_leaf
from soar.journal.merkle import Frontier, leaf_hash
from soar.journal.note import Verifier, Verifies, open_note
from soar.journal.standing import Continuation, continues
from soar.journal.trust import claimed

PROBLEMS_MAX = 20
PAYLOAD_ERASED = "payload.erased"
"""The type of the entry that accounts for a payload that is gone; its `subject` is the id of that payload's entry."""
KEY_ROTATED = "journal.key_rotated"
"""The type of the entry in which the key `old` hands over to the key `new`; see `soar.journal.rotation`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """An entry as some store holds it: everything here is claimed, nothing believed.

    `leaf_hash` is the stored hash, where the store keeps one. `copies` are values kept beside the leaf under the
    leaf's own field names (None: the leaf has no such field), so that an index column cannot tell another story.
    `payload_erased` says that nothing is claimed of the payload: an export holds those that were asked for.
    """

    index: int
    leaf: bytes
    leaf_hash: bytes | None = None
    salt: bytes | None = None
    payload: bytes | None = None
    payload_erased: bool = False
    copies: Mapping[str, str | int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that does not verify; `index` is the first entry that it concerns, None if it concerns none."""

    index: int | None
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a verification found. `problems` are those of the lowest indexes, in order, at most `PROBLEMS_MAX`."""

    entries: int
    erased: int  # payloads that are gone by a recorded erasure, or not claimed; their entries still count and verify
    checkpoints: int  # whose signature and root are right
    covered: int  # entries that stand under such a checkpoint
    size: int  # of the recomputed tree
    root: bytes
    problems: tuple[Problem, ...]
    problem_count: int
    continued: tuple[Continuation, ...] = ()  # where the log took a new name, after others had seen what it lost

    @property
    def ok(self) -> bool:
        """Whether nothing at all is wrong."""
        return not self.problem_count

    @property
    def exposed(self) -> int:
        """Entries under no good checkpoint: their order and existence rest on the store's word alone."""
        return self.entries - self.covered

    @property
    def first_bad(self) -> int | None:
        """The lowest index known to be bad, None if there is none."""
        return next((each.index for each in self.problems if each.index is not None), None)


def verify_log(
    entries: Iterable[StoredEntry],
    checkpoints: Iterable[str],
    *,
    origin: str,
    verifiers: Iterable[Verifies],
    key: Verifies | None = None,
    tree_size: int | None = None,
    frontier: Frontier | None = None,
) -> Report:
    """Verify entries in index order against checkpoints in size order; finds everything, raises nothing of its own.

    `tree_size` and `frontier` are what the store claims about its tree, checked where given; for `key`, see `LogCheck`.
    """
    check = LogCheck(checkpoints, origin=origin, verifiers=verifiers, key=key)
    for entry in entries:
        check.take(entry)
    return check.finish(tree_size=tree_size, frontier=frontier)


class LogCheck:
    """The same verification, entry by entry, for callers whose entries arrive asynchronously.

    Where a key among `verifiers` hands over to another, checkpoints from there on are held to that one, and where the
    log takes a new name, to that name: `origin` is the one that it begins with; None takes any that a verifier has.
    `key`, if given, must be among the keys that signed: who believes it alone may begin with an older one that leads
    to it.
    """

    def __init__(
        self,
        checkpoints: Iterable[str],
        *,
        origin: str | None,
        verifiers: Iterable[Verifies],
        key: Verifies | None = None,
    ) -> None:
        self._findings = _Findings()
        self._key = key
        self._signed = _Signed(checkpoints, origin, tuple(verifiers), self._findings)
        self._chains: dict[str, tuple[int, bytes]] = {}  # run -> run_seq and leaf hash of its latest entry
        self._frontier = Frontier()
        self._expected = 0  # the next index
        self._entries = 0
        self._erased = 0
        self._missing: dict[str, tuple[int, str]] = {}  # entry whose payload is gone -> its index and type, until told

    def take(self, entry: StoredEntry) -> None:
        """Check the next entry."""
        self._entries += 1
        if not self._in_order(entry.index):
            return
        self._signed.reach(self._expected, self._frontier)
        self._expected = entry.index + 1
        try:
            fields = parse_leaf(entry.leaf)
        except JournalError as error:
            self._findings.add(entry.index, f"entry {entry.index}: {error}")
            if isinstance(entry.leaf, bytes):
                self._frontier = self._frontier.append(leaf_hash(entry.leaf))
            return
        computed = leaf_hash(entry.leaf)
        self._frontier = self._frontier.append(computed)
        for message in (
            *_hash_problems(entry, computed),
            *_copy_problems(entry, fields),
            *self._chain_problems(fields, computed),
            *_payload_problems(entry, fields),
        ):
            self._findings.add(
                entry.index, f"entry {entry.index} ({fields['type']:.80}, {fields['id']:.80}): {message}"
            )
        self._erased += entry.payload_erased
        self._account(entry, fields)

    def take_later(self, entry: StoredEntry) -> None:
        """An entry beyond the tree that is verified: only whether it tells of a payload that is gone already."""
        with contextlib.suppress(JournalError):  # the next verification, which covers it, says so
            self._erasure(parse_leaf(entry.leaf))

    def finish(self, *, tree_size: int | None = None, frontier: Frontier | None = None) -> Report:
        """Check what only the end can tell, and report."""
        self._signed.reach(self._expected, self._frontier)
        self._signed.rest(self._expected)
        if self._key is not None and str(self._key) not in self._signed.keys:
            self._findings.add(None, f"no key that signed this journal hands over to {self._key}")
        for name, (index, kind) in self._missing.items():
            self._findings.add(index, f"entry {index} ({kind:.80}, {name:.80}): its payload is missing")
        if tree_size is not None and tree_size != self._expected:
            self._findings.add(
                min(tree_size, self._expected), f"the tree claims {tree_size} entries, the log ends at {self._expected}"
            )
        if frontier is not None and frontier != self._frontier:
            self._findings.add(
                self._findings.first_from(self._signed.good),
                f"the stored frontier has size {frontier.size} and root {frontier.root().hex()},"
                f" the entries give size {self._frontier.size} and root {self._frontier.root().hex()}",
            )
        return Report(
            entries=self._entries,
            erased=self._erased,
            checkpoints=self._signed.count,
            covered=self._signed.good,
            size=self._frontier.size,
            root=self._frontier.root(),
            problems=tuple(self._findings.kept),
            problem_count=self._findings.count,
            continued=tuple(self._signed.continued),
        )

    def _account(self, entry: StoredEntry, fields: Mapping[str, Any]) -> None:
        """What an entry means for those around it: payloads that are gone, and the key that signs from here on.

        An erasure is told after the entry whose payload is gone, so one pass is enough.
        """
        self._erasure(fields)
        self._signed.heed(entry.index, fields)
        if "payload" in fields and entry.salt is None and entry.payload is None and not entry.payload_erased:
            self._missing[fields["id"]] = (entry.index, fields["type"])

    def _erasure(self, fields: Mapping[str, Any]) -> None:
        if fields["type"] == PAYLOAD_ERASED:
            self._erased += self._missing.pop(fields["subject"], None) is not None

    def _in_order(self, index: int) -> bool:
        """Whether this is a new entry. A gap is reported and stepped over, a repeated index is left out."""
        if index < self._expected:
            self._findings.add(index, f"entry {index} appears twice or out of order, after entry {self._expected - 1}")
            return False
        if index > self._expected:
            self._findings.add(self._expected, f"entries {self._expected} to {index - 1} are missing")
        return True

    def _chain_problems(self, fields: Mapping[str, Any], computed: bytes) -> Iterator[str]:
        run = fields.get("run")
        if run is None:
            return
        sequence, previous = self._chains.get(run, (-1, b""))
        self._chains[run] = (fields["run_seq"], computed)
        if fields["run_seq"] != sequence + 1:
            yield f"it is number {fields['run_seq']} of run {run:.80}, where number {sequence + 1} was due"
        elif fields["run_prev"] != previous.hex():
            yield f"it does not continue run {run:.80}: it names another entry as the one before it"


def with_kept(checkpoints: Iterable[str], kept: Iterable[str]) -> Iterator[str]:
    """A store's checkpoints, in size order, with those among them that were kept elsewhere."""
    waiting = sorted(kept, key=_claimed_size, reverse=True)
    for text in checkpoints:
        while waiting and _claimed_size(waiting[-1]) <= _claimed_size(text):
            yield waiting.pop()
        yield text
    yield from reversed(waiting)


def _claimed_size(text: str) -> int:
    """For the order alone; what is no checkpoint is reported when its turn comes."""
    try:
        return claimed(text).size
    except JournalError:
        return 0


class _Findings:
    """Problems as they are found: all counted, those of the lowest indexes kept, in order."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: list[Problem] = []

    def add(self, index: int | None, message: str) -> None:
        self.count += 1
        insort(self.kept, Problem(index, message), key=_position)
        del self.kept[PROBLEMS_MAX:]

    def first_from(self, index: int) -> int:
        """The lowest index at or after `index` already known to be bad, else `index` itself."""
        return next((each.index for each in self.kept if each.index is not None and each.index >= index), index)


def _position(problem: Problem) -> float:
    return float("inf") if problem.index is None else problem.index


@dataclass(frozen=True, slots=True)
class _Handover:
    """A key that an entry names as the one to follow; it does from the first checkpoint that both sign."""

    index: int
    old: Verifier
    new: Verifier
    continuation: Continuation | None = None


class _Signed:
    """The checkpoints, met one by one as the tree grows to their size."""

    def __init__(
        self, texts: Iterable[str], origin: str | None, verifiers: tuple[Verifies, ...], findings: _Findings
    ) -> None:
        self.count = 0
        self.good = 0  # the size of the largest checkpoint whose root is right
        self.continued: list[Continuation] = []
        self._failed = False  # a wrong root makes every later one wrong; the first says it all
        self._findings = findings
        self._origin = origin
        self._verifiers = verifiers
        self.keys = {str(each) for each in verifiers}  # all that were believed so far
        self._handover: _Handover | None = None
        self._claims = self._in_order(texts)
        self._next = next(self._claims, None)

    def heed(self, index: int, fields: Mapping[str, Any]) -> None:
        """An entry may name the key, and the name, that follow ours."""
        with contextlib.suppress(JournalError):  # an entry that names no key hands over to none
            if fields["type"] == KEY_ROTATED:
                old, new = (Verifier.from_text(str(fields["data"].get(name))) for name in ("old", "new"))
                if self._believed(old) and old.name == new.name:
                    self._handover = _Handover(index, old, new)
            elif (told := continues(fields, index=index, kept=self.good)) is not None and self._believed(told.old):
                self._handover = _Handover(index, told.old, told.new, told)

    def reach(self, size: int, frontier: Frontier) -> None:
        """Check every checkpoint up to `size`, which is the end of the entries read so far."""
        while self._next is not None and self._next[1] <= size:
            self._judge(*self._next, frontier)
            self._next = next(self._claims, None)

    def rest(self, size: int) -> None:
        """Report checkpoints over more entries than there are."""
        largest = 0
        while self._next is not None:
            checkpoint = self._opened(self._next[0], self._next[2])
            largest = max(largest, checkpoint.size if checkpoint else 0)
            self._next = next(self._claims, None)
        if largest:
            self._findings.add(
                size, f"entries {size} to {largest - 1} are missing: a checkpoint was signed over {largest} entries"
            )

    def _judge(self, number: int, size: int, text: str, frontier: Frontier) -> None:
        self._follow(size, text)
        checkpoint = self._opened(number, text)
        if checkpoint is None:
            return
        root = checkpoint.root
        if frontier.size == size and frontier.root() == root:
            self.count += 1
            self.good = max(self.good, size)
        elif not self._failed:
            self._failed = True
            self._findings.add(
                self._findings.first_from(self.good),
                f"entries {self.good} to {size - 1} are not what was signed: the checkpoint over {size} entries"
                f" has root {root.hex()}, the entries give {frontier.root().hex()}",
            )

    def _follow(self, size: int, text: str) -> None:
        found = self._handover
        if found is None or size <= found.index:
            return
        with contextlib.suppress(JournalError):  # the old key still signs alone
            open_checkpoint(text, [found.new])
            open_note(text, [found.old])
            self._handover = None
            self._origin = self._origin and found.new.name
            self._verifiers = (*(each for each in self._verifiers if str(each) != str(found.old)), found.new)
            self.keys.add(str(found.new))
            if found.continuation is not None:
                self.continued.append(found.continuation)

    def _believed(self, key: Verifier) -> bool:
        return any(str(each) == str(key) for each in self._verifiers)

    def _opened(self, number: int, text: str) -> Checkpoint | None:
        """The checkpoint, if it is signed and ours."""
        try:
            checkpoint = open_checkpoint(text, self._verifiers)
        except JournalError as error:
            self._findings.add(None, f"checkpoint {number}: {error}")
            return None
        if self._origin not in {None, checkpoint.origin}:
            self._findings.add(None, f"checkpoint {number} is of the log {checkpoint.origin!r}, not {self._origin!r}")
            return None
        return checkpoint

    def _in_order(self, texts: Iterable[str]) -> Iterator[tuple[int, int, str]]:
        """Number, size and text of each checkpoint that a key of ours signed, under whatever name."""
        last = 0
        for number, text in enumerate(texts, start=1):
            try:
                open_note(text, self._verifiers)
                size = claimed(text).size
            except JournalError as error:
                self._findings.add(None, f"checkpoint {number}: {error}")
                continue
            if size < last:
                self._findings.add(None, f"checkpoint {number} (size {size}) comes after one of size {last}")
            else:
                last = size
                yield number, size, text


def _hash_problems(entry: StoredEntry, computed: bytes) -> Iterator[str]:
    if entry.leaf_hash is not None and entry.leaf_hash != computed:
        yield "its bytes are not those of its stored hash"


def _copy_problems(entry: StoredEntry, fields: Mapping[str, Any]) -> Iterator[str]:
    for name, value in entry.copies.items():
        if fields.get(name) != value:
            yield f"the store says {name} {value!r:.80}, the leaf {fields.get(name)!r:.80}"


def _payload_problems(entry: StoredEntry, fields: Mapping[str, Any]) -> Iterator[str]:
    salt, payload = entry.salt, entry.payload
    promised = fields.get("payload")
    if promised is None:
        if salt is not None or payload is not None or entry.payload_erased:
            yield "it has a payload beside it that its leaf does not name"
    elif entry.payload_erased:
        if salt is not None or payload is not None:
            yield "its payload is called erased, but is not gone"
    elif salt is None and payload is None:
        return  # an erasure may tell of it further on
    elif salt is None or payload is None:
        yield "its payload is missing"
    elif not keeps_promise(promised, salt, payload):
        yield "its payload is not the one that was recorded"
