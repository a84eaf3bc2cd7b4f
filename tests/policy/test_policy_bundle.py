# ruff: noqa: E501 - one case a line reads as a table
"""A bundle that is wrong anywhere is refused whole, with the place and the remedy."""

import shutil
from pathlib import Path

import pytest

from soar.errors import PolicyError
from soar.policy.bundle import Bundle, load_bundle

from .policy_questions import DECISION, ROOT, Write


def refusal(folder: Path) -> str:
    """What a person reads, with the folder cut away."""
    with pytest.raises(PolicyError) as caught:
        load_bundle(folder)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("x if {\n\tinput.phase == \n}", "rule.rego:5:1: expecting expression"),
        ("x {\n\tinput.halted\n}", "rule.rego:3:3: `if` keyword is required before rule body; this is Rego v0"),
        ("x if {\n\tinput.halted\n\ty == 1\n}", "rule.rego:5:2: use of undefined variable `y` is unsafe; give it a value"),
        ("x if input.alrt.severity", "rule.rego:3:6: nothing at input.alrt, so this would silently be undefined; did you mean 'alert'?"),
        ("x if {\n\tinput.action.risc\n}", "rule.rego:4:2: nothing at input.action.risc, so this would silently be undefined; did you mean 'risk'?"),
        ("x if data.limts.hour", "rule.rego:3:6: nothing at data.limts"),
        ("import data.limts", "rule.rego:3:8: nothing at data.limts"),
        ("x if data.limits.day", "rule.rego:3:6: nothing at data.limits.day, so this would silently be undefined; add it to data/limits.yaml"),
        ("x if data.soar.main.decison", "rule.rego:3:6: nothing at data.soar.main.decison, so this would silently be undefined; did you mean 'decision'?"),
        ('x if http.send({"url": "http://a"})', "rule.rego:3:6: http.send is no function here and no builtin that policies may use; policy looks nothing up"),
        ("x := time.now_ns()", "rule.rego:3:6: time.now_ns is no function here and no builtin that policies may use; policy has no clock"),
        ("x := io.jwt.decode(input.run.id)", "rule.rego:3:6: io.jwt.decode is no function here"),
        ("x := crypto.sha256(input.run.id)", "rule.rego:3:6: crypto.sha256 is no function here"),
        ("x := opa.runtime()", "rule.rego:3:6: opa.runtime is no function here"),
        ('x := rand.intn("a", 5)', "rule.rego:3:6: rand.intn is no function here"),
        ('x := lower("A")', "rule.rego:3:6: lower is no function here and no builtin that policies may use; the engines differ outside ASCII"),
        ('x if {\n\tevery y in [1] {\n\t\tuuid.rfc4122("a") == y\n\t}\n}', "rule.rego:5:3: uuid.rfc4122 is no function here"),
        ('x if startwith("a", "b")', "rule.rego:3:6: startwith is no function here and no builtin that policies may use; did you mean 'startswith'?"),
        ("import data.soar.main\n\nx if main.f(1)", "rule.rego:5:6: main.f is called through an import; call it by its full path, data.soar.main.f"),
        ("x := {y | some y in [1]} if input.halted", "rule.rego:3:6: a comprehension here; give the value a name in the body"),
        ("x := input.run.id if input.halted else := 1", "rule.rego:3:6: an `else` beside what can be undefined; give the value a name in the body"),
        ("x := 1 if input.halted else := input.run.id", "rule.rego:3:32: an `else` beside what can be undefined"),
    ],
)  # fmt: skip
def test_a_rule_outside_the_profile_is_named_with_its_place(write: Write, rule: str, message: str) -> None:
    """Each of these would be undefined, different, or impossible in one of the engines."""
    folder = write(rule_rego=f"package soar.rule\n\n{rule}\n", data__limits_yaml="hour: 1\n")
    assert refusal(folder).startswith(message)


def test_a_test_that_does_not_parse_refuses_the_bundle_too(write: Write) -> None:
    assert refusal(write(rule_test_rego="package soar.tests\n\ntest_x if\n")).startswith("rule_test.rego:4:1: ")


@pytest.mark.parametrize(
    ("main", "message"),
    [
        ("package soar.man\n\ndecision := 1\n", "there is no data.soar.main.decision; write `decision := {...}` in package soar.main"),
        ("package soar.main\n\ndecison := 1\n", "main.rego: there is no data.soar.main.decision; did you mean 'decison'?"),
        ("package soar.main\n\ndecision := 1 if input.halted\n", "main.rego: data.soar.main.decision is undefined for a plain question"),
        ('package soar.main\n\ndecision := {"effect": "maybe"}\n', "main.rego: data.soar.main.decision is no decision document: effect: Input should be 'allow', 'deny' or 'require_approval'"),
        ("package soar.main\n\ndecision := x\n\nx := 1\n\nx := 2\n", "main.rego:7:1: "),
    ],
)  # fmt: skip
def test_a_bundle_that_cannot_decide_is_refused(write: Write, main: str, message: str) -> None:
    assert message in refusal(write(main_rego=main))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("data__limits_yaml", "hour: 1\nhour: 2\n", "data/limits.yaml:2:1: the key 'hour' stands twice; keep one"),
        ("data__limits_yaml", "hour: [1\n", "data/limits.yaml:2:1: is no YAML"),
        ("data__limits_yaml", "- 1\n", "data/limits.yaml: must hold names and values"),
        ("data__limits_yaml", "hour: 99999999999999999999\n", "data/limits.yaml: holds a number that JSON does not keep exactly"),
        ("data__limits_yml", "hour: 1\n", "data/limits.yml: is no data file; name it <word>.yaml or <word>.json"),
        ("data__soar_yaml", "hour: 1\n", "data/soar.yaml: is no data file"),
        ("data__controls_yaml", "mandatory: all\n", "data/controls.yaml:1:12: 'mandatory' must be a list of control names"),
        ("data__controls_yaml", "mandatory: [mien]\n", "data/controls.yaml:1:12: control 'mien' is mandatory, but no rule evaluates it; did you mean 'mine'?"),
    ],
)  # fmt: skip
def test_data_that_is_wrong_is_named_with_its_place(write: Write, file: str, text: str, message: str) -> None:
    assert refusal(write(**{file: text})).startswith(message)


def test_two_files_for_one_name_are_refused(write: Write) -> None:
    folder = write(data__limits_yaml="hour: 1\n", data__limits_json='{"hour": 2}')
    assert refusal(folder) == "data/limits.yaml: limits.json gives data.limits already; keep one"


def test_no_folder_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="is no folder; `soar init` makes one"):
        load_bundle(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("limits", "target: {hour: 5, day: 20}", 'target: {hour: "5", day: 20}', "data/limits.yaml:2:16: 'target.hour' must be a whole number, 0 or more"),
        ("matrix", "  high: allow", "  high: alow", "data/matrix.yaml:8:9: 'contain.high' must be one of allow, approval, deny, two_people"),
        ("assets", "prefixes: [dc-, dc0, dc1]", "prefixes: [DC-, dc0, dc1]", "data/assets.yaml:9:15: 'protected.domain controllers.prefixes' must be a list of words in lower case, without *"),
        ("networks", "  - 10.0.0.0/8", "  - 10.0.0.0/80", "data/networks.yaml:6:5: 'special.1' is no network"),
        ("freezes", "windows: []", "windows: [{name: x, from: tomorrow, to: 2026-01-01T00:00:00Z}]", "data/freezes.yaml:5:11: 'windows.0' needs name, from and to"),
        ("approvals", "two_people: {soc-lead: 1, ir-manager: 1}", "two_people: {soc-lead: 1}", "data/approvals.yaml:5:15: 'levels.two_people' must ask for at least two people"),
        ("allowlist", 'otherwise: ["*"]', 'otherwise: ["tick*"]', "data/allowlist.yaml:8:12: 'otherwise' must be a list of"),
        ("limits", "depth: 5\n", "", "controls/loops.rego:9:12: nothing at data.limits.depth, so this would silently be undefined; add it to data/limits.yaml"),
    ],
)  # fmt: skip
def test_a_slip_in_the_starters_data_is_named_with_its_place(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    """A limit of "5" would compare as larger than any number, and never hold."""
    folder = tmp_path / "policies"
    shutil.copytree(ROOT / "policies", folder)
    path = folder / "data" / f"{file}.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    assert refusal(folder).startswith(message)


def test_the_revision_is_a_digest_of_what_decides(write: Write) -> None:
    """Rules and data change it; tests and unrelated files do not; the order of reading and the folder's name do not."""
    folder = write(data__limits_yaml="hour: 1\n")
    first = load_bundle(folder).revision
    (folder / "x_test.rego").write_text("package soar.tests\n\ntest_x := true\n")
    (folder / "README.md").write_text("read me")
    assert load_bundle(folder).revision == first
    (folder / "data" / "limits.yaml").write_text("hour: 2\n")
    second = load_bundle(folder).revision
    assert second != first
    (folder / "main.rego").write_text(DECISION.lstrip("\n") + "# a comment\n")
    assert load_bundle(folder).revision not in {first, second}


def test_the_starters_load_with_all_their_controls(starters: Bundle) -> None:
    assert starters.mandatory_controls == {
        path.stem for path in (ROOT / "policies/controls").glob("*.rego") if "_test" not in path.name
    }
