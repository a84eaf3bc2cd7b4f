"""A registry with one instance of a connector, whose network is a function."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx
import pytest

from soar.connector.base import Call
from soar.connector.loader import Loader
from soar.connector.registry import InstanceConfig, Registry
from soar.connector.secret import SecretResolver
from soar.model.action import ActionRequest
from soar.model.clock import SystemClock
from tests.connector.played import Played

Handler = Callable[[httpx.Request], httpx.Response]


class Bench:
    """One instance, named like its connector, and every request that it made."""

    def __init__(
        self, use: str, config: dict[str, Any], environ: dict[str, str], answer: Handler, loader: Loader
    ) -> None:
        self.name = use
        self.sent: list[httpx.Request] = []
        self.answer = answer
        self.registry = Registry.build(
            {use: InstanceConfig(use=use, config=config)},
            {},
            SecretResolver(environ),
            clock=SystemClock(),
            loader=loader,
            transport=Played(self._handle),
        )

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.sent.append(request)
        return self.answer(request)

    async def do(self, verb: str, params: dict[str, Any], *, key: str = "key-1", seconds: float = 5) -> dict[str, Any]:
        """Prepare and invoke one action as the engine does."""
        offer = self.registry.catalogue().resolve(f"{self.name}.{verb}")
        assert offer is not None
        spec = offer.spec
        request = ActionRequest(
            run_id="run-1",
            path="0",
            step_id="s",
            connector=self.name,
            instance=self.name,
            connector_version=offer.connector_version,
            verb=verb,
            effect=spec.effect,
            risk=spec.risk,
            impact=spec.impact,
            undo=spec.undo,
            params=self.registry.prepare(self.name, verb, params),
            idempotency_key=key,
        )
        call = Call(
            idempotency_key=key,
            run_id="run-1",
            path="0",
            deadline=datetime.now(UTC) + timedelta(seconds=seconds),
        )
        return (await self.registry.invoke(request, call)).value


@pytest.fixture(scope="session")
def loader() -> Loader:
    """Loading is most of what building a registry costs, and every test may share it: it holds no instance."""
    return Loader()


@pytest.fixture
def bench(loader: Loader) -> Callable[..., Bench]:
    return partial(Bench, loader=loader)
