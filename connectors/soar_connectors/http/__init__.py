"""Any HTTP API, one request at a time: the escape hatch where no connector exists."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from soar.connector.base import Call, Connector, Model, Result, action
from soar.connector.client import Auth, BasicAuth, BearerAuth, Endpoint, HeaderAuth, Response
from soar.connector.secret import Secret
from soar.connector.sinks import path_segment
from soar.model.action import Effect, Risk

Scalar = str | int | float | bool

MAX_BODY_BYTES = 1024 * 1024  # the whole answer becomes the step's result, and is kept


class HttpConfig(Endpoint):
    """One host, and how to say who we are there."""

    auth: Literal["none", "basic", "bearer", "header"] = "none"
    user: str = Field(default="", description="For basic.")
    header: str = Field(default="", pattern=r"^[A-Za-z0-9-]*$", description="For header: its name.")
    prefix: str = Field(default="", description="For header: text before the secret, such as 'Token '.")
    secret: Secret | None = Field(default=None, description="The password or token.")
    test_path: str = Field(default="/", description="What a connection test GETs; it must answer 2xx.")

    @model_validator(mode="after")
    def _complete(self) -> HttpConfig:
        if (self.auth == "none") != (self.secret is None):
            raise ValueError("auth and secret go together; give both or neither")
        if (self.auth == "basic" and not self.user) or (self.auth == "header" and not self.header):
            raise ValueError("auth: basic needs user, auth: header needs header")
        return self

    def way(self) -> Auth | None:
        """How calls authenticate."""
        if self.secret is None:
            return None
        match self.auth:
            case "basic":
                return BasicAuth(self.user, self.secret)
            case "header":
                return HeaderAuth(self.header, self.secret, self.prefix)
            case _:
                return BearerAuth(self.secret)


class Get(Model):
    """Where to look, below the configured base URL."""

    path: str = Field(pattern=r"^/", description="The fixed part, already encoded. Put values into segments or query.")
    segments: tuple[str, ...] = Field(default=(), description="Values to append to the path, each one segment.")
    query: dict[str, Scalar] = Field(default_factory=dict)

    @property
    def full_path(self) -> str:
        """Path and segments; a value cannot become more than its own segment."""
        return "/".join([self.path.rstrip("/"), *map(path_segment, self.segments)]) if self.segments else self.path


class Request(Get):
    """What to send, and where."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"] = "POST"
    body: Any = Field(default=None, description="Sent as JSON where given.")


class Answer(Result):
    """What came back."""

    status: int
    content_type: str
    text: str
    body: Any = Field(default=None, description="The JSON value, where the answer is JSON.")


class Http(Connector[HttpConfig]):
    """Plain HTTP against one configured host."""

    name: ClassVar[str] = "http"
    version: ClassVar[str] = "1.0.0"
    vendor: ClassVar[str] = "any"
    product: ClassVar[str] = "HTTP API"
    quality: ClassVar[str] = "gold"
    Config = HttpConfig

    @classmethod
    def client_options(cls, config: HttpConfig) -> dict[str, Any]:
        """The base URL, and how to say who we are."""
        return config.client_options(auth=config.way(), max_body_bytes=MAX_BODY_BYTES)

    async def test(self, call: Call) -> str:
        """GET the test path."""
        answer = await self.http.get(self.config.test_path, call=call)
        return f"GET {self.config.test_path} answered {answer.status}"

    @action(effect=Effect.READ, docs="https://www.rfc-editor.org/rfc/rfc9110#name-get", targets={"path": "url"})
    async def get(self, params: Get, call: Call) -> Answer:
        """GET a path of the configured host."""
        return _answer(await self.http.get(params.full_path, params=params.query, call=call))

    @action(
        effect=Effect.UNSAFE,
        risk=Risk.DESTRUCTIVE,  # nobody can know what it does; policy should ask
        docs="https://www.rfc-editor.org/rfc/rfc9110#name-methods",
        targets={"path": "url"},
    )
    async def request(self, params: Request, call: Call) -> Answer:
        """Send a request that may change something."""
        sent = await self.http.request(
            params.method, params.full_path, call=call, params=params.query, json=params.body
        )
        return _answer(sent)


def _answer(response: Response) -> Answer:
    kind = response.headers.get("content-type", "")
    is_json = "json" in kind and response.body
    return Answer(
        status=response.status, content_type=kind, text=response.text, body=response.json() if is_json else None
    )
