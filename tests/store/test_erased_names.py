"""Erasure takes away what was made of somebody's data too: nothing in the working state names it any more."""

from __future__ import annotations

from soar.model.alert import AlertDocument, Outcome
from soar.model.entry import Entry, EntryType
from soar.model.run import RunState
from soar.store.erasure import ERASED
from soar.store.port import (
    AdmissionKeys,
    Fact,
    FinishRun,
    InsertAlert,
    InsertApproval,
    InsertRecord,
    InsertRun,
    Known,
    PutWindow,
    Store,
    Window,
)

from .facts import NOW, a_run, an_alert, an_approval, later, put, take

NAME = "f" * 64
PLACES = (f"file/{'a' * 32}/0/7", f"web/key:{'b' * 32}/0/1")
KAFKA = "kafka/alerts@cluster/0/9"
BINDING = {"params": {"host": "bilbo-pc"}, "nonce": "c" * 32, "request_digest": "d" * 64, "playbook": "p"}


def told(number: int) -> Entry:
    alert = an_alert(f"alert-{number}", f"sha256:{number}{'e' * 63}", title="bilbo")
    return Entry(
        id=f"entry-alert-{number}",
        type=EntryType.ALERT_ADMITTED,
        at=NOW,
        actor="test",
        subject=alert.id,
        payload={"alert": alert.model_dump(mode="json")},
    )


def admitted(number: int, coordinates: str) -> Fact:
    alert = an_alert(f"alert-{number}", f"sha256:{number}{'e' * 63}", title="bilbo")
    insert = InsertAlert(
        alert=AlertDocument.of(alert),
        outcome=Outcome.NO_MATCH,
        matches=(),
        coordinates=coordinates,
        content=NAME,
        entry_id=told(number).id,
    )
    return Fact(writes=(InsertRecord(coordinates=coordinates, at=NOW), insert), entries=(told(number),))


def erasure_of(name: str) -> Entry:
    return Entry(id=f"erased-{name}", type=EntryType.PAYLOAD_ERASED, at=NOW, actor="test", subject=name)


async def known(store: Store) -> Known:
    """What the store still knows by its names."""
    keys = AdmissionKeys(
        coordinates=frozenset({*PLACES, KAFKA}),
        uids=frozenset(("s", f"sha256:{number}{'e' * 63}", NAME) for number in range(3)),
        uids_since=later(-60),
        windows=frozenset({"p:window"}),
        now=NOW,
    )
    found: list[Known] = []

    def look(known: Known) -> Fact:
        found.append(known)
        return Fact()

    await store.admit(keys, look)
    return found[0]


async def test_what_was_made_of_it_goes_with_it(store: Store) -> None:
    """But a place in a Kafka topic stays: it says nothing, and keeps the record from being taken twice."""
    facts = [admitted(number, place) for number, place in enumerate((*PLACES, KAFKA))]
    assert await store.commit(facts) == [None] * 3
    await put(store, InsertRun(run=a_run("run-1", alert_id="alert-0", lock_key=NAME)))
    window = Window(key="p:window", started_at=NOW, until=later(60), count=1, run_id="run-1")
    asked = an_approval(binding=BINDING, digest="9" * 64)
    await put(store, PutWindow(window=window), InsertApproval(approval=asked))
    (lease,) = await take(store)
    end = FinishRun(run_id="run-1", state=RunState.SUCCEEDED, at=NOW)
    assert await put(store, end, lease=lease) is None
    before = await known(store)
    assert before.coordinates == {*PLACES, KAFKA}
    assert (len(before.uids), len(before.repeats), len(before.windows)) == (3, 3, 1)

    await store.erase("bilbo", erasure_of)

    after = await known(store)
    assert after.coordinates == {KAFKA}
    assert (after.uids, after.repeats, after.windows) == ({}, {}, {})
    run, approval = await store.run("run-1"), await store.approval(asked.id)
    assert run is not None
    assert approval is not None
    assert run.lock_key == ERASED
    assert approval.binding == {
        "params": {"host": ERASED}, "nonce": ERASED, "request_digest": ERASED, "playbook": "p"
    }  # fmt: skip
