"""Who knows what was erased, and guesses it, finds it confirmed nowhere: in no leaf, and in no row that stays."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
import structlog

from soar.engine.naming import Names
from soar.model.base import digest
from soar.store.sqlite import SqliteStore

from .operate_home import ALERTS, Home, as_bytes

WHY = ("--reason", "request 4711", "--as", "alice", "--yes")
SENT = as_bytes({**ALERTS["server"], "id": "a-9", "rule_id": "none"})
HEX = re.compile(r"[0-9a-f]{32,}")


@pytest.fixture
def ended(copy: Home) -> Home:
    """All runs of a home have ended; an alert came once more, under the name that its bytes give it."""
    copy.work({f"key:{hashlib.sha256(SENT).hexdigest()[:32]}": SENT})
    for name in ("server", "protected", "question"):
        copy.soar("runs", "cancel", copy.run(name), "--reason", "false alarm", "--as", "alice")
    copy.work()
    structlog.reset_defaults()
    return copy


def rows(home: Home) -> Iterator[str]:
    """Every cell of every table but the key of names, leaves included."""
    with closing(sqlite3.connect(home.database)) as db:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'naming'"):
            for row in db.execute(f"SELECT * FROM {table}"):
                for cell in row:
                    yield cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)


def known(home: Home, subject: str) -> list[Any]:
    """Everything that payloads say of somebody: each document, and each part of it."""
    with closing(sqlite3.connect(home.database)) as db:
        bodies = [json.loads(row[0]) for row in db.execute("SELECT body FROM payloads")]
    return [part for body in bodies for part in parts(body) if subject in json.dumps(part)]


def parts(value: Any) -> Iterator[Any]:
    yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(child)


def hashes(value: Any, names: Names) -> Iterator[str]:
    """All ways in which the code names a value, and the plain ones in which it might."""
    with suppress(ValueError):  # what has no canonical form has no digest either
        yield digest(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    yield hashlib.sha256(text.encode()).hexdigest()
    yield hashlib.sha256(json.dumps(value).encode()).hexdigest()
    if isinstance(value, str):
        yield hashlib.sha256(value.encode()).hexdigest()
    yield names.of(value)
    yield names.of([value])


async def names_of(home: Home) -> Names:
    store = SqliteStore(home.database)
    await store.open()
    try:
        return Names(await store.naming_key())
    finally:
        await store.close()


@pytest.mark.parametrize("subject", ["db-01", "ws-17"])
def test_no_guess_at_what_was_erased_is_confirmed_by_what_stays(ended: Home, subject: str) -> None:
    names = asyncio.run(names_of(ended))
    parts_known = known(ended, subject)
    bindings = [each for each in parts_known if isinstance(each, dict) and "nonce" in each]
    guesses = {guess for each in parts_known if each not in bindings for guess in hashes(each, names)}
    guesses |= {hashlib.sha256(SENT).hexdigest()} if subject.encode() in SENT else set()
    guesses |= {guess[:32] for guess in guesses}

    def confirmed() -> set[str]:
        stays = list(rows(ended))
        found = {match for cell in stays for match in HEX.findall(cell)}
        nonces = {match[:32] for match in found}  # whoever guesses takes what is there
        told = {digest({**binding, "nonce": nonce}) for binding in bindings for nonce in nonces}
        return (guesses | told) & {match[:size] for match in found for size in (32, 64)}

    assert confirmed(), "before, names and nonces stand there, so this test can find them"
    erased = ended.soar("audit", "erase", "--subject", subject, *WHY)
    assert erased.code == 0, erased.error
    assert not confirmed()
    assert ended.soar("audit", "verify").code == 0


def test_leaves_hold_no_digest_of_what_payloads_say(ended: Home) -> None:
    """But that of a binding, which has a nonce in it: not even before anything is erased."""
    names = asyncio.run(names_of(ended))
    every = [part for subject in ("db-01", "ws-17", "dc-01", "merry") for part in known(ended, subject)]
    guesses = {
        guess for each in every if not (isinstance(each, dict) and "nonce" in each) for guess in hashes(each, names)
    }
    with closing(sqlite3.connect(ended.database)) as db:
        leaves = [str(row[0], "utf-8") for row in db.execute("SELECT leaf FROM entries")]
    assert not {match for leaf in leaves for match in HEX.findall(leaf)} & guesses
