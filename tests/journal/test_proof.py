"""Proofs that stand alone: what they prove, and that a changed one proves nothing."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from soar.errors import JournalError
from soar.journal.folder import ExportFolder
from soar.journal.merkle import consistency_proof, inclusion_proof, leaf_hash
from soar.journal.proof import EntryProof, prove_entry, prove_run, read_nodes, tiles_needed, verify_run
from soar.journal.tiles import Tile, nodes_in_tiles

from .logs import LOG, POLICY, STRANGER, WITNESSED, WITNESSES, Log, make_log

SIZE = 700
RUN = "run-2-3"


@pytest.fixture(scope="module")
def log() -> Log:
    return make_log(SIZE)


@pytest.fixture(scope="module")
def run_proof(log: Log) -> str:
    return prove_run(log.run(RUN), note=log.signed(witnesses=WITNESSES), nodes=log.nodes())


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, SIZE])
@pytest.mark.parametrize("end", [0, 0.5, 1])
def test_an_entry_is_proven_by_one_text(log: Log, size: int, end: float) -> None:
    index = int((size - 1) * end)
    leaf = log.entries[index].leaf
    text = prove_entry(index, leaf, note=log.signed(size, witnesses=WITNESSES), nodes=log.nodes()).to_text()
    proof = EntryProof.from_text(text)
    trusted = proof.verify(WITNESSED)
    assert (proof.index, proof.leaf, trusted.checkpoint.size) == (index, leaf, size)


def test_the_text_is_laid_out_as_the_standard_says(log: Log) -> None:
    proof = prove_entry(1, log.entries[1].leaf, note=log.signed(3), nodes=log.nodes())
    head, _, rest = proof.to_text().partition("\n\n")
    hashes = [log.hashes[0], log.hashes[2]]
    extra = base64.b64encode(log.entries[1].leaf).decode()
    expected = ["c2sp.org/tlog-proof@v1", f"extra {extra}", "index 1", *(base64.b64encode(h).decode() for h in hashes)]
    assert head.split("\n") == expected
    assert rest == log.signed(3)


def test_a_proof_with_any_byte_changed_proves_nothing(log: Log) -> None:
    policy = replace(WITNESSED, groups={}, quorum=WITNESSES[0].name)
    note = log.signed(20, witnesses=WITNESSES[:1])
    raw = prove_entry(7, log.entries[7].leaf, note=note, nodes=log.nodes()).to_text().encode()
    EntryProof.from_text(raw.decode()).verify(policy)
    for at in range(len(raw)):
        changed = bytearray(raw)
        changed[at] ^= 1 << at % 7
        with pytest.raises((JournalError, UnicodeDecodeError)):
            EntryProof.from_text(changed.decode()).verify(policy)


def test_no_proof_is_handed_out_that_would_not_verify(log: Log) -> None:
    """Whatever hashes a store kept for speed."""
    note, nodes = log.signed(), log.nodes()
    with pytest.raises(JournalError, match="does not show entry 5"):
        prove_entry(5, log.entries[5].leaf, note=note, nodes=lambda level, index: bytes(32))
    with pytest.raises(JournalError, match="does not show entry 5"):
        prove_entry(5, log.entries[6].leaf, note=note, nodes=nodes)
    with pytest.raises(JournalError, match="entry 700 is not in a tree of 700"):
        prove_entry(SIZE, log.entries[6].leaf, note=note, nodes=nodes)


def test_a_proof_is_worth_what_its_signatures_are(log: Log) -> None:
    leaf = log.entries[5].leaf
    with pytest.raises(JournalError, match="no key that we know"):
        prove_entry(5, leaf, note=log.signed(signer=STRANGER), nodes=log.nodes()).verify(POLICY)
    with pytest.raises(JournalError, match="lacks the quorum"):
        prove_entry(5, leaf, note=log.signed(), nodes=log.nodes()).verify(WITNESSED)


@pytest.mark.parametrize("text", ["", "c2sp.org/tlog-proof@v1\n", "c2sp.org/tlog-proof@v1\nextra !\nindex x\n\n\n"])
def test_what_is_no_proof_is_refused(text: str) -> None:
    with pytest.raises(JournalError, match="not a proof"):
        EntryProof.from_text(text)


# A whole run.


def test_a_run_is_proven_by_one_file(log: Log, run_proof: str) -> None:
    proven = verify_run(run_proof, WITNESSED)
    entries = log.run(RUN)
    assert proven.run == RUN
    assert proven.ended
    assert [each.index for each in proven.entries] == [each.index for each in entries]
    assert [each.payload for each in proven.entries] == [each.payload for each in entries]
    assert [each.fields["run_seq"] for each in proven.entries] == list(range(20))
    assert set(proven.trusted.witnessed) == {each.name for each in WITNESSES}


def test_a_run_is_proven_without_its_payloads(log: Log) -> None:
    entries = [replace(each, salt=None, payload=None) for each in log.run(RUN)]
    text = prove_run(entries, note=log.signed(), nodes=log.nodes())
    assert "pc-" not in text
    assert all(each.payload is None for each in verify_run(text, POLICY).entries)


def test_a_run_that_goes_on_is_told_from_one_that_ended(log: Log) -> None:
    text = prove_run(log.run(RUN)[:10], note=log.signed(), nodes=log.nodes())
    assert not verify_run(text, POLICY).ended


@pytest.mark.parametrize(
    ("left_out", "said"), [(0, "is not number 0 of run"), (10, "is not number 10"), (slice(0, 20), "a run has entries")]
)
def test_a_run_with_an_entry_left_out_is_no_proof(log: Log, run_proof: str, left_out: Any, said: str) -> None:
    document = json.loads(run_proof)
    del document["entries"][left_out]
    with pytest.raises(JournalError, match=said):
        verify_run(json.dumps(document), WITNESSED)
    entries = log.run(RUN)
    del entries[left_out]
    with pytest.raises(JournalError, match=said):
        prove_run(entries, note=log.signed(), nodes=log.nodes())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("format",), "soar.run-proof/v0"),
        (("run",), "run-2-4"),
        (("checkpoint",), ""),
        (("entries",), {}),
        (("entries", 3, "index"), 20),
        (("entries", 3, "index"), "a"),
        (("entries", 3, "leaf"), "{}"),
        (("entries", 3, "proof"), []),
        (("entries", 3, "proof", 0), "AAAA"),
        (("entries", 4, "payload"), "{}"),
        (("entries", 4, "salt"), "00"),
        (("entries", 4, "salt"), 0),
    ],
)
def test_a_changed_file_proves_nothing(run_proof: str, place: tuple[Any, ...], value: Any) -> None:
    document = json.loads(run_proof)
    *way, last = place
    inner = document
    for step in way:
        inner = inner[step]
    assert inner[last] != value
    inner[last] = value
    with pytest.raises(JournalError):
        verify_run(json.dumps(document), WITNESSED)


def test_entries_of_two_runs_are_no_run(log: Log, run_proof: str) -> None:
    document = json.loads(run_proof)
    other = json.loads(prove_run(log.run("run-1-3"), note=log.signed(), nodes=log.nodes()))
    document["entries"][5] = other["entries"][5]
    with pytest.raises(JournalError, match="is not number 5 of run 'run-2-3'"):
        verify_run(json.dumps(document), WITNESSED)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}'])
def test_what_is_no_run_proof_is_refused(text: str) -> None:
    with pytest.raises(JournalError, match="not a proof of a run"):
        verify_run(text, POLICY)


# From tiles, as a store or an export has them.


@pytest.mark.parametrize("size", [1, 255, 256, 257, SIZE])
def test_only_the_tiles_on_the_way_are_read(log: Log, tmp_path: Path, size: int) -> None:
    folder = ExportFolder(log.export(tmp_path, size))
    index = size // 2
    needed = tiles_needed(size, lambda nodes: inclusion_proof(index, size, nodes))
    assert len(needed) == len(set(needed)) <= 5
    held = {tile: folder.tile(tile) for tile in needed}
    nodes = nodes_in_tiles(size, held.__getitem__)
    prove_entry(index, log.entries[index].leaf, note=log.signed(size), nodes=nodes)


async def test_tiles_may_have_to_be_waited_for(log: Log, tmp_path: Path) -> None:
    folder = ExportFolder(log.export(tmp_path))
    read: list[Tile] = []

    async def fetch(tile: Tile) -> bytes:
        read.append(tile)
        return folder.tile(tile)

    def make(nodes: Any) -> list[bytes]:
        return consistency_proof(300, SIZE, nodes)

    assert make(await read_nodes(SIZE, make, fetch)) == make(log.nodes())
    assert len(read) == len(set(read)) <= 5


def test_a_proof_needs_no_payload_at_all(log: Log) -> None:
    """So it outlives every erasure."""
    leaf = log.entries[5].leaf
    assert log.entries[5].payload
    proof = prove_entry(5, leaf, note=log.signed(), nodes=log.nodes())
    assert leaf_hash(leaf) == log.hashes[5]
    assert log.entries[5].payload not in proof.to_text().encode()
    proof.verify(POLICY)
    assert LOG.name == proof.verify(POLICY).checkpoint.origin
