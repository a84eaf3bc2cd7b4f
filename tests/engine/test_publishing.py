"""Publishing checkpoints: to a real witness and a file, through outages, and what it tells of a restored backup."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest

from soar.engine.publishing import AnchorFile, Publisher, prover, stands
from soar.errors import JournalError, NotSentError
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.cosignature import Cosigner
from soar.journal.cosigning import WitnessClient
from soar.journal.merkle import leaf_hash, root_of
from soar.journal.nodes import keep_nodes
from soar.journal.note import Signer
from soar.journal.standing import Standing
from soar.journal.trust import TrustPolicy
from soar.model.clock import SystemClock
from soar.witness.app import build_app
from soar.witness.memory import Memory

LOG = Signer("log.example", bytes(32))
WITNESS = Cosigner("witness.example", bytes([2] * 32), clock=SystemClock())
POLICY = TrustPolicy.of([LOG.verifier], witnesses=[WITNESS.verifier], quorum=1)
URL = "http://witness.example"


async def standing(anchor: AnchorFile, tree: Tree, size: int) -> Standing:
    note = await anchor.newest(TrustPolicy.of([LOG.verifier]))
    return Standing.OK if note is None else (await stands(note, tree, size=size)).standing


class Tree:
    """What a store keeps of a tree."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves
        self.nodes: dict[tuple[int, int], bytes] = {}

    async def hashes(self, level: int, start: int, count: int) -> list[bytes]:
        if not level:
            return self.leaves[start : start + count]
        wanted = ((level, index) for index in range(start, start + count))
        return [self.nodes[place] for place in wanted if place in self.nodes]

    async def add_hashes(self, nodes: Mapping[tuple[int, int], bytes]) -> None:
        self.nodes |= nodes

    async def signed(self, size: int) -> str:
        await keep_nodes(self, size)
        return sign_checkpoint(Checkpoint(LOG.name, size, root_of(self.leaves[:size])), LOG)


def leaves(count: int, *, forked_at: int | None = None) -> list[bytes]:
    return [leaf_hash(b"%d%s" % (n, b"x" if forked_at is not None and n >= forked_at else b"")) for n in range(count)]


@pytest.fixture
async def witness(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    memory = Memory(tmp_path / "witness", verifier=WITNESS.verifier)
    app = build_app(memory=memory, cosigner=WITNESS, logs={LOG.name: [LOG.verifier]})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as http:
        yield http
    memory.close()


def publisher(http: httpx.AsyncClient, tree: Tree, anchor: AnchorFile) -> Publisher:
    async def post(url: str, body: bytes) -> tuple[int, bytes]:
        answer = await http.post(url, content=body)
        return answer.status_code, answer.content

    async def down(_url: str, _body: bytes) -> tuple[int, bytes]:
        raise NotSentError("connection refused")

    clients = [WitnessClient(url=URL, verifier=WITNESS.verifier, post=each) for each in (down, post)]
    return Publisher(witnesses=clients, prove=prover(tree), anchors=[anchor])


async def test_a_checkpoint_is_cosigned_and_anchored_though_one_witness_is_down(
    witness: httpx.AsyncClient, tmp_path: Path
) -> None:
    tree, file = Tree(leaves(1000)), tmp_path / "anchor"
    publishing = publisher(witness, tree, AnchorFile(file))
    for size in (5, 300, 1000):
        published = await publishing.publish(await tree.signed(size))
        assert published.comparison.standing is Standing.OK
        assert POLICY.open(published.note).checkpoint.size == size
        assert file.read_text() == published.note


async def test_a_restored_backup_is_found_by_witness_and_anchor(witness: httpx.AsyncClient, tmp_path: Path) -> None:
    """And the anchor is not overwritten with what the backup says."""
    tree, anchor = Tree(leaves(1000)), AnchorFile(tmp_path / "anchor")
    kept = (await publisher(witness, tree, anchor).publish(await tree.signed(1000))).note
    backup = Tree(leaves(600))
    note = await backup.signed(600)
    published = await publisher(witness, backup, anchor).publish(note)
    assert published.comparison.standing is Standing.BEHIND
    assert await standing(anchor, backup, 600) is Standing.BEHIND
    assert (tmp_path / "anchor").read_text() == kept


async def test_a_backup_that_went_on_is_a_fork(witness: httpx.AsyncClient, tmp_path: Path) -> None:
    tree, anchor = Tree(leaves(1000)), AnchorFile(tmp_path / "anchor")
    await publisher(witness, tree, anchor).publish(await tree.signed(1000))
    forked = Tree(leaves(1200, forked_at=600))
    note = await forked.signed(1200)
    assert (await publisher(witness, forked, anchor).publish(note)).comparison.standing is Standing.FORK
    assert await standing(anchor, forked, 1200) is Standing.FORK


async def test_an_anchor_knows_a_journal_that_grew(tmp_path: Path) -> None:
    tree, anchor = Tree(leaves(1000)), AnchorFile(tmp_path / "anchor")
    assert await standing(anchor, tree, 0) is Standing.OK
    await anchor(await tree.signed(300))
    await keep_nodes(tree, 1000)
    assert await standing(anchor, tree, 1000) is Standing.OK
    (tmp_path / "anchor").write_text("nothing")
    with pytest.raises(JournalError, match="holds no checkpoint of this journal"):
        await standing(anchor, tree, 1000)


async def test_an_anchor_that_cannot_be_asked_is_given_nothing_before_it_was(
    witness: httpx.AsyncClient, tmp_path: Path
) -> None:
    """Else what it remembers, and we forgot, would be written over."""
    tree, file = Tree(leaves(1000)), tmp_path / "anchor"
    kept = await tree.signed(1000)
    file.write_text(kept)
    policy, backup, away = TrustPolicy.of([LOG.verifier]), Tree(leaves(600)), Away(file)
    publishing = Publisher(witnesses=(), prove=prover(backup), anchors=[away])
    assert (await publishing.ask(publishing.anchors, backup, size=600, policy=policy)).standing is Standing.OK
    assert publishing.unasked == [away]
    await publishing.publish(await backup.signed(600))
    assert file.read_text() == kept
    away.there = True
    assert (await publishing.ask(publishing.unasked, backup, size=600, policy=policy)).standing is Standing.BEHIND
    assert (await publishing.ask(publishing.unasked, tree, size=1000, policy=policy)).standing is Standing.OK
    assert publishing.unasked == []
    await publishing.publish(await tree.signed(1000))
    assert away.anchored == 1000


class Away(AnchorFile):
    """A file on a disk that is not mounted yet."""

    there = False

    async def newest(self, policy: TrustPolicy) -> str | None:
        if not self.there:
            raise OSError("not mounted")
        return await super().newest(policy)


async def test_an_anchor_that_cannot_be_written_stops_nothing(witness: httpx.AsyncClient, tmp_path: Path) -> None:
    tree, anchor = Tree(leaves(10)), AnchorFile(tmp_path / "no" / "anchor")
    published = await publisher(witness, tree, anchor).publish(await tree.signed(10))
    assert (anchor.anchored, anchor.problem) == (0, "it cannot be written; the log says why")
    assert published.comparison.standing is Standing.OK
    assert WITNESS.name in published.note
