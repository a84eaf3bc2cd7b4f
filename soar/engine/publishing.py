"""Checkpoints go to witnesses, and to places that the journal's owner does not rule; what comes back may stop us."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from soar.errors import ConnectorError, JournalError
from soar.journal.cosigning import Cosigned, Prove, WitnessClient
from soar.journal.durable import replace_file
from soar.journal.merkle import Nodes, consistency_proof
from soar.journal.nodes import KeepsNodes, read_tile
from soar.journal.proof import read_nodes
from soar.journal.standing import Comparison, Standing, compare
from soar.journal.tiles import Tile
from soar.journal.trust import TrustPolicy, claimed

log = structlog.get_logger(__name__)


class Anchor(Protocol):
    """A place that the journal's owner does not rule, and that keeps the newest checkpoint."""

    place: str
    anchored: int  # entries under the checkpoint that this process put there last; 0 before the first
    problem: str | None  # why the newest is not there yet, if so

    async def __call__(self, note: str) -> None:
        """Put a checkpoint there, or see to it; raises OSError or ConnectorError, which does not stop the others."""
        ...

    async def newest(self, policy: TrustPolicy) -> str | None:
        """The newest checkpoint that it holds, as it was put there; None before the first.

        Raises OSError or ConnectorError where nobody can look now, and JournalError where what it holds is not good
        under `policy`.
        """
        ...

    async def close(self) -> None:
        """Let what is under way arrive, as far as that takes no long."""
        ...


class Publisher:
    """Publishes checkpoints one after another. What a witness that cannot be reached misses, it sees next time."""

    def __init__(self, *, witnesses: Sequence[WitnessClient], prove: Prove, anchors: Sequence[Anchor] = ()) -> None:
        self.anchors = anchors
        self.unasked: list[Anchor] = []  # could not tell what they hold: nothing is put over it before they do
        self._witnesses = witnesses
        self._prove = prove

    async def ask(self, anchors: Sequence[Anchor], store: KeepsNodes, *, size: int, policy: TrustPolicy) -> Comparison:
        """Hold a tree of `size` entries against what these anchors keep; the first that knows another history counts.

        Those that cannot be reached are `unasked` afterwards. Raises JournalError where one holds no checkpoint of
        ours: somebody changed it.
        """
        unasked: list[Anchor] = []
        for anchor in anchors:
            try:
                note = await anchor.newest(policy)
            except (OSError, ConnectorError) as failure:
                log.warning("anchor.not_asked", anchor=anchor.place, error=str(failure))
                unasked.append(anchor)
                continue
            found = Comparison(Standing.OK) if note is None else await stands(note, store, size=size)
            if found.standing is not Standing.OK:
                return found
        self.unasked = unasked
        return Comparison(Standing.OK)

    async def close(self) -> None:
        """Let what is under way to anchors arrive."""
        for anchor in self.anchors:
            await anchor.close()

    async def publish(self, note: str) -> Cosigned:
        """The checkpoint with the cosignatures that could be had.

        BEHIND or FORK: a witness knows another history of ours. Sign no more; nothing was anchored.
        """
        for witness in self._witnesses:
            try:
                answer = await witness.cosign(note, prove=self._prove)
            except (ConnectorError, JournalError) as failure:
                log.warning("checkpoint.not_cosigned", witness=witness.name, error=str(failure))
                continue
            if answer.comparison.standing is not Standing.OK:
                log.error("journal.disowned", witness=witness.name, standing=answer.comparison.standing.value)
                return Cosigned(note, answer.comparison)
            note = answer.note
        for anchor in self.anchors:
            if anchor in self.unasked:
                continue
            try:
                await anchor(note)
            except (OSError, ConnectorError) as failure:
                log.warning("checkpoint.not_anchored", anchor=anchor.place, error=str(failure))
        return Cosigned(note, Comparison(Standing.OK))


class AnchorFile:
    """A file in another place that always holds the newest published checkpoint."""

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self.anchored = 0
        self.problem: str | None = None
        self._path = path

    async def __call__(self, note: str) -> None:
        """Replace what it holds, durably."""
        self.problem = "it cannot be written; the log says why"
        replace_file(self._path, note.encode())
        self.anchored, self.problem = claimed(note).size, None

    async def newest(self, policy: TrustPolicy) -> str | None:
        """What the file holds; raises JournalError where that is no checkpoint of ours: somebody changed it."""
        try:
            note = self._path.read_bytes().decode()
            policy.open(note)
        except FileNotFoundError:
            return None
        except (JournalError, UnicodeDecodeError) as error:
            raise JournalError(f"{self._path} holds no checkpoint of this journal: {error}") from error
        return note

    async def close(self) -> None:
        """Nothing is under way."""


async def stands(note: str, store: KeepsNodes, *, size: int) -> Comparison:
    """Hold a store's tree of `size` entries against a checkpoint that was kept elsewhere."""
    kept = claimed(note)

    def make(nodes: Nodes) -> Comparison:
        return compare(kept, size=size, nodes=nodes)

    return make(await read_nodes(size, make, lambda tile: read_tile(store, tile)))


def prover(store: KeepsNodes) -> Prove:
    """Consistency proofs from what a store keeps."""

    async def prove(old_size: int, new_size: int) -> Sequence[bytes]:
        def make(nodes: Nodes) -> list[bytes]:
            return consistency_proof(old_size, new_size, nodes)

        def read(tile: Tile) -> Awaitable[bytes]:
            return read_tile(store, tile)

        return make(await read_nodes(new_size, make, read))

    return prove
