"""The OPA server engine: the same bundle, asked over OPA's Data API.

https://www.openpolicyagent.org/docs/rest-api#get-a-document-with-input. The path is fixed, the questions go in the
body as an array, and nothing is ever uploaded: OPA loads the bundle that `Bundle.export` wrote. Each answer carries
provenance; the gate refuses one that another revision gave.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import orjson
import structlog

from soar.errors import PolicyError, PolicyUnavailableError
from soar.policy.address import OpaAddress
from soar.policy.bundle import BATCH
from soar.policy.collect import Collector, Document
from soar.policy.port import UNDEFINED, Answer
from soar.policy.rehearsal import rehearsal
from soar.policy.spawn import SpawnedOpa

log = structlog.get_logger(__name__)

OLDEST: Final = (1, 21, 3)
START_SECONDS = 10.0
WATCH_SECONDS = 10.0
_OLDEST = ".".join(str(part) for part in OLDEST)
_PATH = BATCH.removeprefix("data.").replace(".", "/")
_CONFLICT = "eval_conflict_error"
"""OPA's word for rules that give one name two values, which embedded engines call a fault too."""


class _RefusedError(Exception):
    """The policy cannot be evaluated on what was asked; asking again would fail again."""


class _TooOldError(PolicyUnavailableError):
    """This server must not decide, whatever it says."""


class OpaEngine:
    """A `PolicyEngine` on an OPA server, at an address or spawned.

    `revision` is the bundle's that the server was given. `timeout_seconds` bounds each question from asking to
    answer, waiting for others and connecting included. A server that is down, slow, too old, says no, or does not
    speak JSON gives no answer: `PolicyUnavailableError`. OPA's 400, and a conflict between rules, mean that this
    input can never be answered, and are faults.
    """

    name = "opa"

    def __init__(
        self,
        server: str | OpaAddress | SpawnedOpa,
        *,
        revision: str,
        timeout_seconds: float = 2.0,
        start_seconds: float = START_SECONDS,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._spawned = server if isinstance(server, SpawnedOpa) else None
        address = server.address if isinstance(server, SpawnedOpa) else server
        address = OpaAddress(url=address) if isinstance(address, str) else address
        self.revision = revision
        self.problem: str | None = None
        self._url = address.url
        self._timeout_seconds = timeout_seconds
        self._start_seconds = start_seconds
        self._watch_seconds = watch_seconds
        self._client = address.client(timeout_seconds=timeout_seconds)
        self._collector = Collector(self._answers)
        self._watch: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the server where it is ours, and see that it may decide; raises `PolicyError` where it must not.

        A server that cannot be reached in time is no error: it is asked again and again, and runs wait for it.
        """
        if self._spawned is not None:
            await self._spawned.start()
        try:
            await self._settled()
        except PolicyError:
            await self.close()
            raise
        self._watch = asyncio.create_task(self._look_on(), name="policy-watch")

    async def check(self) -> str:
        """Ask one question and give OPA's version; raises `PolicyError` for a server that must not decide.

        That is one older than 1.21.3, or one that serves another revision or no bundle.
        """
        try:
            body = await self._ask([rehearsal()[0].document()])
        except _TooOldError as old:
            raise PolicyError(str(old)) from old
        except _RefusedError as refused:
            raise PolicyError(f"OPA at {self._url} fails on a plain question: {refused}") from refused
        revision = _revision(body)
        if revision != self.revision:
            found = f"serves revision {revision or 'none'}, not {self.revision}"
            raise PolicyError(f"OPA at {self._url} {found}; give it that bundle (`soar policy export`)")
        if "result" not in body:
            raise PolicyError(f"OPA at {self._url} has no {BATCH}; give it what `soar policy export` writes")
        return _version(body)

    async def evaluate(self, document: Document) -> Answer:
        """See `PolicyEngine.evaluate`."""
        return (await self.evaluate_many([document]))[0]

    async def evaluate_many(self, documents: Sequence[Document]) -> list[Answer]:
        """See `PolicyEngine.evaluate_many`. What others ask meanwhile goes along in the same request."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._collector.answers(documents)
        except TimeoutError as late:
            raise self._unavailable(f"gave no answer within {self._timeout_seconds} s", "is too slow") from late

    async def close(self) -> None:
        """Answer what was asked before, then close the connections and end a server of ours."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await self._collector.finish()
        await self._client.close_connection()
        if self._spawned is not None:
            await self._spawned.stop()

    async def _settled(self) -> None:
        """Until the server may decide, or is given up on for now."""
        deadline = asyncio.get_running_loop().time() + self._start_seconds
        while True:
            late = asyncio.get_running_loop().time() >= deadline
            try:
                version = await self.check()
            except PolicyUnavailableError as failure:
                if self._spawned is not None and (late or self._spawned.ended):
                    words = self._spawned.last_words()
                    raise PolicyError(f"the spawned OPA does not come up: {words or failure}") from failure
                if late:
                    log.warning("policy.away", engine=self.name, why=str(failure))
                    return
            except PolicyError:
                if late or self._spawned is not None:
                    raise
            else:
                log.info("policy.ready", engine=self.name, at=self._url, version=version, revision=self.revision)
                return
            await asyncio.sleep(0.05 if self._spawned is not None else 0.5)

    async def _look_on(self) -> None:
        """Know of a server that went away, or came back as another, before an action has to."""
        while True:
            await asyncio.sleep(self._watch_seconds)
            before = self.problem
            try:
                await self.check()
            except PolicyUnavailableError as failure:
                why = str(failure)
            except PolicyError as failure:
                self.problem, why = "serves another policy", str(failure)
            else:
                why = ""
            if why and before is None:
                log.warning("policy.away", engine=self.name, why=why)
            if not why and before is not None:
                log.info("policy.back", engine=self.name, after=before)

    async def _answers(self, documents: list[Document]) -> list[Answer | PolicyUnavailableError]:
        try:
            body = await self._ask(documents)
        except PolicyUnavailableError as failure:
            return [failure] * len(documents)
        except _RefusedError as refused:
            if len(documents) == 1:
                return [Answer(self.revision, fault=str(refused))]
            alone = await asyncio.gather(*(self._answers([document]) for document in documents))
            return [answer for (answer,) in alone]  # one of them may be the reason; the others have no part in it
        revision, found = _revision(body), body.get("result")
        results = found if isinstance(found, dict) else {}
        return [Answer(revision, results.get(str(number), UNDEFINED)) for number in range(len(documents))]

    async def _ask(self, documents: list[Document]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                status, text = await self._client.query(documents, _PATH)
        except TimeoutError as late:
            raise self._unavailable(f"gave no answer within {self._timeout_seconds} s", "is too slow") from late
        except aiohttp.ClientError as failure:
            raise self._unavailable(f"cannot be reached: {failure}", "cannot be reached") from failure
        try:
            body = orjson.loads(text)
        except orjson.JSONDecodeError as failure:
            raise self._unavailable(f"answered {status} with something that is not JSON") from failure
        if not isinstance(body, dict):
            raise self._unavailable(f"answered {status} with JSON that is no object")
        if status == 400 or (status == 500 and _CONFLICT in _codes(body)):
            raise _RefusedError(f"OPA cannot answer this input: {status} {body.get('message', '')}")
        if status != 200:
            raise self._unavailable(f"answered {status} {body.get('message', '')}".rstrip())
        version = _version(body)
        if _numbers(version) < OLDEST:
            self.problem = "is too old"
            raise _TooOldError(f"OPA at {self._url} is version {version}; {_OLDEST} or newer is required")
        self.problem = None if _revision(body) == self.revision else "serves another policy"
        return body

    def _unavailable(self, what: str, problem: str = "gives no answers") -> PolicyUnavailableError:
        self.problem = problem
        return PolicyUnavailableError(f"OPA at {self._url} {what}; nothing was sent, the run asks again")


def _version(body: dict[str, Any]) -> str:
    return str(_provenance(body).get("version", "unknown"))


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(int(part) for part in found.groups()) if found else ()


def _codes(body: dict[str, Any]) -> list[Any]:
    errors = body.get("errors")
    return [error.get("code") for error in errors if isinstance(error, dict)] if isinstance(errors, list) else []


def _provenance(body: dict[str, Any]) -> dict[str, Any]:
    found = body.get("provenance")
    return found if isinstance(found, dict) else {}


def _revision(body: dict[str, Any]) -> str:
    """The revision of the one bundle that is loaded; empty where there is none, or several that could differ."""
    bundles = _provenance(body).get("bundles")
    if not isinstance(bundles, dict) or len(bundles) != 1:
        return ""
    (bundle,) = bundles.values()
    return str(bundle.get("revision", "")) if isinstance(bundle, dict) else ""
