"""Dead letters go through the front door again: once each, by whom is told, and what fails again says so."""

import asyncio
import json

from soar.engine.admission import Admitted
from soar.journal.leaf import parse_leaf
from soar.model.alert import Record
from soar.service import assemble
from soar.settings import load_settings

from .operate_home import Home

FALCO = {
    "rule": "Terminal shell in container",
    "priority": "Critical",
    "output": "A shell was spawned",
    "time": "2026-11-23T12:00:00Z",
    "output_fields": {},
}


def admit(home: Home, topic: str, *values: bytes) -> list[Admitted]:
    """Records of a source whose mapping is not there yet."""

    async def through_the_door() -> list[Admitted]:
        async with assemble(load_settings(home.config, {})) as service:
            now = service.clock.now()
            records = [
                Record(source="late", topic=topic, offset=n, value=value, mapping="to-come", received_at=now)
                for n, value in enumerate(values)
            ]
            return await service.intake().admit(records)

    return asyncio.run(through_the_door())


def falco(number: int) -> bytes:
    return json.dumps(FALCO | {"uuid": f"u{number}"}).encode()


def codes(home: Home, *options: str) -> list[str]:
    return [each["code"] for each in home.soar("deadletters", "list", "--json", *options).json]


def test_mended_letters_become_alerts_once(copy: Home) -> None:
    before = codes(copy)
    admit(copy, "one@cluster", falco(1), falco(2))
    admit(copy, "two@cluster", falco(3))
    assert codes(copy, "--topic", "one") == ["unknown_mapping"] * 2
    replay = ("deadletters", "replay", "--json", "--topic", "one", "--mapping", "falco", "--as", "alice")
    said = copy.soar(*replay, "--dry-run").json
    assert (said["letters"], said["outcomes"]) == (2, {"an alert of falco": 2})
    assert codes(copy, "--topic", "one") == ["unknown_mapping"] * 2, "a dry run changed something"

    assert copy.soar(*replay).json["outcomes"] == {"no_match": 2}
    assert codes(copy, "--topic", "one") == []
    assert copy.soar(*replay).json["letters"] == 0
    assert codes(copy) == ["unknown_mapping", *before]


def test_a_flood_of_other_letters_hides_none(copy: Home) -> None:
    """The one that is wanted is older than any page of those that are looked through, and found by its name too."""
    admit(copy, "old@cluster", falco(1))
    letter = copy.soar("deadletters", "list", "--json", "--topic", "old").json[0]["id"]
    admit(copy, "flood@cluster", *(b"\xff" * (n + 1) for n in range(1100)))
    assert codes(copy, "--topic", "old") == ["unknown_mapping"]
    assert codes(copy, "--topic", "old", "--since", "1h") == ["unknown_mapping"]
    assert len(codes(copy, "--topic", "flood", "--limit", "1050")) == 1050
    assert copy.soar("deadletters", "show", letter, "--json").json["id"] == letter
    why = copy.soar("explain", letter)
    assert why.code != 0
    assert f"{letter} is a dead letter, it became no alert: its source names the mapping" in why.error.replace(
        "the record ", ""
    )


def test_one_letter_named_twice_is_one_alert_and_its_entry_names_who_replayed_it(copy: Home) -> None:
    admit(copy, "one@cluster", falco(1))
    letter = copy.soar("deadletters", "list", "--json").json[0]["id"]
    command = ("deadletters", "replay", letter, "--mapping", "falco", "--as", "alice", "--json")
    assert copy.soar(*command).json["outcomes"] == {"no_match": 1}
    again = copy.soar(*command).json
    assert (again["known"], again["outcomes"]) == (1, {})

    async def newest() -> list[dict[str, object]]:
        async with assemble(load_settings(copy.config, {})) as service:
            return [parse_leaf(entry.leaf) async for entry in service.store.entries(newest=1)]

    [leaf] = asyncio.run(newest())
    assert leaf["type"] == "alert.admitted"
    assert leaf["actor"] == "person:alice"


def test_what_fails_again_is_a_letter_anew(copy: Home) -> None:
    admit(copy, "one@cluster", b"\xff")
    first = copy.soar("deadletters", "list", "--json").json[0]
    said = copy.soar("deadletters", "replay", first["id"], "--as", "alice", "--json").json
    assert said["outcomes"] == {"dead_letter": 1}
    second = copy.soar("deadletters", "list", "--json").json[0]
    assert second["id"] != first["id"]
    assert second["record"]["topic"] == f"replay@{first['id']}"


def test_all_letters_are_not_meant_by_saying_nothing(copy: Home) -> None:
    assert copy.soar("deadletters", "replay").code == 2
    assert copy.soar("deadletters", "replay", "x", "--code", "not_json").code == 2
    assert copy.soar("deadletters", "replay", "--code", "x", "--mapping", "falko").code == 2
