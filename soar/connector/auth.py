"""How a call says who it is. Each way names its secret; the value is looked up while sending."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from soar.connector.secret import Secret
from soar.errors import NotSentError

Reveal = Callable[[Secret], str]


@dataclass(frozen=True)
class Credential:
    """One header, and every spelling of the secret in it: what must be struck from all that comes back."""

    name: str
    value: str
    sensitive: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Credential({self.name})"


class Auth(Protocol):
    """A way to authenticate."""

    def credential(self, reveal: Reveal) -> Credential:
        """The header to send now; raises NotSentError where the secret cannot be had."""
        ...


@dataclass(frozen=True)
class BasicAuth:
    """User and password, or e-mail address and API token (RFC 7617)."""

    user: str
    secret: Secret

    def credential(self, reveal: Reveal) -> Credential:
        """`Authorization: Basic ...`."""
        value = reveal(self.secret)
        pair = base64.b64encode(f"{self.user}:{value}".encode()).decode()
        return Credential("Authorization", f"Basic {pair}", (value, pair))


@dataclass(frozen=True)
class HeaderAuth:
    """A token in a header of the vendor's choice, after a word of the vendor's choice: `Splunk <token>`."""

    name: str
    secret: Secret
    prefix: str = ""

    def credential(self, reveal: Reveal) -> Credential:
        """`<name>: <prefix><secret>`."""
        value = reveal(self.secret)
        if not value.isascii():
            raise NotSentError(f"{self.secret} holds non-ASCII text, which no header can carry; store the token alone")
        return Credential(self.name, f"{self.prefix}{value}", (value,))


@dataclass(frozen=True)
class BearerAuth:
    """A bearer token (RFC 6750)."""

    secret: Secret

    def credential(self, reveal: Reveal) -> Credential:
        """`Authorization: Bearer ...`."""
        return HeaderAuth("Authorization", self.secret, "Bearer ").credential(reveal)
