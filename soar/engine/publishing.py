"""Checkpoints go to witnesses, and to places that the journal's owner does not rule; what comes back may stop us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import structlog

from soar.errors import ConnectorError, JournalError
from soar.journal.cosigning import Cosigned, Prove, WitnessClient
from soar.journal.durable import replace_file
from soar.journal.merkle import Nodes, consistency_proof
from soar.journal.nodes import KeepsNodes, read_tile
from soar.journal.proof import read_nodes
from soar.journal.standing import Comparison, Standing, compare
from soar.journal.tiles import Tile
from soar.journal.trust import TrustPolicy

log = structlog.get_logger(__name__)

Anchor = Callable[[str], Awaitable[None]]
"""Puts a checkpoint elsewhere; an OSError or ConnectorError is told and does not stop the others."""


class Publisher:
    """Publishes checkpoints one after another. What a witness that cannot be reached misses, it sees next time."""

    def __init__(self, *, witnesses: Sequence[WitnessClient], prove: Prove, anchors: Sequence[Anchor] = ()) -> None:
        self._witnesses = witnesses
        self._prove = prove
        self._anchors = anchors

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
        for anchor in self._anchors:
            try:
                await anchor(note)
            except (OSError, ConnectorError) as failure:
                log.warning("checkpoint.not_anchored", error=str(failure))
        return Cosigned(note, Comparison(Standing.OK))


class AnchorFile:
    """A file in another place that always holds the newest published checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __call__(self, note: str) -> None:
        """Replace what it holds, durably."""
        replace_file(self._path, note.encode())

    async def compare(self, store: KeepsNodes, *, size: int, policy: TrustPolicy) -> Comparison:
        """Hold the store's tree against the file; OK where nothing was anchored yet.

        Raises JournalError for a file that holds no checkpoint of ours: somebody changed it.
        """
        try:
            kept = policy.open(self._path.read_bytes().decode()).checkpoint
        except FileNotFoundError:
            return Comparison(Standing.OK)
        except (JournalError, UnicodeDecodeError) as error:
            raise JournalError(f"{self._path} holds no checkpoint of this journal: {error}") from error

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
