"""Proofs that stand alone: one entry (c2sp.org/tlog-proof), or one whole run as one file.

A proof is checked before it is handed out, so hashes that a store keeps for speed need not be believed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from soar.errors import JournalError
from soar.journal.checkpoint import Checkpoint
from soar.journal.leaf import keeps_promise, parse_leaf
from soar.journal.merkle import HASH_BYTES, Nodes, inclusion_proof, leaf_hash, verify_inclusion
from soar.journal.tiles import Tile, nodes_in_tiles
from soar.journal.trust import Trusted, TrustPolicy, claimed
from soar.journal.verify import StoredEntry

ENTRY_PROOF = "c2sp.org/tlog-proof@v1"
RUN_PROOF = "soar.run-proof/v1"


@dataclass(frozen=True, slots=True)
class EntryProof:
    """That `leaf` is entry `index` of the log whose signed checkpoint is `note`.

    As text it is a tlog-proof; the leaf goes along as its extra data, so that one file says it all.
    """

    index: int
    leaf: bytes
    hashes: tuple[bytes, ...]
    note: str

    def verify(self, policy: TrustPolicy) -> Trusted:
        """Check signatures and inclusion; raises JournalError."""
        trusted = policy.open(self.note)
        parse_leaf(self.leaf)
        _check_inclusion(self.index, self.leaf, self.hashes, trusted.checkpoint)
        return trusted

    def to_text(self) -> str:
        """The proof as a file, by custom named `.tlog-proof`."""
        lines = [ENTRY_PROOF, f"extra {_encode(self.leaf)}", f"index {self.index}", *map(_encode, self.hashes), ""]
        return "\n".join([*lines, self.note])

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The inverse of `to_text`; raises JournalError for any other spelling."""
        head, _, note = text.partition("\n\n")
        try:
            version, extra, index, *hashes = head.split("\n")
            proof = cls(
                int(index.removeprefix("index ")),
                base64.b64decode(extra.removeprefix("extra ")),
                tuple(map(base64.b64decode, hashes)),
                note,
            )
        except ValueError as error:
            raise JournalError(f"not a proof of an entry: {error}") from error
        if version != ENTRY_PROOF or proof.to_text() != text:
            raise JournalError(f"not a proof of an entry in the form {ENTRY_PROOF} with the entry as extra data")
        return proof


def prove_entry(index: int, leaf: bytes, *, note: str, nodes: Nodes) -> EntryProof:
    """Prove an entry under a signed checkpoint; raises JournalError where these nodes do not."""
    checkpoint = claimed(note)
    proof = EntryProof(index, leaf, tuple(inclusion_proof(index, checkpoint.size, nodes)), note)
    _check_inclusion(index, leaf, proof.hashes, checkpoint)
    return proof


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """An entry of a proven run: its leaf's fields, and its payload where the proof has it."""

    index: int
    leaf: bytes
    fields: dict[str, Any]
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class ProvenRun:
    """A run from its first entry on, none left out.

    `ended` says whether the last entry tells of the run's end. No proof can show that nothing came after it.
    """

    run: str
    entries: tuple[ProvenEntry, ...]
    trusted: Trusted
    ended: bool


def prove_run(entries: Sequence[StoredEntry], *, note: str, nodes: Nodes) -> str:
    """A run's entries with their proofs as one JSON text; those payloads go along that the entries hold.

    Raises JournalError where the entries are not one run from its first entry on, or not under the checkpoint.
    """
    checkpoint = claimed(note)
    told = []
    for entry in entries:
        proof = prove_entry(entry.index, entry.leaf, note=note, nodes=nodes)
        told.append(
            {"index": entry.index, "leaf": entry.leaf.decode(), "proof": [_encode(each) for each in proof.hashes]}
        )
        if entry.salt is not None and entry.payload is not None:
            told[-1] |= {"salt": entry.salt.hex(), "payload": entry.payload.decode()}
    proven = [_proven(each, checkpoint) for each in told]
    run, _ = _chain(proven)
    document = {"format": RUN_PROOF, "run": run, "checkpoint": note, "entries": told}
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def verify_run(text: str, policy: TrustPolicy) -> ProvenRun:
    """Check a run's proof: signatures, every entry, the run's chain, every payload; raises JournalError."""
    try:
        document = json.loads(text)
        if document["format"] != RUN_PROOF:
            raise JournalError(f"not a proof of a run in the form {RUN_PROOF}: {document['format']!r:.80}")
        trusted = policy.open(document["checkpoint"])
        proven = [_proven(each, trusted.checkpoint) for each in document["entries"]]
        named = document["run"]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise JournalError(f"not a proof of a run: {error!r:.200}") from error
    run, ended = _chain(proven)
    if run != named:
        raise JournalError(f"the proof calls the run {named!r:.80}, its entries {run!r:.80}")
    return ProvenRun(run, tuple(proven), trusted, ended)


def tiles_needed(size: int, make: Callable[[Nodes], object]) -> list[Tile]:
    """The tiles of a tree of `size` entries that `make`, which makes a proof, will ask for; each once."""
    needed: dict[Tile, None] = {}

    def read(tile: Tile) -> bytes:
        needed[tile] = None
        return bytes(tile.width * HASH_BYTES)

    make(nodes_in_tiles(size, read))
    return list(needed)


async def read_nodes(size: int, make: Callable[[Nodes], object], read: Callable[[Tile], Awaitable[bytes]]) -> Nodes:
    """What `make` needs of a tree whose tiles must be waited for."""
    held = {tile: await read(tile) for tile in tiles_needed(size, make)}
    return nodes_in_tiles(size, held.__getitem__)


def _proven(told: dict[str, Any], checkpoint: Checkpoint) -> ProvenEntry:
    index, leaf = told["index"], told["leaf"].encode()
    fields = parse_leaf(leaf)
    _check_inclusion(index, leaf, [base64.b64decode(each, validate=True) for each in told["proof"]], checkpoint)
    if "payload" not in told:
        return ProvenEntry(index, leaf, fields, None)
    payload = told["payload"].encode()
    if not keeps_promise(fields.get("payload", ""), bytes.fromhex(told["salt"]), payload):
        raise JournalError(f"the payload of entry {index} is not the one that was recorded", index)
    return ProvenEntry(index, leaf, fields, payload)


def _chain(entries: Iterable[ProvenEntry]) -> tuple[str, bool]:
    """The run that these entries are, and whether the last of them ends it; raises JournalError for a gap."""
    run, previous, kind = None, "", ""
    for number, entry in enumerate(entries):
        fields = entry.fields
        run = fields.get("run") if run is None else run
        if run is None or (fields.get("run"), fields.get("run_seq"), fields.get("run_prev")) != (run, number, previous):
            raise JournalError(f"entry {entry.index} is not number {number} of run {run!r:.80}", entry.index)
        previous, kind = leaf_hash(entry.leaf).hex(), fields["type"]
    if run is None:
        raise JournalError("a run has entries")
    return str(run), kind == "run.finished"


def _check_inclusion(index: int, leaf: bytes, hashes: Sequence[bytes], checkpoint: Checkpoint) -> None:
    verify_inclusion(index=index, size=checkpoint.size, leaf=leaf_hash(leaf), root=checkpoint.root, proof=list(hashes))


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
