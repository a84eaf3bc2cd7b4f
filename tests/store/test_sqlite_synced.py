"""What was acknowledged is on the disk."""

from pathlib import Path

from soar.store.sqlite import SqliteStore

FULL = 2
"""`PRAGMA synchronous` (sqlite.org/pragma.html): in WAL mode, a commit returns after the log has been synced."""


async def test_a_commit_waits_for_the_disk(tmp_path: Path) -> None:
    """No test can cut the power; in WAL mode anything less than FULL may lose the latest commits then."""
    store = SqliteStore(tmp_path / "soar.db")
    await store.open()
    try:
        asked = "PRAGMA journal_mode", "PRAGMA synchronous"
        assert await store._write(lambda db: [db.execute(one).fetchone()[0] for one in asked]) == ["wal", FULL]
    finally:
        await store.close()
