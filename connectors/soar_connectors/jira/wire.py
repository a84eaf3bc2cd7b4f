"""The parts of Jira's answers that we read (Jira Cloud REST API v3); everything else in them is ignored."""

from __future__ import annotations

from typing import Any

from pydantic import AliasPath, Field

from soar.connector.base import Result

MARK = "soar"
"""Key of the entity property that our comments carry."""


class Myself(Result):
    """Whom the token belongs to."""

    account_id: str = Field(alias="accountId")
    display_name: str = Field(alias="displayName", default="an account without a visible name")


class Created(Result):
    """A new issue."""

    key: str


class Status(Result):
    """Where an issue stands. The category's key is `new`, `indeterminate` or `done`, whatever people renamed."""

    name: str
    category: str = Field(validation_alias=AliasPath("statusCategory", "key"), default="")

    @property
    def is_done(self) -> bool:
        """Whether Jira counts it as done."""
        return self.category == "done"


class Fields(Result):
    """The fields that we ask for."""

    summary: str
    status: Status


class Issue(Result):
    """An issue."""

    key: str
    fields: Fields


class Issues(Result):
    """What a search found."""

    issues: tuple[Issue, ...]


class Property(Result):
    """An entity property of a comment."""

    key: str
    value: Any = None


class Comment(Result):
    """A comment's properties."""

    properties: tuple[Property, ...] = ()

    def bears(self, label: str) -> bool:
        """Whether it is the one that we marked with `label`."""
        return any(each.key == MARK and each.value == {"key": label} for each in self.properties)


class Comments(Result):
    """A page of comments."""

    comments: tuple[Comment, ...]


class Allowed(Result):
    """A value that a field accepts."""

    name: str = ""


class ScreenField(Result):
    """A field on a transition's screen."""

    required: bool = False
    allowed: tuple[Allowed, ...] = Field(alias="allowedValues", default=())


class Transition(Result):
    """A way from an issue's status to another."""

    id: str
    to: Status
    fields: dict[str, ScreenField] = Field(default_factory=dict)

    def resolution_for(self, wanted: str) -> str | None:
        """The screen's resolution by that name, else its first if one is required; None where it asks for none."""
        field = self.fields.get("resolution")
        if field is None:
            return None
        names = [each.name for each in field.allowed]
        same = [name for name in names if name.casefold() == wanted.casefold()]
        if same:
            return same[0]
        return names[0] if field.required and names else None


class Transitions(Result):
    """The ways that are open now."""

    transitions: tuple[Transition, ...]
