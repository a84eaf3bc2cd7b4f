"""The rows that a batch holds, in memory: as they were locked, and as the facts so far leave them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from soar.errors import StateConflictError
from soar.store.postgres.rows import RunRow

Key = tuple[Any, ...]


class Held(NamedTuple):
    """A row as far as a decision needs it: its state, a number (votes), and all columns once it changes."""

    state: str
    number: int = 0
    values: tuple[Any, ...] = ()


class Chain(NamedTuple):
    """How many entries a run has, and the leaf hash of the last."""

    length: int = 0
    last: str = ""


class Sheet:
    """Rows by table and key. What a fact changes is a draft until the whole fact was accepted."""

    def __init__(self) -> None:
        self._held: defaultdict[str, dict[Key, Any]] = defaultdict(dict)
        self._changed: defaultdict[str, dict[Key, Any]] = defaultdict(dict)
        self._draft: dict[tuple[str, Key], Any] = {}

    def hold(self, table: str, *key: Any, row: Any) -> None:
        """A row as the database has it."""
        self._held[table][key] = row

    def get(self, table: str, *key: Any) -> Any:
        """A row as it is by now, None where there is none."""
        if (table, key) in self._draft:
            return self._draft[table, key]
        changed = self._changed[table]
        return changed[key] if key in changed else self._held[table].get(key)

    def run(self, run_id: str) -> RunRow | None:
        """A run that this batch has locked or made."""
        run: RunRow | None = self.get("runs", run_id)
        return run

    def put(self, table: str, *key: Any, row: Any) -> None:
        """Insert or replace a row."""
        self._draft[table, key] = row

    def insert(self, table: str, *key: Any, row: Any) -> None:
        """Insert a row; raises StateConflictError where one of that name is known."""
        if self.get(table, *key) is not None:
            raise StateConflictError(f"the store holds it already: {'/'.join(map(str, key))} in {table}")
        self.put(table, *key, row=row)

    def delete(self, table: str, *key: Any) -> None:
        """Delete a row."""
        self._draft[table, key] = None

    def keep(self) -> None:
        """The fact was accepted."""
        for (table, key), row in self._draft.items():
            self._changed[table][key] = row
        self._draft = {}

    def drop(self) -> None:
        """The fact was refused: it changed nothing."""
        self._draft = {}

    def written(self, table: str, *, new: bool | None = None) -> list[Any]:
        """Rows of a table to be written; only `new` ones, or only those that the database has."""
        held = self._held[table]
        rows = self._changed[table].items()
        return [row for key, row in rows if row is not None and new in {None, key not in held}]

    def changed(self, table: str) -> dict[Any, Any]:
        """Rows of a table that are kept under one name each, as they are by now, where the facts changed them."""
        return {key: row for (key,), row in self._changed[table].items()}

    def deleted(self, table: str) -> list[Key]:
        """Keys of a table to be deleted."""
        return [key for key, row in self._changed[table].items() if row is None]
