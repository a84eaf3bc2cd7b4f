"""What becomes of records: each has exactly one outcome, told in the same transaction, however often it comes."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from soar.engine.admission import Admission, Admitted, Candidate
from soar.library.index import TriggerIndex
from soar.model.alert import AlertDocument, DeadLetter, Outcome, Record
from soar.model.base import to_rfc3339
from soar.model.run import RunState

from .house import House

TELL = "steps:\n  - {use: notify.send, with: {channel: soc, text: x}}\n"
WAIT = "steps:\n  - wait: 10m\n"


def outcomes(admitted: list[Admitted]) -> list[str]:
    return [one.outcome.value for one in admitted]


async def start(house: House, text: str = WAIT) -> None:
    house.playbook(text)
    await house.start()


async def test_a_record_that_comes_again_is_consumed_once(house: House) -> None:
    """Kafka redelivers; the same batch may come to two consumers at once."""
    await start(house)
    records = [house.record() for _ in range(20)]
    await asyncio.gather(*(house.running.admit(records) for _ in range(4)))
    assert await house.running.admit(records) == []
    assert (await house.store.counts()).alerts == {"matched": 20}
    assert sum((await house.store.counts()).runs.values()) == 20
    await house.restart()
    assert await house.running.admit(records) == []


async def test_the_same_alert_under_other_coordinates_is_a_duplicate(house: House) -> None:
    await start(house)
    first = (await house.running.admit([house.record("a")]))[0]
    again = await house.running.admit([house.record("a"), house.record("a")])
    assert outcomes(again) == ["duplicate", "duplicate"]
    (entry, *_) = [e for e in await house.told(kind="alert.admitted") if e["subject"] == again[0].alert_id]
    assert entry["data"]["repeat_of"] == first.alert_id
    assert sum((await house.store.counts()).runs.values()) == 1


async def test_a_repeat_after_a_day_is_a_new_alert(house: House) -> None:
    await start(house)
    await house.admit(uid="a")
    await house.pass_time(25 * 3600)
    assert (await house.admit(uid="a")).outcome is Outcome.MATCHED


async def test_the_same_name_with_other_content_is_processed_and_told_as_a_conflict(house: House) -> None:
    """Whoever knows an id could otherwise send it first and hide the real alert."""
    await start(house)
    first = (await house.running.admit([house.record("a", title="a forgery")]))[0]
    second = (await house.running.admit([house.record("a", title="the real one")]))[0]
    assert second.outcome is Outcome.MATCHED
    (entry, *_) = [e for e in await house.told(kind="alert.admitted") if e["subject"] == second.alert_id]
    assert entry["data"]["conflicts_with"] == first.alert_id


async def test_sending_two_contents_of_one_name_in_turn_starts_no_more_than_two_runs(house: House) -> None:
    await start(house)
    contents = ["one", "two"] * 5
    admitted = await house.running.admit([house.record("a", title=title) for title in contents])
    assert Counter(outcomes(admitted)) == {"matched": 2, "duplicate": 8}
    for title in contents:
        assert (await house.admit(uid="a", title=title)).outcome is Outcome.DUPLICATE


async def test_dedupe_first_suppresses_the_rest_of_the_window(house: House) -> None:
    await start(house, f"dedupe: {{key: [title], within: 30m}}\n{WAIT}")
    admitted = await house.running.admit([house.record(title=t) for t in ("x", "x", "y", "x")])
    assert outcomes(admitted) == ["matched", "suppressed", "matched", "suppressed"]
    assert (await house.admit(title="x")).outcome is Outcome.SUPPRESSED
    await house.pass_time(1801)
    assert (await house.admit(title="x")).outcome is Outcome.MATCHED


async def test_dedupe_collect_joins_the_rest_to_the_first_ones_run(house: House) -> None:
    await start(house, f"dedupe: {{key: [title], within: 30m, mode: collect}}\n{WAIT}")
    first, second = await house.running.admit([house.record(), house.record()])
    third = await house.admit()
    assert outcomes([first, second, third]) == ["matched", "correlated", "correlated"]
    row = await house.store.alert_row(third.alert_id or "")
    assert row is not None
    assert row.matches[0].run_id == first.run_ids[0]


async def test_dedupe_threshold_starts_with_the_alert_that_reaches_it(house: House) -> None:
    mode = "{threshold: {count: 3}}"
    await start(house, f"dedupe: {{key: [title], within: 30m, mode: {mode}}}\n{WAIT}")
    assert (await house.admit()).outcome is Outcome.SUPPRESSED
    admitted = await house.running.admit([house.record() for _ in range(3)])
    assert outcomes(admitted) == ["suppressed", "matched", "correlated"]
    assert sum((await house.store.counts()).runs.values()) == 1


async def test_dedupe_counts_a_name_once_also_with_numbers_no_json_reader_agrees_on(house: House) -> None:
    await start(house, f"dedupe: {{key: [raw.number], within: 30m}}\nlock: raw.number\n{WAIT}")
    admitted = await house.running.admit([house.record(number=2**63), house.record(number=2**63)])
    assert outcomes(admitted) == ["matched", "suppressed"]


async def test_what_is_older_than_its_trigger_allows_does_nothing(house: House) -> None:
    await start(house, f"on: {{match: {{rule.name: it}}, max_age: 1h}}\n{WAIT}")
    old, new = (to_rfc3339(house.clock.now() - timedelta(minutes=m)) for m in (61, 59))
    admitted = await house.running.admit([house.record(time=old), house.record(time=new)])
    assert outcomes(admitted) == ["expired", "matched"]


async def test_what_cannot_be_read_is_a_dead_letter_and_the_rest_goes_on(house: House) -> None:
    await start(house)
    garbage = [b"", b"\xff\xfe", b"{", b"[" * 5000, b'{"id": NaN}', b'{"a": 1, "a": 2}', b"null", b'"\\ud800"']
    admitted = await house.running.admit([*map(house.raw, garbage), house.record()])
    assert outcomes(admitted)[-1] == "matched"
    assert set(outcomes(admitted)[:-1]) <= {"dead_letter", "no_match"}
    letters = await house.store.dead_letters()
    assert {letter.record.value for letter in letters} >= {b"", b"\xff\xfe", b"{", b"null"}
    assert len(await house.told(kind="record.dead_lettered")) == len(letters)
    assert (await house.verify()).ok


async def test_a_record_on_which_soar_itself_fails_is_a_dead_letter_and_holds_up_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours in reading: else all workers would end at it, one after the other, for ever."""
    await start(house)
    intake = house.running.intake
    normalise = intake._normalise

    def fails_on_some(record: Record) -> Sequence[AlertDocument | DeadLetter]:
        if b"cursed" in record.value:
            raise TypeError("nobody thought of this")
        return normalise(record)

    monkeypatch.setattr(intake, "_normalise", fails_on_some)
    admitted = await house.running.admit([house.raw(b'{"cursed": 1}'), house.record()])
    assert outcomes(admitted) == ["dead_letter", "matched"]
    (letter,) = await house.store.dead_letters()
    assert (letter.code, letter.record.value) == ("bug", b'{"cursed": 1}')
    assert "TypeError: nobody thought of this" in letter.reason
    assert (await house.verify()).ok


async def test_an_alert_on_which_deciding_fails_is_a_dead_letter_and_holds_up_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(house)
    decide = Admission._match

    def fails_on_some(self: Admission, batch: Any, candidate: Candidate, *more: Any) -> Any:
        if "cursed" in candidate.alert.body["raw"]:
            raise KeyError("nobody thought of this")
        return decide(self, batch, candidate, *more)

    monkeypatch.setattr(Admission, "_match", fails_on_some)
    records = [house.record(), house.record(cursed=1), house.record()]
    assert sorted(outcomes(await house.running.admit(records))) == ["dead_letter", "matched", "matched"]
    (letter,) = await house.store.dead_letters()
    assert letter.record == records[1]
    assert "KeyError: 'nobody thought of this'" in letter.reason
    assert (await house.verify()).ok


async def test_what_was_read_before_a_reload_is_matched_against_what_is_in_force(house: House) -> None:
    """The batch that is read ahead may wait for a store for hours."""
    await start(house)
    intake = house.running.intake
    read = await intake.read([house.record(), house.record()])
    in_force, emptied = intake._index, TriggerIndex([])
    intake._index = lambda: emptied
    assert outcomes(await intake.take(read[:1])) == ["no_match"]
    intake._index = in_force
    assert outcomes(await intake.take(read[1:])) == ["matched"]


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "\U0010ffff", "x" * 200_000])
async def test_no_text_of_an_alert_stops_the_door(house: House, text: str) -> None:
    await start(house, TELL)
    value = json.dumps({"id": text, "rule": "it", "title": text, "hostname": text, "user": text, text: text})
    admitted = await house.running.admit([house.raw(value.encode()), house.record()])
    assert outcomes(admitted)[-1] == "matched"
    await house.rest()
    assert {run.state for run in await house.store.runs()} == {RunState.SUCCEEDED}
    assert (await house.verify()).ok


async def test_a_lock_lets_one_run_at_a_time_go_in_the_order_they_came(house: House) -> None:
    await start(
        house,
        'lock: title\nsteps:\n  - {id: t, use: ticket.create, with: {title: "${{ alert.raw.n }} begins"}}\n'
        '  - wait: 1m\n  - {use: ticket.create, with: {title: "${{ alert.raw.n }} ends"}}\n',
    )
    await house.running.admit(
        [house.record(title="same", n=str(n), severity="low" if n < 2 else "high") for n in range(4)]
    )
    await house.running.admit([house.record(title="other", n="free")])
    for _ in range(6):
        await house.rest()
        await house.pass_time(61)
    titles = [line["body"]["title"] for line in house.sent("POST")]
    locked = [title for title in titles if not title.startswith("free")]
    assert locked == [f"{n} {word}" for n in range(4) for word in ("begins", "ends")]
    assert titles.index("free begins") < titles.index("1 begins")


async def test_a_run_that_is_retried_waits_for_whoever_holds_the_lock_now(house: House) -> None:
    await start(
        house,
        'lock: title\nsteps:\n  - {id: note, use: ticket.comment, with: {key: "${{ alert.raw.key }}", text: x},'
        " if: alert.raw.key}\n"
        "  - wait: 1h\n",
    )
    first = await house.go(title="same", key="NONE-1")
    assert first.state is RunState.FAILED
    second = await house.go(title="same")
    assert second.state is RunState.WAITING
    await house.control().retry(first.id, reason="again")
    await asyncio.sleep(0.1)
    assert (await house.run(first.id)).state is RunState.READY
    assert (await house.store.counts()).runs == {"ready": 1, "waiting": 1}


async def test_every_alert_says_for_each_playbook_what_became_of_it(house: House) -> None:
    house.playbook(f"on: {{match: {{rule.name: it}}, max_age: 1m}}\n{WAIT}", "late")
    house.playbook(f"on: {{match: {{rule.name: it}}}}\ndedupe: {{key: [title], within: 1h}}\n{WAIT}", "once")
    house.playbook(f"on: {{match: {{rule.name: else}}}}\n{WAIT}", "other")
    await house.start()
    old = to_rfc3339(house.clock.now() - timedelta(minutes=5))
    first, second = await house.admit(time=old), await house.admit(time=old)
    rows = [await house.store.alert_row(one.alert_id or "") for one in (first, second)]
    found = [{m.playbook_id: m.outcome.value for m in row.matches} for row in rows if row]
    assert found == [{"late": "expired", "once": "matched"}, {"late": "expired", "once": "suppressed"}]
    assert (first.outcome, second.outcome) == (Outcome.MATCHED, Outcome.SUPPRESSED)


async def test_a_large_batch_is_one_transaction_that_other_work_can_breathe_beside(house: House) -> None:
    await start(house)
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            beats += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(beat())
    admitted = await house.running.admit([house.record(rule="none") for _ in range(500)])
    other.cancel()
    assert (len(admitted), beats > 400) == (500, True)
