"""Secrets are references; the value exists only inside the call that sends it."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from soar.errors import ConfigError, NotSentError

PREFIX = "secret://"
KINDS = ("env", "file")
MAX_BYTES = 65_536
_HOW = "write secret://env/NAME or secret://file/ABSOLUTE/PATH"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Secret:
    """A reference to a secret: `secret://env/NAME` or `secret://file/ABSOLUTE/PATH`.

    Constructing one raises ConfigError for anything else; in a pydantic model it validates from text. It
    shows, dumps and compares as its reference. What was refused is never repeated: it may be the secret itself.
    """

    reference: str

    def __post_init__(self) -> None:
        if not self.reference.startswith(PREFIX):
            raise ConfigError(f"a secret must be a reference, never the value itself; {_HOW}")
        kind, _, name = self.reference.removeprefix(PREFIX).partition("/")
        if kind not in KINDS:
            raise ConfigError(f"secret://{kind[:20]}/... is not supported (known are {', '.join(KINDS)}); {_HOW}")
        if kind == "env" and not _VARIABLE.fullmatch(name):
            raise ConfigError(f"secret://env/ is not followed by the name of an environment variable; {_HOW}")
        if kind == "file" and (not name or name.startswith("/") or _CONTROL.search(name)):
            raise ConfigError(f"secret://file/ is not followed by an absolute path without its first slash; {_HOW}")

    @property
    def kind(self) -> str:
        """`env` or `file`."""
        return self.reference.removeprefix(PREFIX).partition("/")[0]

    @property
    def name(self) -> str:
        """The variable's name, or the file's absolute path."""
        name = self.reference.removeprefix(PREFIX).partition("/")[2]
        return f"/{name}" if self.kind == "file" else name

    def __str__(self) -> str:
        return self.reference

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: type, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "type": "string",
            "pattern": f"^{PREFIX}({'|'.join(KINDS)})/.+$",
            "description": "A reference to a secret: secret://env/NAME or secret://file/ABSOLUTE/PATH.",
        }

    @classmethod
    def _validate(cls, value: Any) -> Secret:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise ValueError(f"a secret must be a reference; {_HOW}")  # noqa: TRY004 - pydantic collects ValueError
        try:
            return cls(value)
        except ConfigError as failure:
            raise ValueError(failure.message) from None


class SecretResolver:
    """Turns references into values. Only the HTTP client calls it, while it sends.

    `environ` is passed in by whoever may read the environment. Nothing is cached: a rotated secret counts
    from the next call on.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def reveal(self, secret: Secret) -> str:
        """The value; raises NotSentError naming the reference, never a value, where there is none that can be used."""
        value = self._from_file(secret) if secret.kind == "file" else self._environ.get(secret.name)
        if not value:
            raise NotSentError(f"{secret} is not set; set {secret.name} where soar is started")
        if _CONTROL.search(value):
            raise NotSentError(f"{secret} holds a line break or control character; store the value alone")
        return value

    def _from_file(self, secret: Secret) -> str:
        path = Path(secret.name)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise NotSentError(f"{secret} is no regular file")
            if status.st_mode & (stat.S_IROTH | stat.S_IWOTH):
                raise NotSentError(f"{secret} can be read or written by everyone; run: chmod o-rw {path}")
            if status.st_size > MAX_BYTES:
                raise NotSentError(f"{secret} is {status.st_size} bytes; a secret has at most {MAX_BYTES}")
            return path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
        except OSError as failure:
            raise NotSentError(f"{secret} cannot be read: {failure.strerror}") from None
        except UnicodeDecodeError:
            raise NotSentError(f"{secret} is not UTF-8 text") from None
