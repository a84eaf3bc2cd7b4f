"""Whom an auditor trusts: which log keys, which witnesses, and how many of them (c2sp.org/tlog-policy).

    log <verifier key> [<url>]
    witness <name> <verifier key> [<url>]
    group <name> any|all|<k> <witness or group>...
    quorum none|<witness or group>

A policy must reach the auditor by another way than the log that it judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint, open_checkpoint
from soar.journal.cosignature import CosignatureVerifier, cosigned_at
from soar.journal.note import Verifier, open_note

NOBODY = "none"


@dataclass(frozen=True, slots=True)
class Group:
    """Witnessed where at least `threshold` of its members are: witnesses or groups."""

    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trusted:
    """A checkpoint that a policy accepts, and when which of its witnesses cosigned it."""

    checkpoint: Checkpoint
    witnessed: Mapping[str, datetime]


@dataclass(frozen=True, kw_only=True)
class TrustPolicy:
    """A checkpoint is good where one of `logs` signed it and `quorum` witnessed it."""

    logs: tuple[Verifier, ...]
    witnesses: Mapping[str, CosignatureVerifier] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    quorum: str = NOBODY

    @classmethod
    def of(cls, logs: Iterable[Verifier], *, witnesses: Iterable[CosignatureVerifier] = (), quorum: int = 0) -> Self:
        """The plain case: any `quorum` of these witnesses; raises JournalError where there are fewer."""
        named = {each.name: each for each in witnesses}
        if not 0 <= quorum <= len(named):
            raise JournalError(f"a quorum of {quorum} cannot be had from {len(named)} witnesses")
        if not quorum:
            return cls(logs=tuple(logs), witnesses=named)
        groups = {"quorum-of-witnesses": Group(quorum, tuple(named))}
        return cls(logs=tuple(logs), witnesses=named, groups=groups, quorum="quorum-of-witnesses")

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a policy file; raises JournalError naming the line that is wrong."""
        reading = _Reading()
        for number, line in enumerate(text.split("\n"), start=1):
            words = line.replace("\t", " ").split()
            if words and not words[0].startswith("#"):
                try:
                    reading.take(*words)
                except (JournalError, TypeError) as error:
                    wrong = str(error) if isinstance(error, JournalError) else "it has too few or too many words"
                    raise JournalError(f"trust policy, line {number}: {wrong}: {line!r:.200}") from error
        if reading.quorum is None:
            raise JournalError("trust policy: it has no quorum line; say `quorum none` to ask for no witness")
        return cls(logs=tuple(reading.logs), witnesses=reading.witnesses, groups=reading.groups, quorum=reading.quorum)

    def to_text(self) -> str:
        """The policy as a file."""
        lines = [f"log {each}" for each in self.logs]
        lines += [f"witness {name} {each}" for name, each in self.witnesses.items()]
        lines += [f"group {name} {each.threshold} {' '.join(each.members)}" for name, each in self.groups.items()]
        return "\n".join([*lines, f"quorum {self.quorum}", ""])

    def open(self, note: str) -> Trusted:
        """Check a signed checkpoint; raises JournalError where log or witnesses do not vouch for it."""
        checkpoint = open_checkpoint(note, self.logs)
        by_key = {(each.name, each.key_id): name for name, each in self.witnesses.items()}
        verified = open_note(note, [*self.logs, *self.witnesses.values()]).verified
        witnessed = {
            by_key[each.name, each.key_id]: cosigned_at(each.signature)
            for each in verified
            if (each.name, each.key_id) in by_key
        }
        if not self._holds(self.quorum, witnessed):
            raise JournalError(
                f"the checkpoint of {checkpoint.origin!r} over {checkpoint.size} entries lacks the quorum"
                f" {self.quorum!r}; it was witnessed by {', '.join(sorted(witnessed)) or 'nobody that we know'}"
            )
        return Trusted(checkpoint, witnessed)

    def _holds(self, name: str, witnessed: Mapping[str, datetime]) -> bool:
        if name == NOBODY or name in witnessed:
            return True
        group = self.groups.get(name)
        return group is not None and sum(self._holds(each, witnessed) for each in group.members) >= group.threshold


def claimed(note: str) -> Checkpoint:
    """What a signed checkpoint claims, believed by nobody yet; raises JournalError where it is none."""
    return Checkpoint.from_text(f"{note.rpartition(chr(10) * 2)[0]}\n")


class _Reading:
    """A policy file as far as it was read. A name must stand before it is used, so no group contains itself."""

    def __init__(self) -> None:
        self.logs: list[Verifier] = []
        self.witnesses: dict[str, CosignatureVerifier] = {}
        self.groups: dict[str, Group] = {}
        self.quorum: str | None = None
        self._placed: set[str] = set()

    def take(self, keyword: str, *words: str) -> None:
        readers: dict[str, Callable[..., None]] = {
            "log": self._log,
            "witness": self._witness,
            "group": self._group,
            "quorum": self._quorum,
        }
        if keyword not in readers:
            raise JournalError(f"a line begins with {', '.join(readers)}, not {keyword!r}")
        readers[keyword](*words)

    def _log(self, key: str, _url: str = "") -> None:
        verifier = Verifier.from_text(key)
        if any(each.public_key == verifier.public_key for each in self.logs):
            raise JournalError("this log key stands here twice")
        self.logs.append(verifier)

    def _witness(self, name: str, key: str, _url: str = "") -> None:
        verifier = CosignatureVerifier.from_text(key)
        if any(each.public_key == verifier.public_key for each in self.witnesses.values()):
            raise JournalError("this witness key stands here twice")
        self.witnesses[self._new(name)] = verifier

    def _group(self, name: str, threshold: str, *members: str) -> None:
        for member in members:
            if self._known(member) in self._placed:
                raise JournalError(f"{member!r} is a member twice; each counts once")
            self._placed.add(member)
        number = {"any": "1", "all": str(len(members))}.get(threshold, threshold)
        if not (number.isascii() and number.isdecimal() and 1 <= int(number) <= len(members)):
            raise JournalError(f"of {len(members)} members, {threshold!r} cannot be asked for")
        self.groups[self._new(name)] = Group(int(number), members)

    def _quorum(self, name: str) -> None:
        if self.quorum is not None:
            raise JournalError("a policy has one quorum line")
        self.quorum = name if name == NOBODY else self._known(name)

    def _new(self, name: str) -> str:
        if name == NOBODY or name in self.witnesses or name in self.groups:
            raise JournalError(f"the name {name!r} is taken")
        return name

    def _known(self, name: str) -> str:
        if name not in self.witnesses and name not in self.groups:
            raise JournalError(f"no line above defines {name!r}")
        return name
