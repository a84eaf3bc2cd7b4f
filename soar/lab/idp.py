"""The identity provider."""

from __future__ import annotations

from typing import Any, ClassVar

from soar.lab.exchange import Answer, Nothing, System, route
from soar.model.base import Frozen


class User(Frozen):
    """One account; `sessions` counts the sign-ins that still hold."""

    user: str
    title: str = "enrolled at first sight"
    enabled: bool = True
    sessions: int = 1


SEED = (
    User(user="alice", title="head of finance", sessions=3),
    User(user="bob", title="sales", sessions=2),
    User(user="carol", title="system administrator", sessions=2),
    User(user="dave", title="web developer"),
    User(user="svc-backup", title="service account"),
)


class Idp(System):
    """All verbs are idempotent. A user nobody told it of is enrolled when first acted on."""

    name: ClassVar[str] = "idp"

    def __init__(self) -> None:
        super().__init__()
        self.users = {user.user: user for user in SEED}

    def snapshot(self) -> dict[str, Any]:
        """Users by name."""
        return {"users": {name: user.model_dump() for name, user in self.users.items()}}

    @route("GET", "/users")
    def list_users(self, _: Nothing) -> Answer:
        """Every user it has met."""
        return Answer(body={"users": [user.model_dump() for user in self.users.values()]})

    @route("GET", "/users/{user}")
    def read(self, _: Nothing, user: str) -> Answer:
        """One user; one not met yet is enabled."""
        return Answer(body=self._user(user).model_dump())

    @route("POST", "/users/{user}/disable")
    def disable(self, _: Nothing, user: str) -> Answer:
        """Refuse a user's sign-ins; sessions that hold go on until they are revoked."""
        return self._put(self._user(user).model_copy(update={"enabled": False}), f"disabled user {user}")

    @route("POST", "/users/{user}/enable")
    def enable(self, _: Nothing, user: str) -> Answer:
        """Accept a user's sign-ins again."""
        return self._put(self._user(user).model_copy(update={"enabled": True}), f"enabled user {user}")

    @route("DELETE", "/users/{user}/sessions")
    def revoke(self, _: Nothing, user: str) -> Answer:
        """End every session; `revoked` says how many there were."""
        before = self._user(user)
        answer = self._put(before.model_copy(update={"sessions": 0}), f"revoked {before.sessions} sessions of {user}")
        return Answer(body=answer.body | {"revoked": before.sessions}, effect=answer.effect)

    def _user(self, name: str) -> User:
        return self.users.get(name, User(user=name))

    def _put(self, user: User, effect: str) -> Answer:
        changed = self._user(user.user) != user
        self.users[user.user] = user
        return Answer(body=user.model_dump(), effect=effect if changed else None)
