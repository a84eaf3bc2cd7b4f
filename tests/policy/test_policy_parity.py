"""The embedded engine and a real OPA give the same answers: builtin by builtin, and on the starter policies."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st

from soar.cli.opa import opa_tests
from soar.policy.bundle import Bundle, load_bundle
from soar.policy.dialect import BUILTINS
from soar.policy.embedded import EmbeddedEngine
from soar.policy.input import (
    ActorFacts,
    ApprovalFacts,
    Count,
    Counters,
    PlaybookFacts,
    PolicyInput,
    RunFacts,
    TimeFacts,
)
from soar.policy.rego import Module, evaluate, new_engine
from soar.policy.server import OpaEngine
from soar.policy.testing import run_tests

from .opa_server import serve
from .policy_questions import MONDAY, RISKS, ROOT, question

SEED = int(os.environ.get("SOAR_PARITY_SEED", "20260105"))
CORPUS = 2200

DUTIES = """
rate: [{on: ["host.*"], key: all, limit: 30, window: 10m}]
expire: [{on: [host.block], after: 24h}]
notify: [{on: [host.disable], group: soc-lead, msg: An account is concerned}]
redact: [{on: ["*"], fields: [token]}]
"""

SAMPLES = r"""
abs(-2.5) ; ceil(1.2) ; floor(-1.2) ; max([1, 3, 2]) ; max({"a", "b"}) ; min([2, 1]) ; product([2, 3])
sum([1, 2.5]) ; sum(set()) ; to_number("12.5") ; to_number(true) ; numbers.range(3, 1) ; 7 % 3 ; 1 / 4 ; -7 / 2
concat("-", ["a", "b"]) ; concat(",", {"b", "a"}) ; contains("abc", "bc") ; endswith("abc", "bc")
format_int(255, 16) ; indexof("höst", "s") ; indexof("a", "z") ; replace("aaa", "a", "b") ; split("a.b.", ".")
split("", ".") ; sprintf("%s %d %v %%", ["a", 3, 2.5]) ; sprintf("%v", [1000000]) ; sprintf("%v", [true])
sprintf("%v", [null]) ; startswith("ünï", "ü") ; strings.any_prefix_match("dc-01", ["x", "dc"])
strings.any_prefix_match(["a", "b"], []) ; strings.any_suffix_match({"a.exe"}, {".exe"})
substring("ünïcode", 1, 3) ; substring("abc", 1, -1) ; substring("abc", 0, 9) ; trim("  a ", " ")
trim_left("aab", "a") ; trim_prefix("dc-1", "dc-") ; trim_right("baa", "a") ; trim_space("\t a \n")
trim_suffix("a.b", ".b") ; array.concat([1], [2]) ; array.reverse([1, 2]) ; array.slice([1, 2, 3], 1, 9)
count("höst") ; count({}) ; sort([3, "a", null, true, [1], 1.5]) ; sort({"b", "a"})
intersection({{1, 2}, {2}}) ; union({{1}, {2}}) ; {1, 2} - {2} ; object.filter({"a": 1, "b": 2}, ["a"])
object.get({"a": {"b": 1}}, ["a", "b"], 0) ; object.get({"a": [5]}, ["a", 0], 0) ; object.get({}, "x", "y")
object.keys({"b": 1, "a": 2}) ; object.remove({"a": 1, "b": 2}, ["b"])
object.union({"a": {"x": 1}}, {"a": {"y": 2}}) ; is_array([]) ; is_boolean(0) ; is_null(null) ; is_number("1")
is_object({}) ; is_set(set()) ; is_string("") ; type_name(1.5) ; type_name({1}) ; type_name(null)
glob.match("host.*", ["."], "host.isolate") ; glob.match("dc-*", null, "dc-01.corp")
glob.match("a?c", [], "abc") ; glob.match("*", [], "a\nb") ; net.cidr_contains("10.0.0.0/8", "10.1.1.1")
net.cidr_contains("10.0.0.0/8", "fd00::1") ; net.cidr_contains("fc00::/7", "fd12::9")
net.cidr_contains("10.0.0.0/8", "10.2.0.0/16") ; net.cidr_contains("::/0", "1.2.3.4")
net.cidr_is_valid("10.0.0.0/33") ; net.cidr_is_valid("10.0.0.1") ; net.cidr_is_valid("")
regex.match("^[a-z]+$", "dc") ; regex.match("^\\d{4}-\\d{2}$", "2026-01") ; regex.match("(?i)DC", "dc")
null < 1 ; "a" < ["b"] ; 1 == 1.0
"""


def samples() -> list[str]:
    return [sample.strip() for line in SAMPLES.strip().splitlines() for sample in line.split(" ; ")]


def test_every_builtin_that_policies_may_use_has_a_sample() -> None:
    text = " ".join(samples())
    assert {name for name in BUILTINS if f"{name}(" not in text} == set()


def test_every_builtin_gives_the_same_answer_on_both_engines(opa_binary: Path, tmp_path: Path) -> None:
    rules = [f"r{number} := {sample}" for number, sample in enumerate(samples())]
    path = tmp_path / "builtins.rego"
    path.write_text("package builtins\n\n" + "\n\n".join(rules) + "\n")
    command = [opa_binary, "eval", "--data", path, "--format", "json", "data.builtins"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    real = json.loads(done.stdout)["result"][0]["expressions"][0]["value"]
    engine = new_engine([Module("builtins.rego", str(path), path.read_text())], b"{}")
    embedded = {f"r{n}": evaluate(engine, f"data.builtins.r{n}", b"{}") for n in range(len(rules))}
    differing = {
        sample: (embedded[f"r{number}"], real.get(f"r{number}"))
        for number, sample in enumerate(samples())
        if embedded[f"r{number}"] != (f"r{number}" in real, real.get(f"r{number}"))
    }
    assert differing == {}


hosts = st.sampled_from(["ws-17", "WS-9.corp.example", "dc-01", "dc12", "srv-a", "soar", "10.1.2.3", "db-1.corp"])
users = st.sampled_from(["j.doe", "CORP\\breakglass1", "ceo@corp.example", "exec-x", "ada"])
addresses = st.ip_addresses().map(str) | st.sampled_from(
    ["10.0.0.1", "::ffff:192.168.0.1", "0.0.0.0/0", "fe80::1%eth0"]
)
targets = st.one_of(
    hosts.map("host:{}".format),
    users.map("user:{}".format),
    addresses.map("ip:{}".format),
    st.tuples(st.sampled_from(["host", "user", "ip", "observable"]), st.text(max_size=12)).map(":".join),
)
counts = st.builds(Count, hour=st.integers(0, 80), day=st.integers(0, 600))
votes = st.builds(
    ApprovalFacts,
    approver=st.sampled_from(["ada", "grace", "soar"]),
    method=st.sampled_from(["cli", "slack"]),
    at=st.just("2026-01-05T12:00:00Z"),
    digest=st.just("00"),
    decision=st.sampled_from(["grant", "deny"]),
)


texts = st.text(max_size=9)
times = {
    (open_now, freeze): TimeFacts.of(MONDAY, business_hours=open_now, freeze=freeze)
    for open_now in (True, False)
    for freeze in ((), ("year end",))
}
parts = st.fixed_dictionaries(
    {
        "verb": st.sampled_from([*RISKS, "create"]),
        "targets": st.lists(targets, max_size=3),
        "severity": st.sampled_from(["informational", "low", "medium", "high", "critical"]),
        "confidence": st.none() | st.integers(0, 100),
        "effect": st.sampled_from(["read", "reversible", "destructive"]),
        "risk": st.sampled_from(["none", "contain", "destructive"]),
        "named": st.booleans(),
        "params": st.dictionaries(texts, st.none() | st.integers(-5, 5) | texts, max_size=2),
        "playbook": st.builds(
            PlaybookFacts, id=st.sampled_from(["p1", "p2"]), sha256=st.just("00"), author=st.sampled_from([None, "ada"])
        ),
        "run": st.builds(
            RunFacts,
            id=st.just("r"),
            kind=st.sampled_from(["alert", "undo", "manual"]),
            attempt=st.integers(1, 25),
            depth=st.integers(0, 7),
        ),
        "actor": st.sampled_from(["soar", "grace"]),
        "votes": st.lists(votes, max_size=2),
        "counted": st.dictionaries(targets, counts, max_size=1),
        "connector": st.dictionaries(st.sampled_from(["lab_host", "other"]), counts),
        "playbooks": st.dictionaries(st.sampled_from(["p1", "p2"]), counts),
        "fleet": st.dictionaries(st.sampled_from(["host", "user"]), st.floats(0, 100)),
        "time": st.sampled_from(list(times.values())),
        "halted": st.integers(0, 19).map(lambda number: number == 0),
    }
)


def posed(parts: dict[str, Any]) -> PolicyInput:
    """Anything the engine could ask, with the cases that rules turn on made likely."""
    name = f"host.{parts['verb']}"
    action = {key: parts[key] for key in ("effect", "risk", "params")}
    return question(
        name,
        *parts["targets"],
        severity=parts["severity"],
        confidence=parts["confidence"],
        action={**action, "capability": name if parts["named"] else None},
        playbook=parts["playbook"],
        run=parts["run"],
        actor=ActorFacts(id=parts["actor"]),
        approvals=tuple(parts["votes"]),
        counters=Counters(
            target=parts["counted"],
            connector=parts["connector"],
            playbook=parts["playbooks"],
            fleet_percent=parts["fleet"],
        ),
        time=parts["time"],
        halted=parts["halted"],
    )


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The starters as somebody uses them: the allowlist, which comes open, and the empty duties say something."""
    folder = tmp_path_factory.mktemp("used") / "policies"
    shutil.copytree(ROOT / "policies", folder)
    (folder / "data/allowlist.yaml").write_text(
        'otherwise: ["*"]\nplaybooks: {p2: [host.isolate, "lab_host.delete"]}\n'
    )
    (folder / "data/duties.yaml").write_text(DUTIES)
    return load_bundle(folder)


@pytest.fixture(scope="module")
def opa_url(opa_binary: Path, used: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("bundle")
    used.export(folder)
    with serve(opa_binary, folder) as url:
        yield url


def corpus() -> list[dict[str, Any]]:
    """Different questions, the same for the same seed."""
    found: dict[str, dict[str, Any]] = {}

    @seed(SEED)
    @settings(max_examples=CORPUS, deadline=None, database=None, phases=[Phase.generate])
    @given(parts)
    def generate(drawn: dict[str, Any]) -> None:
        document = posed(drawn).document()
        found[json.dumps(document, sort_keys=True)] = document

    generate()
    return list(found.values())


async def test_the_starters_decide_the_same_on_both_engines(opa_url: str, used: Bundle) -> None:
    """Thousands of generated questions, among them some for which each control has something to say."""
    documents = corpus()
    print(  # noqa: T201 - pytest shows it where the test fails
        f"seed {SEED}, {len(documents)} questions; SOAR_PARITY_SEED sets another"
    )
    assert len(documents) >= 2000
    embedded = EmbeddedEngine(used, timeout_seconds=60)
    server = OpaEngine(opa_url, revision=used.revision, timeout_seconds=60)
    ours, theirs = await asyncio.gather(*(engine.evaluate_many(documents) for engine in (embedded, server)))
    for engine in (embedded, server):
        await engine.close()
    for document, one, other in zip(documents, ours, theirs, strict=True):
        assert one == other, f"seed {SEED}: {json.dumps(document)}"
    assert {answer.value["effect"] for answer in ours} == {"allow", "deny", "require_approval"}
    told = {reason["control"] for answer in ours for reason in answer.value["reasons"]}
    assert told == used.mandatory_controls - {"duties"}  # which obliges, and gives no reasons
    obliged = {obligation["type"] for answer in ours for obligation in answer.value["obligations"]}
    assert obliged == {"approval", "rate", "expire", "notify", "redact"}


def test_the_starters_tests_pass_on_both_engines(opa_binary: Path, starters: Bundle, tmp_path: Path) -> None:
    report = run_tests(Path(__file__).parents[2] / "policies")
    assert [result for result in report.results if result.outcome != "passed"] == []
    starters.export(tmp_path)
    done = subprocess.run(
        [opa_binary, "test", "--format", "json", "--bundle", tmp_path], capture_output=True, check=True
    )
    names = {f"{test['package']}.{test['name']}" for test in json.loads(done.stdout) if not test.get("fail")}
    assert names == {result.name for result in report.results}
    assert report.percent >= 95
    theirs = opa_tests(ROOT / "policies", str(opa_binary))
    assert theirs.passed
    assert theirs.percent >= 95


def test_opa_finds_no_fault_with_the_starters(opa_binary: Path, starters: Bundle, tmp_path: Path) -> None:
    """Formatted, strict, and typed against the input's schema."""
    folder = Path(__file__).parents[2] / "policies"
    starters.export(tmp_path)
    unformatted = subprocess.run([opa_binary, "fmt", "--list", folder], capture_output=True, text=True, check=True)
    assert unformatted.stdout == ""
    check: list[Any] = [
        opa_binary,
        "check",
        "--strict",
        "--schema",
        folder / "schemas/input.json",
        "--bundle",
        tmp_path,
    ]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
