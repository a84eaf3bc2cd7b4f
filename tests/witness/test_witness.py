"""The witness over HTTP: what it cosigns, what it refuses, and what it still knows after a crash."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from soar.errors import ConfigError, JournalError, OutcomeUnknownError, RejectedError, RemoteFailureError
from soar.journal.checkpoint import Checkpoint, sign_checkpoint
from soar.journal.cosignature import Cosigner
from soar.journal.cosigning import WitnessClient
from soar.journal.merkle import consistency_proof, leaf_hash, nodes_of, root_of
from soar.journal.note import Signature, Signer, open_note, sign_note
from soar.journal.standing import Standing
from soar.journal.trust import TrustPolicy
from soar.journal.witness import SUBMISSION_BYTES_MAX, Submission
from soar.model.clock import SystemClock
from soar.witness.app import build_app
from soar.witness.memory import Memory

ORIGIN = "log.example/journal"
LOG = Signer(ORIGIN, bytes(32))
OTHER = Signer("other.example", bytes([3] * 32))
WITNESS = Cosigner("witness.example", bytes([2] * 32), clock=SystemClock())
LEAVES = [leaf_hash(b"%d" % number) for number in range(50)]
FORKED = [*LEAVES[:10], leaf_hash(b"forged"), *LEAVES[11:]]
URL = "http://witness.example"


def signed(size: int, leaves: Sequence[bytes] = LEAVES, signer: Signer = LOG) -> str:
    return sign_checkpoint(Checkpoint(signer.name, size, root_of(leaves[:size])), signer)


def submission(old: int, size: int, leaves: Sequence[bytes] = LEAVES) -> bytes:
    proof = consistency_proof(old, size, nodes_of(leaves)) if 0 < old < size else []
    return Submission(old, tuple(proof), signed(size, leaves)).to_bytes()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    memory = Memory(tmp_path / "witness", verifier=WITNESS.verifier)
    yield memory
    memory.close()


@pytest.fixture
def app(memory: Memory) -> Starlette:
    logs = {ORIGIN: [LOG.verifier], OTHER.name: [OTHER.verifier]}
    return build_app(memory=memory, cosigner=WITNESS, logs=logs)


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as client:
        yield client


async def add(http: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await http.post("/add-checkpoint", content=body)


async def test_a_checkpoint_that_continues_the_last_one_is_cosigned(http: httpx.AsyncClient) -> None:
    for old, size in [(0, 5), (5, 5), (5, 6), (6, 8), (8, 50)]:
        answer = await add(http, submission(old, size))
        assert answer.status_code == 200
        opened = open_note(signed(size) + answer.text, [LOG.verifier, WITNESS.verifier])
        assert [each.name for each in opened.verified] == [ORIGIN, WITNESS.name]


async def test_a_witness_knows_each_log_by_itself(http: httpx.AsyncClient) -> None:
    assert (await add(http, submission(0, 5))).status_code == 200
    assert (await add(http, Submission(0, (), signed(3, signer=OTHER)).to_bytes())).status_code == 200
    assert (await add(http, submission(5, 6))).status_code == 200


@pytest.mark.parametrize(("old", "size"), [(0, 5), (5, 9), (9, 9), (11, 12), (0, 50), (5, 5)])
async def test_whoever_does_not_know_the_last_size_is_told_it(http: httpx.AsyncClient, old: int, size: int) -> None:
    """So a rollback is refused: what was cosigned stays the last word."""
    await add(http, submission(0, 10))
    answer = await add(http, submission(old, size))
    assert (answer.status_code, answer.text) == (409, "10\n")
    assert answer.headers["content-type"] == "text/x.tlog.size"


async def test_another_tree_of_the_same_size_is_refused(http: httpx.AsyncClient) -> None:
    await add(http, submission(0, 20))
    answer = await add(http, submission(20, 20, FORKED))
    assert (answer.status_code, answer.text) == (409, "20\n")


@pytest.mark.parametrize("size", [21, 32, 50])
async def test_a_fork_is_refused_however_it_is_proven(http: httpx.AsyncClient, size: int) -> None:
    await add(http, submission(0, 20))
    assert (await add(http, submission(20, size, FORKED))).status_code == 422
    assert (await add(http, Submission(20, (), signed(size)).to_bytes())).status_code == 422
    assert (await add(http, submission(20, size))).status_code == 200


async def test_a_first_checkpoint_comes_without_proof(http: httpx.AsyncClient) -> None:
    assert (await add(http, Submission(0, (LEAVES[0],), signed(5)).to_bytes())).status_code == 422


async def test_an_unknown_log_is_not_cosigned(http: httpx.AsyncClient) -> None:
    stranger = Signer("stranger.example", bytes(32))
    assert (await add(http, Submission(0, (), signed(5, signer=stranger)).to_bytes())).status_code == 404


async def test_a_log_must_have_signed(http: httpx.AsyncClient) -> None:
    forged = signed(5, signer=Signer(ORIGIN, bytes([9] * 32)))
    changed = signed(5).replace("\n5\n", "\n6\n")
    for note in (forged, changed):
        assert (await add(http, Submission(0, (), note).to_bytes())).status_code == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"old 0\n",
        b"old -1\n\n" + signed(5).encode(),
        b"old 00\n\n" + signed(5).encode(),
        b"old 0\n!\n\n" + signed(5).encode(),
        b"new 0\n\n" + signed(5).encode(),
        b"old 0\n\n" + signed(5).encode().replace(b"\n5\n", b"\n05\n"),
        b"old 0\n" + b"AAAA\n" * 64 + b"\n" + signed(5).encode(),
        Submission(6, (), signed(5)).to_bytes(),
    ],
)
async def test_what_is_no_submission_is_refused(http: httpx.AsyncClient, body: bytes) -> None:
    assert (await add(http, body)).status_code == 400


async def test_a_body_without_end_is_not_read_to_its_end(http: httpx.AsyncClient) -> None:
    assert (await add(http, bytes(SUBMISSION_BYTES_MAX + 1))).status_code == 413


async def test_of_two_at_once_one_wins_and_the_other_is_told(http: httpx.AsyncClient) -> None:
    await add(http, submission(0, 10))
    answers = await asyncio.gather(*(add(http, submission(10, size)) for size in range(11, 31)))
    assert sorted(each.status_code for each in answers) == [200] + [409] * 19


async def test_a_witness_remembers(http: httpx.AsyncClient, memory: Memory, tmp_path: Path) -> None:
    await add(http, submission(0, 20))
    memory.close()
    again = Memory(tmp_path / "witness", verifier=WITNESS.verifier)
    kept = again.latest(ORIGIN)
    again.close()
    assert kept == Checkpoint(ORIGIN, 20, root_of(LEAVES[:20]))


async def test_a_half_written_memory_is_not_read(http: httpx.AsyncClient, memory: Memory, tmp_path: Path) -> None:
    """What a crash leaves beside the file is no memory."""
    await add(http, submission(0, 20))
    (file,) = (tmp_path / "witness").glob("*.checkpoint")
    file.with_name(f".{file.name}.new").write_text(signed(30)[:40])
    assert (await add(http, submission(20, 21))).status_code == 200


@pytest.mark.parametrize("damage", [b"", b"\xff", signed(20).encode()])
async def test_a_witness_that_lost_its_memory_cosigns_nothing(
    http: httpx.AsyncClient, tmp_path: Path, damage: bytes
) -> None:
    """Nor does it believe a checkpoint that it did not cosign itself."""
    await add(http, submission(0, 20))
    (file,) = (tmp_path / "witness").glob("*.checkpoint")
    file.write_bytes(damage)
    assert (await add(http, submission(0, 5))).status_code == 500
    assert (await add(http, submission(20, 21))).status_code == 500


def test_memories_are_not_shared(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="another witness works in"):
        Memory(tmp_path / "witness", verifier=WITNESS.verifier)


def test_a_memory_of_another_log_is_refused(memory: Memory, tmp_path: Path) -> None:
    memory.keep(ORIGIN, sign_note(Checkpoint(ORIGIN, 5, root_of(LEAVES[:5])).to_text(), WITNESS))
    (file,) = (tmp_path / "witness").glob("*.checkpoint")
    memory.keep(OTHER.name, file.read_text())
    with pytest.raises(JournalError, match=r"is of the log 'log\.example/journal', not 'other\.example'"):
        memory.latest(OTHER.name)


# The client.


def client_of(http: httpx.AsyncClient) -> WitnessClient:
    async def post(url: str, body: bytes) -> tuple[int, bytes]:
        answer = await http.post(url, content=body)
        return answer.status_code, answer.content

    return WitnessClient(url=URL, verifier=WITNESS.verifier, post=post)


def answering(*answers: tuple[int, bytes]) -> WitnessClient:
    given = iter(answers)

    async def post(_url: str, _body: bytes) -> tuple[int, bytes]:
        return next(given)

    return WitnessClient(url=URL, verifier=WITNESS.verifier, post=post)


def prover(leaves: Sequence[bytes] = LEAVES):
    async def prove(old: int, size: int) -> list[bytes]:
        return consistency_proof(old, size, nodes_of(leaves[:size]))

    return prove


async def test_a_log_has_its_checkpoints_cosigned(http: httpx.AsyncClient) -> None:
    policy = TrustPolicy.of([LOG.verifier], witnesses=[WITNESS.verifier], quorum=1)
    client = client_of(http)
    for size in (1, 2, 7, 7, 50):
        cosigned = await client.cosign(signed(size), prove=prover())
        assert cosigned.comparison.standing is Standing.OK
        assert policy.open(cosigned.note).checkpoint.size == size
        assert datetime.now(UTC) >= policy.open(cosigned.note).witnessed[WITNESS.name]


async def test_after_a_restart_the_client_learns_what_the_witness_knows(http: httpx.AsyncClient) -> None:
    await client_of(http).cosign(signed(20), prove=prover())
    cosigned = await client_of(http).cosign(signed(30), prove=prover())
    assert cosigned.comparison.standing is Standing.OK
    again = await client_of(http).cosign(cosigned.note, prove=prover())
    assert again.note.count(WITNESS.name) == 1


async def test_a_rollback_to_a_backup_is_found(http: httpx.AsyncClient) -> None:
    """The log has 30 entries, loses ten, and would sign again."""
    await client_of(http).cosign(signed(30), prove=prover())
    found = await client_of(http).cosign(signed(20), prove=prover())
    assert found.comparison.standing is Standing.BEHIND
    assert "entries 20 to 29 are gone" in found.comparison.message
    assert found.note == signed(20)


@pytest.mark.parametrize("size", [30, 40])
async def test_a_rewritten_history_is_found(http: httpx.AsyncClient, size: int) -> None:
    """A backup was restored and went on, up to or past what the witness saw."""
    await client_of(http).cosign(signed(30), prove=prover())
    found = await client_of(http).cosign(signed(size, FORKED), prove=prover(FORKED))
    assert found.comparison.standing is Standing.FORK
    assert "does not begin with the 30 entries" in found.comparison.message


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([(403, b"who are you")], RejectedError),
        ([(404, b"what log")], RejectedError),
        ([(500, b"oh")], RemoteFailureError),
        ([(200, b"<html>")], OutcomeUnknownError),
        ([(200, b"")], OutcomeUnknownError),
        ([(200, b"\xff")], OutcomeUnknownError),
        ([(409, b"<html>")], OutcomeUnknownError),
        ([(409, b"3\n"), (409, b"4\n")], RejectedError),
    ],
)
async def test_an_answer_that_says_nothing_of_our_history_is_an_error(
    answers: list[tuple[int, bytes]], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"witness witness\.example"):
        await answering(*answers).cosign(signed(5), prove=prover())


async def test_a_witness_cannot_have_its_own_text_signed_in_our_name() -> None:
    text = signed(5).partition("\n\n")[0] + "\n\n\n"
    line = str(Signature(WITNESS.name, WITNESS.key_id, WITNESS.sign(text.encode())))
    with pytest.raises(OutcomeUnknownError, match="with a text of its own"):
        await answering((200, f"\n\n{line}".encode())).cosign(signed(5), prove=prover())


# A witness as its own process, killed.

PROGRAM = """
import sys
from pathlib import Path
from soar.journal.cosignature import Cosigner
from soar.journal.note import Verifier
from soar.model.clock import SystemClock
from soar.witness.app import build_app
from soar.witness.memory import Memory
from soar.witness.server import run
cosigner = Cosigner.from_text(sys.argv[3], clock=SystemClock())
log = Verifier.from_text(sys.argv[4])
memory = Memory(Path(sys.argv[1]), verifier=cosigner.verifier)
run(build_app(memory=memory, cosigner=cosigner, logs={log.name: [log]}), host="127.0.0.1", port=int(sys.argv[2]))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    arguments = [str(folder), str(port), WITNESS.to_text(), str(LOG.verifier)]
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments])
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError("the witness did not begin to listen")


def test_a_killed_witness_still_refuses_what_it_refused(tmp_path: Path) -> None:
    """What it has cosigned it knows, whenever it is killed."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/add-checkpoint"
    process = start(tmp_path, port)
    try:
        assert httpx.post(url, content=submission(0, 30)).status_code == 200
        process.kill()
        process.wait()
        process = start(tmp_path, port)
        answer = httpx.post(url, content=submission(0, 20))
        assert (answer.status_code, answer.text) == (409, "30\n")
        assert httpx.post(url, content=submission(30, 40, FORKED)).status_code == 422
        assert httpx.post(url, content=submission(30, 40)).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
