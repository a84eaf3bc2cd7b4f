"""Trust policies: what is asked for is what is enforced, by our verifier and by the one that stands alone alike."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from soar.errors import JournalError
from soar.journal import standalone
from soar.journal.trust import TrustPolicy

from .logs import LOG, POLICY, STRANGER, WITNESSED, WITNESSES, make_log

LOGS = make_log(5)
W0, W1, W2 = (str(each.verifier) for each in WITNESSES)
TWO_LEVELS = f"""# Two houses: any two of the first, and the second.
log {LOG.verifier} https://log.example/

witness a {W0} https://a.example/
witness\tb {W1}
  witness c {W2}
group first any a b
group both all first c
quorum both
"""


def opened_by_us(policy: str, note: str) -> None:
    TrustPolicy.from_text(policy).open(note)


def opened_alone(policy: str, note: str) -> None:
    standalone.open_checkpoint(note, standalone.Policy(policy), quorum=True)


both = pytest.mark.parametrize("opened", [opened_by_us, opened_alone])


@both
@pytest.mark.parametrize(
    ("signers", "enough"),
    [((), False), ((0,), False), ((2,), False), ((0, 1), False), ((0, 2), True), ((1, 2), True), ((0, 1, 2), True)],
)
def test_groups_of_witnesses(opened: Callable[[str, str], None], signers: tuple[int, ...], enough: bool) -> None:
    note = LOGS.signed(witnesses=[WITNESSES[number] for number in signers])
    if enough:
        opened(TWO_LEVELS, note)
    else:
        with pytest.raises((JournalError, ValueError), match=r"quorum|too few"):
            opened(TWO_LEVELS, note)


@both
def test_a_witness_makes_no_log(opened: Callable[[str, str], None]) -> None:
    note = LOGS.signed(signer=STRANGER, witnesses=WITNESSES)
    with pytest.raises((JournalError, ValueError), match="signed"):
        opened(POLICY.to_text() + "", note)
    with pytest.raises((JournalError, ValueError), match="signed"):
        opened(WITNESSED.to_text(), note)


@both
@pytest.mark.parametrize("policy", [POLICY, WITNESSED])
def test_a_policy_reads_as_it_was_written(opened: Callable[[str, str], None], policy: TrustPolicy) -> None:
    assert TrustPolicy.from_text(policy.to_text()) == policy
    opened(policy.to_text(), LOGS.signed(witnesses=WITNESSES))


def test_who_witnessed_is_told() -> None:
    assert list(WITNESSED.open(LOGS.signed(witnesses=WITNESSES[:2])).witnessed) == [each.name for each in WITNESSES[:2]]
    with pytest.raises(JournalError, match=r"lacks the quorum .*; it was witnessed by witness-0\.example"):
        WITNESSED.open(LOGS.signed(witnesses=WITNESSES[:1]))


@both
@pytest.mark.parametrize(
    "text",
    [
        "",
        f"log {LOG.verifier}\n",
        f"log {W0}\nquorum none\n",
        f"witness a {LOG.verifier}\nquorum a\n",
        "quorum a\n",
        "quorum none\nquorum none\n",
        "believe everybody\nquorum none\n",
        f"witness a {W0}\nwitness a {W1}\nquorum a\n",
        f"witness a {W0}\ngroup g 2 a\nquorum g\n",
        f"witness a {W0}\ngroup g 0 a\nquorum g\n",
        f"witness a {W0}\ngroup g any\nquorum g\n",
        f"witness a {W0}\ngroup g any a a\nquorum g\n",
        f"group g any h\nwitness h {W0}\nquorum g\n",
        f"log {str(LOG.verifier)[:-4]}\nquorum none\n",
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(opened: Callable[[str, str], None], text: str) -> None:
    with pytest.raises((JournalError, ValueError)):
        opened(text, LOGS.signed(witnesses=WITNESSES))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"log {LOG.verifier}\nlog {LOG.verifier}\nquorum none\n", "line 2: this log key stands here twice"),
        (f"witness a {W0}\nwitness b {W0}\nquorum a\n", "line 2: this witness key stands here twice"),
        (f"witness a {W0}\ngroup g any a\ngroup h any a g\nquorum h\n", "line 3: 'a' is a member twice"),
        (f"witness none {W0}\nquorum none\n", "line 1: the name 'none' is taken"),
        ("log\nquorum none\n", "line 1: it has too few or too many words"),
    ],
)
def test_a_wrong_line_is_named(text: str, said: str) -> None:
    with pytest.raises(JournalError, match=said):
        TrustPolicy.from_text(text)


def test_a_quorum_of_more_witnesses_than_there_are() -> None:
    with pytest.raises(JournalError, match="a quorum of 4 cannot be had from 3"):
        TrustPolicy.of([LOG.verifier], witnesses=[each.verifier for each in WITNESSES], quorum=4)
