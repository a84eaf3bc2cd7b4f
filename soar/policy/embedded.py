"""The embedded engine: Rego in this process, nothing to install.

A regorus engine may only be touched by the thread that made it, so one thread makes it, owns it as a local
variable, and lets go of it when it ends. Evaluation holds the interpreter lock; a batch in one hop is cheaper
than many hops.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

import orjson
import regorus
import structlog

from soar.errors import PolicyError, PolicyUnavailableError
from soar.policy.bundle import Bundle
from soar.policy.port import ENTRY_POINT, UNDEFINED, Answer
from soar.policy.reads import WHOLE, Memory
from soar.policy.rego import EngineFault, evaluate, new_engine
from soar.policy.rehearsal import rehearsal

log = structlog.get_logger(__name__)

_Documents = Sequence[bytes]
_Request = tuple[_Documents, Future[list[Answer]]]


class EmbeddedEngine:
    """A `PolicyEngine` on one bundle.

    Building it compiles the bundle and asks it the rehearsal, so that the first real question is as fast as the
    rest; raises `PolicyError` when that fails. `timeout_seconds` bounds each call from question to answer, the
    wait for earlier questions included.
    """

    name = "embedded"
    problem: str | None = None  # it is in this process, and its thread ends with it

    def __init__(self, bundle: Bundle, *, timeout_seconds: float = 2.0) -> None:
        self.revision = bundle.revision
        self._timeout_seconds = timeout_seconds
        self._memory = Memory(bundle.reads) if bundle.reads != WHOLE else None
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        ready: Future[None] = Future()
        self._thread = threading.Thread(
            target=_serve, args=(bundle, self._requests, ready), name="soar-policy", daemon=True
        )
        self._stop = weakref.finalize(self, self._requests.put, None)
        self._thread.start()
        ready.result()

    async def open(self) -> None:
        """It is ready since it was built."""

    async def evaluate(self, document: dict[str, Any]) -> Answer:
        """See `PolicyEngine.evaluate`."""
        memory = self._memory
        if memory is None or not self._stop.alive:
            return (await self.evaluate_many([document]))[0]
        key = memory.key(document)
        answer = memory.recall(key)
        if answer is None:
            (answer,) = await self._ask([document])
            memory.keep(key, answer)
        return answer

    async def evaluate_many(self, documents: Sequence[dict[str, Any]]) -> list[Answer]:
        """See `PolicyEngine.evaluate_many`. What was answered before to the same question is not asked again."""
        if not self._stop.alive:
            raise PolicyUnavailableError("the embedded policy engine is closed")
        memory = self._memory
        if memory is None:
            return await self._ask(documents)
        keys = [memory.key(document) for document in documents]
        known = {key: memory.recall(key) for key in keys}
        new = {key: document for key, document in zip(keys, documents, strict=True) if known[key] is None}
        answers = await self._ask(list(new.values())) if new else []
        for key, given in zip(new, answers, strict=True):
            known[key] = given
            memory.keep(key, given)
        return [answer for key in keys if (answer := known[key]) is not None]

    async def _ask(self, documents: Sequence[dict[str, Any]]) -> list[Answer]:
        questions = [orjson.dumps(document) for document in documents]
        answers: Future[list[Answer]] = Future()
        self._requests.put((questions, answers))
        try:
            async with asyncio.timeout(self._timeout_seconds):  # wait_for can swallow a cancellation
                return await asyncio.wrap_future(answers)
        except TimeoutError as late:
            raise PolicyUnavailableError(
                f"the embedded policy engine gave no answer to {len(questions)} questions "
                f"within {self._timeout_seconds} s; nothing was sent"
            ) from late

    async def close(self) -> None:
        """Answer what was asked before, then end the thread."""
        self._stop()
        await asyncio.to_thread(self._thread.join)


def _serve(bundle: Bundle, requests: SimpleQueue[_Request | None], ready: Future[None]) -> None:
    """The thread's whole life. If we crash here, nothing was decided, and every caller's deadline ends its wait."""
    try:
        engine = new_engine(bundle.modules, bundle.data_json)
        for question in rehearsal():
            evaluate(engine, ENTRY_POINT, orjson.dumps(question.document()))
    except (PolicyError, EngineFault) as failure:
        ready.set_exception(failure if isinstance(failure, PolicyError) else PolicyError(str(failure)))
        return
    ready.set_result(None)
    while (request := requests.get()) is not None:
        questions, answers = request
        if answers.set_running_or_notify_cancel():  # a caller that gave up is not worth the work
            answers.set_result([_answer(engine, bundle.revision, question) for question in questions])


def _answer(engine: regorus.Engine, revision: str, question: bytes) -> Answer:
    try:
        defined, value = evaluate(engine, ENTRY_POINT, question)
    except EngineFault as fault:
        log.warning("policy.fault", engine="embedded", revision=revision, why=str(fault))
        return Answer(revision, fault=str(fault))
    return Answer(revision, value if defined else UNDEFINED)
