"""What changed between two bundles, and that generated questions find it."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from soar.policy.bundle import Bundle, load_bundle
from soar.policy.compare import Comparison, compare
from soar.policy.corpus import QUESTIONS, corpus
from soar.policy.replay import Bench

from .policy_questions import ROOT

HONOURS = ("approval", "expire")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "policies", tmp_path / "new"))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def compared(folder: Path, starters: Bundle) -> Comparison:
    return compare((ROOT / "policies", starters), (folder, load_bundle(folder)), honours=HONOURS)


def test_a_bundle_and_its_copy_do_not_differ(folder: Path, starters: Bundle) -> None:
    found = compared(folder, starters)
    assert not found.differs
    assert found.asked == QUESTIONS


def test_a_value_is_told_with_its_path_its_place_and_the_verdicts_that_it_turns(folder: Path, starters: Bundle) -> None:
    change(folder / "data/matrix.yaml", "  high: allow", "  high: approval")
    found = compared(folder, starters)
    (value,) = found.values
    assert (value.path, value.word, value.old, value.new) == (
        ("matrix", "contain", "high"), "changed", "allow", "approval",
    )  # fmt: skip
    assert str(value.place) == f"{folder}/data/matrix.yaml:8:9"
    assert (found.files, found.controls) == ((), ())
    assert {(each.kind, each.controls) for each in found.verdicts} == {("allow->ask", ("matrix",))}


def test_what_comes_to_a_list_and_what_goes_is_told_item_by_item(folder: Path, starters: Bundle) -> None:
    change(folder / "data/assets.yaml", "names: [adconnect]", "names: [adconnect, entra]")
    change(folder / "data/assets.yaml", "prefixes: [edr-, siem, soc-, splunk]", "prefixes: [edr-, soc-, splunk]")
    found = [(".".join(each.path), each.word, each.old, each.new) for each in compared(folder, starters).values]
    assert found == [
        ("assets.protected.identity provider.names", "added", None, "entra"),
        ("assets.protected.security tools.prefixes", "removed", "siem", None),
    ]


def test_a_control_that_goes_is_told_and_what_it_held_back(folder: Path, starters: Bundle) -> None:
    (folder / "controls/protected.rego").unlink()
    (folder / "controls/protected_test.rego").unlink()
    change(folder / "data/controls.yaml", "protected, ", "")
    found = compared(folder, starters)
    assert [(each.control, each.word) for each in found.controls] == [
        ("protected", "removed"),
        ("protected", "not mandatory any more"),
    ]
    assert {each.path: each.word for each in found.files} == {
        "controls/protected.rego": "removed",
        "controls/protected_test.rego": "removed",
    }
    assert any(each.kind.startswith("deny->") and each.controls == ("protected",) for each in found.verdicts)


def test_the_same_bundles_give_the_same_questions_and_each_verdict_has_its_share(starters: Bundle) -> None:
    asked = [question.document() for question in corpus(starters)]
    assert asked == [question.document() for question in corpus(starters)]
    with Bench(starters, honours=HONOURS) as bench:
        shares = Counter(ruling.effect for ruling in bench.rule(asked))
    assert min(shares.values()) >= QUESTIONS // 20, shares
    assert set(shares) == {"allow", "ask", "deny"}
