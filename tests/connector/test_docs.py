"""The connector in docs/connectors.md does what the page says, as it stands there."""

import json
import re
from pathlib import Path

import httpx
import pytest
import yaml

from soar.connector.registry import InstanceConfig, Registry
from soar.connector.secret import SecretResolver
from soar.errors import RemoteNotFoundError
from soar.model.action import ActionRequest
from soar.model.clock import SystemClock

from .exchanges import make_call
from .played import Played

PAGE = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


class Doorman:
    """The product, as the page imagines it."""

    def __init__(self):
        self.blocked = {"alice": False}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer token-1"
        user = request.url.raw_path.decode().rpartition("/")[2]
        if request.url.path == "/v1/me":
            return httpx.Response(200, json={"name": "soar"})
        if user not in self.blocked:
            return httpx.Response(404)
        if request.method == "PUT":
            self.blocked[user] = json.loads(request.content)["blocked"]
        return httpx.Response(200, json={"blocked": self.blocked[user]})


@pytest.fixture
def registry(tmp_path):
    tmp_path.chmod(0o755)
    file = tmp_path / "doorman.py"
    file.write_text(block("python"), encoding="utf-8")
    file.chmod(0o644)
    settings = yaml.safe_load(block("yaml"))
    instances = {name: InstanceConfig(**config) for name, config in settings["connectors"].items()}
    return Registry.build(
        instances,
        settings["bindings"],
        SecretResolver({"DOORMAN_TOKEN": "token-1"}),
        clock=SystemClock(),
        connectors_dir=tmp_path,
        transport=Played(Doorman()),
    )


async def do(registry: Registry, use: str, user: str):
    offer = registry.catalogue().resolve(use)
    assert offer is not None
    spec = offer.spec
    request = ActionRequest(
        run_id="r", path="0", step_id="s", connector=spec.connector, instance=offer.instance,
        connector_version=offer.connector_version, verb=spec.verb, effect=spec.effect, risk=spec.risk,
        impact=spec.impact, params=registry.prepare(offer.instance, spec.verb, {"user": user}), idempotency_key="k",
    )  # fmt: skip
    return (await registry.invoke(request, make_call())).value


async def test_the_example_blocks_looks_and_takes_it_back_through_capabilities(registry):
    assert await registry.test("front-door") == "known as soar"
    assert await do(registry, "account.disable", "alice") == {"user": "alice", "enabled": False}
    assert await do(registry, "account.get", "alice") == {"user": "alice", "enabled": False}
    assert await do(registry, "account.enable", "alice") == {"user": "alice", "enabled": True}
    with pytest.raises(RemoteNotFoundError):
        await do(registry, "account.disable", "bob/../alice")


def test_every_name_on_the_page_exists():
    from soar import errors
    from soar.connector import sinks

    for name in re.findall(r"`(\w+Error)`", PAGE):
        assert hasattr(errors, name)
    for name in re.search(r"each place: (.*?)\. JSON", PAGE, re.DOTALL)[1].split("`")[1::2]:
        assert hasattr(sinks, name)
