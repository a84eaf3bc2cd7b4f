"""The registry: loads only what keeps its word, tells all that is wrong at once, and is the one way to call."""

import asyncio
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import pytest

from soar.connector.loader import Loader, digest_of
from soar.connector.registry import InstanceConfig, Registry
from soar.connector.secret import SecretResolver
from soar.errors import (
    ConfigError,
    ConnectorError,
    InputError,
    NotFoundError,
    NotSentError,
    OutcomeUnknownError,
    Place,
    RejectedError,
    RemoteFailureError,
)
from soar.model.action import ActionRequest, Effect, Impact, Risk
from soar.model.clock import SystemClock

from .exchanges import make_call
from .played import Played

TOY = '''
"""A toy."""
import asyncio
from soar.connector.base import Call, Connector, Model, Result, action
from soar.connector.client import BearerAuth, Endpoint
from soar.connector.secret import Secret
from soar.model.action import Effect, Risk

class Config(Endpoint):
    token: Secret

class Params(Model):
    host: str
    hosts: tuple[str, ...] = ()
    mode: str = "fine"

class State(Result):
    host: str
    isolated: bool

class Toy(Connector[Config]):
    """A toy."""
    name = "toy"
    version = "1.2.3"
    vendor = "Example"
    product = "Toy"
    Config = Config

    @classmethod
    def client_options(cls, config):
        return config.client_options(auth=BearerAuth(config.token))

    async def test(self, call):
        return (await self.http.get("/me", call=call)).text

    @action(effect=Effect.UNSAFE, risk=Risk.CONTAIN, undo="release", targets={"host": "host", "hosts": "host"})
    async def isolate(self, params: Params, call: Call) -> State:
        """Isolate."""
        if params.mode == "defect":
            raise KeyError("a bug")
        if params.mode == "slow":
            await asyncio.sleep(60)
        if params.mode == "wrong":
            return {"host": 1}
        await self.http.request("POST", "/isolate", call=call, json={"host": params.host})
        if params.mode == "twice":
            await self.http.request("POST", "/again", call=call)
        if params.mode == "look":
            await self.http.get("/again", call=call)
        return State(host=params.host, isolated=True)

    @action(effect=Effect.READ)
    async def release(self, params: Params, call: Call) -> State:
        """Release."""
        return await self.isolate(params, call)
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    write(tmp_path, "toy.py", TOY)
    return tmp_path


def write(folder: Path, name: str, text: str, mode: int = 0o644) -> Path:
    path = folder / name
    path.write_text(dedent(text))
    path.chmod(mode)
    return path


GOOD = {"base_url": "https://toy.example", "token": "secret://env/TOKEN"}


def build(folder: Path, config: dict[str, Any] | None = None, *, handler=None, bindings=None, **more: Any) -> Registry:
    return Registry.build(
        more.pop("instances", {"toy-1": InstanceConfig(use="toy", config=config or GOOD)}),
        bindings or {},
        SecretResolver({"TOKEN": "token-1"}),
        clock=SystemClock(),
        connectors_dir=folder,
        transport=Played(handler or (lambda _: httpx.Response(200))),
        **more,
    )


def request(mode: str = "fine", *, verb: str = "isolate", effect: Effect = Effect.UNSAFE, **more: Any) -> ActionRequest:
    fields = {
        "run_id": "run-1", "path": "0", "step_id": "s", "connector": "toy", "instance": "toy-1",
        "connector_version": "1.2.3", "verb": verb, "effect": effect, "risk": Risk.CONTAIN,
        "impact": Impact.REVERSIBLE, "params": {"host": "h1", "mode": mode}, "idempotency_key": "k",
    }  # fmt: skip
    return ActionRequest(**(fields | more))


# Loading


def test_a_dropped_in_connector_is_loaded_with_name_version_digest_and_origin(folder):
    info = build(folder).loaded()[0]
    assert (info.name, info.version, info.origin) == ("toy", "1.2.3", str(folder / "toy.py"))
    assert info.digest == digest_of(folder / "toy.py")


def test_the_digest_changes_with_any_byte_or_name_and_ignores_caches(tmp_path):
    package = tmp_path / "p"
    (package / "__pycache__").mkdir(parents=True)
    (package / "a.py").write_text("1")
    first = digest_of(package)
    (package / "__pycache__" / "a.pyc").write_text("x")
    assert digest_of(package) == first
    (package / "a.py").write_text("2")
    second = digest_of(package)
    (package / "a.py").rename(package / "b.py")
    assert len({first, second, digest_of(package)}) == 3


def test_a_connector_that_no_instance_uses_is_not_imported(folder):
    write(folder, "broken.py", "raise RuntimeError('imported')")
    assert "broken" in Loader(folder).names()
    build(folder)


def test_a_connector_that_cannot_be_imported_is_named_with_its_file(folder):
    write(folder, "broken.py", "raise RuntimeError('no luck')")
    with pytest.raises(ConfigError, match=r"'broken' from .*broken\.py cannot be loaded: RuntimeError: no luck"):
        build(folder, instances={"b": InstanceConfig(use="broken")})


@pytest.mark.parametrize("writable", [".", "toy.py", "package", "package/__init__.py", "package/inner.py"])
def test_a_folder_or_file_that_everyone_can_write_is_refused(folder, writable):
    (folder / "package").mkdir(mode=0o755)
    write(folder, "package/__init__.py", "")
    write(folder, "package/inner.py", "")
    (folder / writable).chmod(0o777)
    with pytest.raises(ConfigError, match="chmod o-w"):
        Loader(folder)


def test_a_connector_with_the_name_of_an_installed_one_is_a_start_up_error(folder):
    write(folder, "jira.py", "")
    with pytest.raises(ConfigError, match="two connectors are named 'jira'"):
        Loader(folder)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('        """Isolate."""\n', "", "docstring"),
        ("self, params: Params, call: Call) -> State", "self, params, call: Call) -> State", "annotated"),
        ('undo="release"', 'undo="undo_it"', "no action"),
        ('targets={"host"', 'targets={"hast"', "no field"),
        ("risk=Risk.CONTAIN", 'capability="host.explode"', "no capability"),
        ("risk=Risk.CONTAIN", 'capability="ip.block"', "params lack 'ip'"),
        ("    host: str\n    hosts", "    host: str\n    key: str\n    hosts", "params require 'key'"),
        ("    host: str\n    isolated", "    isolated", "lacks 'host'"),
        ('    version = "1.2.3"\n', "", "lacks version"),
        ('name = "toy"', 'name = "tay"', "no Connector with name"),
    ],
)  # fmt: skip
def test_without_a_complete_declaration_there_is_no_load(folder, old, new, why):
    text = TOY.replace("risk=Risk.CONTAIN, undo", 'risk=Risk.CONTAIN, capability="host.isolate", undo')
    if "Risk.CONTAIN" in old:
        text = TOY
    assert old in text
    write(folder, "toy.py", text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=why):
        build(folder)


# Configuration


@pytest.mark.parametrize(
    ("config", "path", "why"),
    [
        ({"base_url": "https://a.example"}, ("toy-1", "config", "token"), "'token' is missing"),
        (GOOD | {"bese_url": 1}, ("toy-1", "config", "bese_url"), "did you mean 'base_url'"),
        (GOOD | {"token": "hunter2-plain"}, ("toy-1", "config", "token"), "must be a reference"),
        (GOOD | {"base_url": "ftp://x"}, ("toy-1", "config", "base_url"), "write https://HOST"),
        (GOOD | {"base_url": "https://10.0.0.1"}, ("toy-1", "config"), "allow_private"),
        (GOOD | {"ca_file": "/no/such/file"}, ("toy-1", "config"), "No such file"),
        (GOOD | {"max_concurrent": 0}, ("toy-1", "config", "max_concurrent"), "greater than or equal to 1"),
    ],
)
def test_a_configuration_error_names_instance_field_place_and_remedy(folder, config, path, why):
    asked = []

    def locate(at):
        asked.append(at)
        return Place("soar.yaml", 7, 3)

    with pytest.raises(ConfigError, match=why) as caught:
        Registry.build(
            {"toy-1": InstanceConfig(use="toy", config=config)},
            {},
            SecretResolver({}),
            clock=SystemClock(),
            connectors_dir=folder,
            locate=locate,
        )
    assert asked == [path]
    assert str(caught.value).startswith("soar.yaml:7:3: toy-1: ")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_everything_wrong_is_told_at_once(folder):
    instances = {
        "a": InstanceConfig(use="toy", config={}),
        "b": InstanceConfig(use="jiro"),
        "C!": InstanceConfig(use="toy", config=GOOD),
    }
    with pytest.raises(ConfigError) as caught:
        build(folder, instances=instances, bindings={"tickets.*": "a", "ticket.*": "zz"})
    text = str(caught.value)
    for part in (
        "a: 'base_url' is missing", "a: 'token' is missing", "no connector 'jiro'; did you mean 'jira'?",
        "'C!' is no instance name", "no capability 'tickets.*'", "names no connector 'zz'",
    ):  # fmt: skip
        assert part in text


def test_a_binding_to_an_instance_that_offers_nothing_of_it_is_refused(folder):
    with pytest.raises(ConfigError, match="offers none"):
        build(folder, bindings={"ticket.*": "toy-1"})


# Preparing


def test_params_are_completed_and_normalised(folder):
    assert build(folder).prepare("toy-1", "isolate", {"host": "h"}) == {"host": "h", "hosts": [], "mode": "fine"}


def test_wrong_params_are_all_listed_without_their_values(folder):
    with pytest.raises(InputError) as caught:
        build(folder).prepare("toy-1", "isolate", {"hust": "private-1", "mode": ["private-2"]})
    text = str(caught.value)
    assert "toy-1.isolate: " in text
    assert "'host' is missing" in text
    assert "unknown key 'hust'; did you mean" in text
    assert "'mode': " in text
    assert "private" not in text


def test_an_unknown_instance_or_verb_is_named_with_a_suggestion(folder):
    with pytest.raises(NotFoundError, match="did you mean 'toy-1'"):
        build(folder).prepare("toy-2", "isolate", {})
    with pytest.raises(NotFoundError, match="did you mean 'isolate'"):
        build(folder).prepare("toy-1", "isolat", {})


def test_targets_are_every_value_of_every_declared_field(folder):
    found = build(folder).targets("toy-1", "isolate", {"host": "h1", "hosts": ["h2", "", "h3"]})
    assert [(each.type, each.id) for each in found] == [("host", "h1"), ("host", "h2"), ("host", "h3")]


def test_the_catalogue_resolves_instances_connectors_and_bindings(folder):
    text = TOY.replace("risk=Risk.CONTAIN, undo", 'risk=Risk.CONTAIN, capability="host.isolate", undo')
    write(folder, "toy.py", text)
    catalogue = build(folder, bindings={"host.*": "toy-1"}).catalogue()
    for use in ("toy-1.isolate", "toy.isolate", "host.isolate"):
        offer = catalogue.resolve(use)
        assert offer is not None
        assert (offer.instance, offer.spec.verb, offer.connector_version) == ("toy-1", "isolate", "1.2.3")


# Invoking


async def outcome(folder: Path, req: ActionRequest, handler=None, *, seconds: float = 5) -> Any:
    registry = build(folder, handler=handler)
    try:
        return (await registry.invoke(req, make_call(seconds=seconds))).value
    except ConnectorError as failure:
        return failure
    finally:
        await registry.close()


async def test_a_result_comes_back_as_its_declared_fields(folder):
    assert await outcome(folder, request()) == {"host": "h1", "isolated": True}


@pytest.mark.parametrize("mode", ["defect", "slow", "wrong"])
async def test_an_end_that_proves_nothing_is_unknown_for_a_write_and_a_failure_for_a_read(folder, mode):
    assert type(await outcome(folder, request(mode), seconds=0.1)) is OutcomeUnknownError
    read = request(mode, verb="release", effect=Effect.READ)
    assert type(await outcome(folder, read, seconds=0.1)) is RemoteFailureError


async def test_params_that_do_not_fit_are_refused_before_anything_is_sent(folder):
    seen = []
    result = await outcome(
        folder, request(params={"hust": "h1"}), lambda sent: seen.append(sent) or httpx.Response(200)
    )
    assert type(result) is RejectedError
    assert seen == []


async def test_an_instance_that_is_gone_is_refused_before_anything_is_sent(folder):
    assert type(await outcome(folder, request(instance="gone"))) is RejectedError


@pytest.mark.parametrize("mode", ["twice", "look"])
@pytest.mark.parametrize("second", [400, 401, 404, 429, 503])
async def test_a_refusal_after_a_first_success_is_unknown_as_the_action_was_done_in_part(folder, mode, second):
    """Nothing may take a half-done action for one that did not happen."""

    def handler(sent: httpx.Request) -> httpx.Response:
        return httpx.Response(second if sent.url.path == "/again" else 200, headers={"Retry-After": "1"})

    assert type(await outcome(folder, request(mode), handler)) is OutcomeUnknownError


async def test_a_refusal_of_the_first_request_keeps_its_name(folder):
    assert type(await outcome(folder, request(), lambda _: httpx.Response(404))).__name__ == "RemoteNotFoundError"


async def test_concurrent_calls_do_not_share_what_they_know(folder):
    """One call's success must not make another call's clean refusal unknown."""

    def handler(sent: httpx.Request) -> httpx.Response:
        return httpx.Response(400 if b'"bad"' in sent.content else 200)

    registry = build(folder, handler=handler)
    bad = request(params={"host": "bad"})
    call = make_call()
    results = await asyncio.gather(
        *(registry.invoke(each, call) for each in (request(), bad, request(), bad)), return_exceptions=True
    )
    assert [type(each).__name__ for each in results] == ["ActionResult", "RejectedError"] * 2


async def test_a_connection_test_says_as_whom_we_are_known_or_why_not(folder):
    registry = build(folder, handler=lambda _: httpx.Response(200, content=b"soar\x1b[2J"))
    assert await registry.test("toy-1") == "soar [2J"
    with pytest.raises(NotFoundError):
        await registry.test("toy-2")
    silent = build(folder, config=GOOD | {"token": "secret://env/NONE"})
    with pytest.raises(NotSentError, match="secret://env/NONE"):
        await silent.test("toy-1")


# Reading back

READ_BACK = '''
    @action(effect=Effect.VERIFIABLE, verify="status", shows={"isolated": True})
    async def cut(self, params: Params, call: Call) -> State:
        """Cut."""
        return State(host=params.host, isolated=True)

    @action(effect=Effect.READ)
    async def status(self, params: Params, call: Call) -> State:
        """Look."""
        return (await self.http.get("/status", call=call)).parse(State)
'''


async def read_back(folder: Path, status: int, shown: bool, text: str = READ_BACK) -> Any:
    write(folder, "toy.py", TOY + text)
    registry = build(folder, handler=lambda _: httpx.Response(status, json={"host": "h1", "isolated": shown}))
    found = await registry.read_back(request(verb="cut", effect=Effect.VERIFIABLE), make_call())
    return found.value if found else None


async def test_a_read_back_that_shows_it_gives_the_actions_result(folder):
    assert await read_back(folder, 200, shown=True) == {"host": "h1", "isolated": True}


async def test_a_read_back_that_does_not_show_it_or_finds_nothing_proves_nothing(folder):
    assert await read_back(folder, 200, shown=False) is None


async def test_a_read_back_that_finds_nothing_proves_nothing(folder):
    assert await read_back(folder, 404, shown=True) is None


async def test_a_read_back_of_an_action_that_says_not_what_it_shows_is_never_conclusive(folder):
    assert await read_back(folder, 200, shown=True, text=READ_BACK.replace(', shows={"isolated": True}', "")) is None


async def test_a_read_back_that_fails_says_so(folder):
    with pytest.raises(RemoteFailureError):
        await read_back(folder, 500, shown=True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (', verify="status", shows={"isolated": True}', ""),
        ('verify="status"', 'verify="isolate"'),
        ('call: Call) -> State:\n        """Look', 'call: Call) -> Other:\n        """Look'),
    ],
)  # fmt: skip
def test_a_verifiable_action_without_a_read_of_the_same_shape_does_not_load(folder, old, new):
    other = "\nclass Other(Result):\n    host: str\n"
    write(folder, "toy.py", TOY.replace("\nclass Toy(", f"{other}\nclass Toy(") + READ_BACK.replace(old, new))
    with pytest.raises(ConfigError, match=r"verifiable|must take"):
        build(folder)
