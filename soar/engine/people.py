"""Who is who."""

from __future__ import annotations

from collections.abc import Sequence

from soar.model.approval import Person


class People:
    """Who is who: names and groups, as the configuration or the identity provider says now."""

    def __init__(self, people: Sequence[Person]) -> None:
        self._people = {person.name: person for person in people}

    def find(self, name: str) -> Person | None:
        """One person, with the groups they are in at this moment."""
        return self._people.get(name)
