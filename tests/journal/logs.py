"""Logs of any size: runs of twenty entries, five at a time interleaved, an entry of no run before each round."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.cosignature import Cosigner
from soar.journal.export import Export
from soar.journal.leaf import seal
from soar.journal.merkle import Nodes, nodes_of, root_of
from soar.journal.note import Signature, Signer
from soar.journal.trust import TrustPolicy
from soar.journal.verify import StoredEntry
from soar.journal.witness import add_signatures
from soar.model.entry import Entry, EntryType

ORIGIN = "log.example/journal"
START = datetime(2026, 1, 1, tzinfo=UTC)
LOG = Signer(ORIGIN, bytes(32))
STRANGER = Signer(ORIGIN, bytes([1] * 32))
ROUNDS = 20


class Noon:
    """A clock that stands still."""

    def now(self) -> datetime:
        return START + timedelta(hours=12)


WITNESSES = tuple(Cosigner(f"witness-{number}.example", bytes([2, number] * 16), clock=Noon()) for number in range(3))
POLICY = TrustPolicy.of([LOG.verifier])
WITNESSED = TrustPolicy.of([LOG.verifier], witnesses=[each.verifier for each in WITNESSES], quorum=2)


@dataclass(frozen=True)
class Log:
    """Entries as a store would hold them, and what can be said of them."""

    entries: tuple[StoredEntry, ...]

    @property
    def hashes(self) -> list[bytes]:
        return [each.leaf_hash or b"" for each in self.entries]

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        size = len(self.entries) if size is None else size
        return Checkpoint(ORIGIN, size, root_of(self.hashes[:size]))

    def signed(self, size: int | None = None, signer: Signer = LOG, witnesses: Sequence[Cosigner] = ()) -> str:
        note = sign_checkpoint(self.checkpoint(size), signer)
        for each in witnesses:
            note = cosigned(note, each)
        return note

    def nodes(self) -> Nodes:
        return nodes_of(self.hashes)

    def run(self, name: str) -> list[StoredEntry]:
        return [each for each in self.entries if each.copies["run"] == name]

    def export(
        self, folder: Path, size: int | None = None, *, policy: TrustPolicy = POLICY, payloads: bool = True
    ) -> Path:
        """Write or continue an export up to `size`, witnessed by all."""
        size = len(self.entries) if size is None else size
        export = Export(folder, policy=policy)
        for entry in self.entries[export.size : size]:
            export.take(entry, payload=payloads)
        export.finish(self.signed(size, witnesses=WITNESSES))
        return folder


def cosigned(note: str, witness: Cosigner) -> str:
    """The checkpoint with this witness's line."""
    text = f"{note.rpartition(chr(10) * 2)[0]}\n".encode()
    return add_signatures(note, str(Signature(witness.name, witness.key_id, witness.sign(text))), [witness.verifier])


def facts(size: int) -> Iterator[Entry]:
    """Entries in log order; every third has no payload."""
    for number in range(size):
        lane, round_number = number % 6, number // 6
        run = f"run-{lane}-{round_number // ROUNDS}" if lane else None
        kind = EntryType.STEP_FINISHED if run else EntryType.ALERT_ADMITTED
        if run and round_number % ROUNDS == ROUNDS - 1:
            kind = EntryType.RUN_FINISHED
        yield Entry(
            id=f"entry-{number}",
            type=kind,
            at=START + timedelta(seconds=number),
            actor="worker:a",
            run_id=run,
            subject=run or f"alert-{round_number}",
            data={"number": number, "text": 'é "\n', "last": False},
            payload={"host": f"pc-{number}", "who": "søren"} if number % 3 else None,
        )


def sealed(entries: Iterator[Entry]) -> Iterator[StoredEntry]:
    """As a store would keep them, with salts that are the same in every run of the tests."""
    chains: dict[str, tuple[int, str]] = {}
    for index, entry in enumerate(entries):
        sequence, previous = chains.get(entry.run_id or "", (0, ""))
        leaf, hashed, salt, payload = seal(
            entry, run_seq=sequence, run_prev=previous, salt_source=lambda count, index=index: index.to_bytes(count)
        )
        if entry.run_id:
            chains[entry.run_id] = (sequence + 1, hashed.hex())
        copies = {"id": entry.id, "type": str(entry.type), "run": entry.run_id}
        yield StoredEntry(index=index, leaf=leaf, leaf_hash=hashed, salt=salt, payload=payload, copies=copies)


def make_log(size: int) -> Log:
    """A log of so many entries."""
    return Log(tuple(sealed(facts(size))))
