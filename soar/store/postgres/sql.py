"""SQL in files: numbered migrations, and statements named by a comment, `-- name: x`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_MIGRATION = re.compile(r"(\d{3})\.sql")
_PARAMETER = re.compile(r"\$(\d+)")


@cache
def statements(file: str) -> Mapping[str, str]:
    """The named statements of one file; a name that stands twice is a mistake of ours."""
    _, *parts = _NAME.split(_read(file))
    named = dict(zip(parts[::2], (text.strip() for text in parts[1::2]), strict=True))
    assert len(named) == len(parts) // 2, f"{file} names a statement twice"
    return MappingProxyType(named)


@cache
def together(file: str, *names: str) -> str:
    """One statement that does what the named ones do, with their parameters one after the other.

    It gives how many rows those named `runs` and `grow` changed. All of them see the same state of the database, so
    none may need what another writes.
    """
    parts, offset = [], 0
    for name in names:
        text = statements(file)[name]
        parts.append(f"{name}_ AS ({_shifted(text, offset)})")
        offset += max(int(number) for number in _PARAMETER.findall(text))
    rows = "(SELECT count(*) FROM {}_)"
    changed = [rows.format(name) if name in names else "0::bigint" for name in ("runs", "grow")]
    return f"WITH {', '.join(parts)} SELECT {', '.join(changed)}"


def _shifted(text: str, offset: int) -> str:
    return _PARAMETER.sub(lambda number: f"${int(number[1]) + offset}", text)


def migrations() -> Iterator[tuple[int, str]]:
    """Number and SQL of each migration, in order."""
    for file in sorted(resources.files(__package__).iterdir(), key=lambda file: file.name):
        if number := _MIGRATION.fullmatch(file.name):
            yield int(number[1]), file.read_text()


def _read(file: str) -> str:
    return resources.files(__package__).joinpath(file).read_text()
