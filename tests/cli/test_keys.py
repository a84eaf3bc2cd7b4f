"""`soar keys`: made once, locked at rest, and followed by another that everybody who knew the old one can reach."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import structlog

from soar.errors import ConfigError, StateConflictError
from soar.journal.note import Verifier
from soar.journal.proof import EntryProof
from soar.journal.rotation import follow
from soar.journal.trust import TrustPolicy
from soar.model.entry import EntryType
from soar.service import assemble, read_key
from soar.service.keys import write_key
from soar.settings import load_settings
from soar.store.port import Fact

from .operate_home import Home

WHY = ("--reason", "yearly", "--as", "alice")


def verifier(home: Home) -> Verifier:
    return read_key(load_settings(home.config, {})).verifier


def journal(home: Home, **settings: object) -> None:
    document = json.loads(home.config.read_text())
    document["journal"] |= settings
    home.config.write_text(json.dumps(document))


def grow(home: Home) -> None:
    """One more entry, signed by the key of the day."""

    async def work() -> None:
        async with assemble(load_settings(home.config, {})) as service:
            control = service.control("alice")
            await control.halt(reason="test")
            await service.sequencer().sign()

    asyncio.run(work())
    structlog.reset_defaults()


def verify(home: Home, *words: str) -> int:
    return home.soar("audit", "verify", *words).code


def test_a_key_is_made_once_and_its_verifier_key_printed(copy: Home) -> None:
    assert "never written over" in copy.soar("keys", "init").error
    journal(copy, key="deep/other.key", origin="other.test/journal")
    made = copy.soar("keys", "init").out.strip()
    assert copy.soar("keys", "show", "--json").json["verifier"] == made == str(verifier(copy))
    assert (copy.folder / "deep" / "other.key").stat().st_mode & 0o777 == 0o600


def test_a_locked_key_opens_with_its_passphrase_alone(copy: Home, tmp_path: Path) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse\n")
    phrase.chmod(0o600)
    journal(copy, key="locked.key", passphrase=f"secret://file{phrase}")
    made = copy.soar("keys", "init").out.strip()
    kept = (copy.folder / "locked.key").read_text()
    assert kept.startswith("LOCKED+KEY+")
    assert copy.soar("keys", "show", "--json").json == {
        "verifier": made,
        "id": Verifier.from_text(made).key_id.hex(),
        "file": str(copy.folder / "locked.key"),
        "locked": True,
    }
    phrase.write_text("wrong\n")
    assert "passphrase is wrong" in copy.soar("keys", "show").error
    journal(copy, passphrase=None)
    assert "no passphrase was given" in copy.soar("keys", "show").error


def test_the_journal_verifies_across_rotations_by_every_key_it_had(copy: Home) -> None:
    keys = [verifier(copy)]
    for _ in range(2):
        said = copy.soar("keys", "rotate", *WHY)
        assert said.code == 0, said.error
        keys.append(verifier(copy))
        assert said.out.strip() == str(keys[-1])
        grow(copy)
    assert len(set(map(str, keys))) == 3
    assert verify(copy) == 0
    for key in keys:
        assert verify(copy, "--key", str(key)) == 0
    told = copy.soar("audit", "show", "--type", "journal.key_rotated", "--json").json
    assert [each["actor"] for each in told] == ["person:alice"] * 2


def test_a_stranger_s_key_verifies_nothing(copy: Home, tmp_path: Path) -> None:
    assert copy.soar("keys", "rotate", *WHY).code == 0
    (tmp_path / "other").mkdir()
    stranger = Home(tmp_path / "other")
    stranger.config.write_text(copy.config.read_text())
    assert stranger.soar("keys", "init").code == 0
    said = copy.soar("audit", "verify", "--key", str(verifier(stranger)))
    assert said.code == 1


def test_a_handover_that_the_old_key_did_not_sign_is_not_followed(copy: Home, tmp_path: Path) -> None:
    """Whoever holds the database alone cannot name himself the next signer."""
    first = verifier(copy)
    thief = Home(tmp_path / "thief")
    thief.folder.mkdir()
    thief.config.write_text(copy.config.read_text())
    thief.soar("keys", "init")

    async def usurp() -> None:
        async with assemble(load_settings(copy.config, {})) as service:
            data: dict[str, str | int | bool] = {"old": str(first), "new": str(verifier(thief))}
            entry = service.scribe.entry(EntryType.JOURNAL_KEY_ROTATED, first.name, data=data)
            assert await service.store.commit([Fact(entries=(entry,))]) == [None]
        (copy.folder / "journal.key").write_text((thief.folder / "journal.key").read_text())
        async with assemble(load_settings(copy.config, {})) as service:
            await service.sequencer().sign()

    asyncio.run(usurp())
    structlog.reset_defaults()
    assert verify(copy, "--key", str(first)) == 1
    assert verify(copy) == 1


def test_the_proof_of_the_handover_leads_from_the_old_key_to_the_new(copy: Home) -> None:
    old = verifier(copy)
    copy.soar("keys", "rotate", *WHY)
    (proof,) = copy.folder.glob("journal.key.*.tlog-proof")
    assert follow(EntryProof.from_text(proof.read_text()), old) == verifier(copy)


def test_a_key_that_signs_is_not_replaced(copy: Home) -> None:
    async def work() -> str:
        async with assemble(load_settings(copy.config, {})) as service:
            service.sequencer()
            return (await asyncio.to_thread(copy.soar, "keys", "rotate", *WHY)).error

    before = verifier(copy)
    assert "stop it first" in asyncio.run(work())
    structlog.reset_defaults()
    assert verifier(copy) == before


async def test_a_rotation_that_stopped_halfway_is_finished_before_anything_is_signed(copy: Home) -> None:
    loaded = load_settings(copy.config, {})
    old = read_key(loaded)
    key = copy.folder / "journal.key"
    before = key.read_text()
    assert (await asyncio.to_thread(copy.soar, "keys", "rotate", *WHY)).code == 0
    new = read_key(loaded)
    # as a crash just before the last step leaves it
    write_key(loaded, copy.folder / "journal.key.next", new)
    key.write_text(before)
    async with assemble(loaded) as service:
        with pytest.raises(StateConflictError, match="not finished"):
            service.sequencer()
    said = await asyncio.to_thread(copy.soar, "keys", "rotate", *WHY)
    assert said.out.strip() == str(new.verifier)
    assert read_key(loaded).verifier == new.verifier != old.verifier
    assert (await asyncio.to_thread(copy.soar, "audit", "verify")).code == 0
    told = await asyncio.to_thread(copy.soar, "audit", "show", "--type", "journal.key_rotated", "--json")
    assert len(told.json) == 1


def test_anchors_know_the_new_key_from_its_first_checkpoint_on(copy: Home, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    journal(copy, anchors=[str(anchor)])
    assert copy.soar("keys", "rotate", *WHY).code == 0
    assert TrustPolicy.of([verifier(copy)]).open(anchor.read_text()).checkpoint.origin == verifier(copy).name


def test_a_passphrase_that_is_not_set_is_said_with_its_place(copy: Home) -> None:
    journal(copy, passphrase="secret://env/NOT_SET")
    with pytest.raises(ConfigError, match="NOT_SET"):
        read_key(load_settings(copy.config, {}))
