"""Pinned playbooks, ready to interpret: parsed once per digest, templates compiled once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from soar.errors import NotFoundError, PlaybookError
from soar.expr.render import Template, compile_template
from soar.library.parse import parse
from soar.model.playbook import Playbook
from soar.store.port import Store

_KEPT = 512


class Program:
    """One playbook version with its compiled templates."""

    def __init__(self, playbook: Playbook) -> None:
        self.playbook = playbook
        self._templates: dict[int, tuple[Any, Template]] = {}

    def render(self, value: Any, names: dict[str, Any]) -> Any:
        """Render a value that stands in this playbook, never one made for the occasion; raises ExpressionError."""
        # Keyed by identity: the values of a playbook are few and never change. The value is kept beside its
        # template, so that no other can take its identity.
        known = self._templates.get(id(value))
        if known is None:
            known = self._templates[id(value)] = (value, compile_template(value))
        return known[1].render(names)


class Programs:
    """Finds the program of a digest, among the loaded playbooks or in the store where runs pinned it."""

    def __init__(self, *, store: Store, loaded: Callable[[], Mapping[str, Playbook]]) -> None:
        self._store = store
        self._loaded = loaded  # playbooks by id, as they stand now
        self._kept: OrderedDict[str, Program] = OrderedDict()

    async def get(self, digest: str) -> Program:
        """The program; raises NotFoundError where nobody pinned it, PlaybookError where it no longer parses."""
        program = self._kept.get(digest)
        if program is None:
            program = Program(self._current(digest) or await self._pinned(digest))
            self._kept[digest] = program
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(digest)
        return program

    def current(self, playbook_id: str) -> Playbook | None:
        """The playbook as it stands now, for a new sub-run."""
        return self._loaded().get(playbook_id)

    def _current(self, digest: str) -> Playbook | None:
        return next((p for p in self._loaded().values() if p.digest == digest), None)

    async def _pinned(self, digest: str) -> Playbook:
        found = await self._store.playbook_text(digest)
        if found is None:
            raise NotFoundError(f"no playbook with digest {digest}; it was never loaded here")
        parsed = parse(found[1], found[0])
        if parsed.playbook is None:
            raise parsed.errors[0] if parsed.errors else PlaybookError(f"{found[0]} no longer parses")
        return parsed.playbook
