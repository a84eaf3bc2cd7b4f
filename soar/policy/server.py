"""The OPA server engine: the same bundle, asked over OPA's Data API.

https://www.openpolicyagent.org/docs/rest-api#get-a-document-with-input. The path is fixed, the question goes in the
body, and nothing is ever uploaded: OPA loads the bundle that `Bundle.export` wrote. Each answer carries
provenance; the gate refuses one that another revision gave.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from opa_client import AsyncOpaClient

from soar.errors import PolicyError, PolicyUnavailableError
from soar.policy.port import ENTRY_POINT, UNDEFINED, Answer
from soar.policy.rehearsal import rehearsal

OLDEST: Final = (1, 21, 3)
_PACKAGE, _, _RULE = ENTRY_POINT.removeprefix("data.").rpartition(".")


class OpaEngine:
    """A `PolicyEngine` on an OPA server at `url` (`http://127.0.0.1:8181`).

    `revision` is the bundle's that the server was given. `timeout_seconds` bounds each question, connecting
    included. A server that is down, slow, says no, or does not speak JSON gives no answer:
    `PolicyUnavailableError`. OPA's 400 means that this input can never be answered, and is a fault.
    """

    name = "opa"

    def __init__(self, url: str, *, revision: str, token: str | None = None, timeout_seconds: float = 2.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
            raise PolicyError(f"{url!r} is no address of an OPA server; write http://host:8181")
        tls = parts.scheme == "https"
        self.revision = revision
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._open = False
        self._client = AsyncOpaClient(
            host=f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname,
            port=parts.port or (443 if tls else 80),
            ssl=tls,
            token=token,
            retries=0,  # the run asks again, with fresh counters
            timeout=timeout_seconds,
        )

    async def check(self) -> str:
        """Ask one question and give OPA's version; raises `PolicyError` for a server that must not decide.

        That is one older than 1.21.3, or one that serves another revision or no bundle.
        """
        body = await self._ask(rehearsal()[0].document())
        version = str(_provenance(body).get("version", "unknown"))
        numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
        if not numbers or tuple(int(part) for part in numbers.groups()) < OLDEST:
            oldest = ".".join(str(part) for part in OLDEST)
            raise PolicyError(f"OPA at {self._url} is version {version}; {oldest} or newer is required")
        revision = _revision(body)
        if revision != self.revision:
            found = f"serves revision {revision or 'none'}, not {self.revision}"
            raise PolicyError(f"OPA at {self._url} {found}; give it that bundle")
        return version

    async def evaluate(self, document: dict[str, Any]) -> Answer:
        """See `PolicyEngine.evaluate`."""
        try:
            body = await self._ask(document)
        except aiohttp.ClientResponseError as refusal:  # 400 alone comes through
            return Answer(self.revision, fault=f"OPA cannot read this input: {refusal.message}")
        return Answer(_revision(body), body.get("result", UNDEFINED))

    async def evaluate_many(self, documents: Sequence[dict[str, Any]]) -> list[Answer]:
        """See `PolicyEngine.evaluate_many`; OPA answers one question at a time, side by side."""
        return list(await asyncio.gather(*(self.evaluate(document) for document in documents)))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close_connection()

    async def _ask(self, document: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                if not self._open:  # opening needs a running loop, and does not suspend
                    self._open = True
                    await self._client.__aenter__()
                body = await self._client.query_rule(document, _PACKAGE, _RULE, {"provenance": "true"})
        except TimeoutError as late:
            raise self._unavailable(f"gave no answer within {self._timeout_seconds} s") from late
        except aiohttp.ContentTypeError as failure:
            raise self._unavailable(f"answered {failure.status} with something that is not JSON") from failure
        except aiohttp.ClientResponseError as failure:
            if failure.status == 400:
                raise
            raise self._unavailable(f"answered {failure.status} {failure.message}") from failure
        except aiohttp.ClientError as failure:
            raise self._unavailable(f"cannot be reached: {failure}") from failure
        except (json.JSONDecodeError, UnicodeDecodeError) as failure:
            raise self._unavailable("answered with something that is not JSON") from failure
        if not isinstance(body, dict):
            raise self._unavailable("answered with JSON that is no object")
        return body

    def _unavailable(self, what: str) -> PolicyUnavailableError:
        return PolicyUnavailableError(f"OPA at {self._url} {what}; nothing was sent, the run asks again")


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
