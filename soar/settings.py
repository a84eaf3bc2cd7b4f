"""One file, `soar.yaml`, and the environment. The only module that reads the environment.

`SOAR_CONFIG` names the file. `SOAR_<SECTION>__<KEY>` overrides one value of it, read as YAML:
`SOAR_WEB__PORT=9000`, `SOAR_KAFKA__TOPICS='[alerts]'`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from soar.errors import ConfigError, Place
from soar.located import Located, explain, load, read_text

PREFIX = "SOAR_"
DEFAULT_FILE = "soar.yaml"
_CLOCK = r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"


class Section(BaseModel):
    """Part of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StoreSettings(Section):
    """Where state and journal live."""

    path: Path = Field(default=Path("data/soar.db"), description="The SQLite file, made at first start.")
    url: str | None = Field(
        default=None,
        description="PostgreSQL instead of the file: `postgresql://USER@HOST/DATABASE`, or the secret reference of it.",
    )


class PolicySettings(Section):
    """Which policies decide."""

    path: Path = Field(default=Path("policies"), description="Folder of Rego and data files.")
    timeout_seconds: float = Field(default=2.0, gt=0, description="Longest wait for one decision.")
    engine: Literal["embedded", "opa"] = Field(
        default="embedded", description="Who decides: Rego in this process, or an OPA server (1.21.3 or newer)."
    )
    spawn: bool = Field(
        default=False, description="Start `opa`, found on PATH, with the service, and again whenever it ends."
    )
    url: str | None = Field(
        default=None,
        description="Where OPA answers: https://HOST:PORT, http://127.0.0.1:PORT or unix:///PATH/TO/SOCKET.",
    )
    token: str | None = Field(default=None, description="Secret reference of the bearer token that OPA asks for.")
    ca: Path | None = Field(
        default=None, description="PEM file of the authorities that vouch for OPA's certificate; else the system's."
    )

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.engine == "embedded":
            for name in ("spawn", "url", "token", "ca"):
                if getattr(self, name):
                    raise ValueError(f"{name} is for an OPA server; write engine: opa too, or leave it out")
        elif self.spawn == (self.url is not None):
            raise ValueError("engine: opa takes either spawn: true, or the url of a server")
        elif self.spawn and (self.token or self.ca):
            raise ValueError("a spawned OPA needs no token and no ca: only this account can reach it")
        return self

    shadow: Path | None = Field(
        default=None, description="Folder of a candidate: asked the same beside it, journalled where it differs."
    )


class WitnessSettings(Section):
    """One witness that cosigns our checkpoints."""

    url: str = Field(description="Where it answers, without /add-checkpoint.")
    key: str = Field(description="Its verifier key, as `soar witness init` prints it.")


class ClusterSettings(Section):
    """How a Kafka cluster is reached, in the words of Kafka's own clients."""

    bootstrap_servers: str = Field(description="host:port, several with commas.")
    client_id: str = "soar"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: str | None = Field(default=None, description="Secret reference.")
    ssl_cafile: Path | None = Field(default=None, description="Whom we trust, in PEM; else the system's authorities.")
    ssl_certfile: Path | None = Field(default=None, description="Our certificate and its chain, in PEM.")
    ssl_keyfile: Path | None = Field(default=None, description="Its key, where that is not in the same file.")
    ssl_key_password: str | None = Field(default=None, description="Secret reference of what the key is locked with.")
    ssl_check_hostname: bool = True

    @model_validator(mode="after")
    def _whole(self) -> Self:
        named = {name for name in ClusterSettings.model_fields if getattr(self, name) is not None}
        login = {"sasl_username", "sasl_password"}
        if self.security_protocol.startswith("SASL_") and not login <= named:
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_username and sasl_password")
        if not self.security_protocol.startswith("SASL_") and login & named:
            raise ValueError("sasl_username and sasl_password need security_protocol: SASL_SSL or SASL_PLAINTEXT")
        tls = any(name.startswith("ssl_") for name in self.model_fields_set)
        if tls and not self.security_protocol.endswith("SSL"):
            raise ValueError("ssl_ settings need security_protocol: SSL or SASL_SSL")
        return self


class AnchorTopicSettings(ClusterSettings):
    """A Kafka topic for checkpoints."""

    topic: str = Field(description="The topic: compacted, or kept for ever.")


class AnchorSettings(Section):
    """A place for checkpoints: a file, for which its path alone may stand, or a Kafka topic."""

    file: Path | None = Field(default=None, description="A file elsewhere that holds the newest checkpoint.")
    kafka: AnchorTopicSettings | None = Field(default=None, description="A topic that others rule.")

    @model_validator(mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.file is None) == (self.kafka is None):
            raise ValueError("an anchor is a file or a Kafka topic: write its path, or kafka: {topic: ...}")
        return self


class JournalSettings(Section):
    """Who signs the journal, and who sees it signed."""

    origin: str = Field(default="soar.local/journal", description="Name of this log, for ever; no spaces, no plus.")
    key: Path = Field(default=Path("keys/journal.key"), description="Ed25519 private key, made by `soar init`.")
    passphrase: str | None = Field(default=None, description="Secret reference of what the key is locked with.")
    witnesses: tuple[WitnessSettings, ...] = Field(default=(), description="Who cosigns every checkpoint.")
    anchors: tuple[AnchorSettings, ...] = Field(
        default=(), description="Files elsewhere and Kafka topics that hold the newest checkpoint."
    )


class LimitSettings(Section):
    """How much one connector instance is asked for, by all workers together; what waits is queued."""

    rate: str | None = Field(default=None, description="Calls per second, minute, hour or day: `60/m`.")
    burst: int | None = Field(default=None, description="So many may come at once after a quiet time; else 1.")
    concurrency: int | None = Field(default=None, description="So many may be under way at once.")


class RetentionSettings(Section):
    """When what has ended leaves the store. The journal's entries stay for ever."""

    days: int | None = Field(
        default=90,
        ge=7,
        description="Age at which payloads move to the archive and ended runs, alerts and records leave; null: never.",
    )
    archive: Path = Field(
        default=Path("data/archive"), description="Folder of the archive; on one machine, or shared by all."
    )


class ConnectorSettings(Section):
    """One configured connector."""

    use: str = Field(description="Name of the connector, as `soar connectors list` shows it.")
    config: dict[str, Any] = Field(default_factory=dict, description="The connector's own settings.")
    limits: LimitSettings = Field(
        default=LimitSettings(), description="How much it is asked for; what is not said here, the connector says."
    )


class PersonSettings(Section):
    """Someone who may decide or act."""

    name: str = Field(description="How soar calls them.")
    groups: tuple[str, ...] = Field(default=(), description="Groups that approvals ask for.")
    os_user: str | None = Field(default=None, description="Their account on this machine, for the command line.")


class CliSettings(Section):
    """The command line on this machine."""

    act_as: bool = Field(default=False, description="Whether --as may name another person. For labs only; journalled.")


class WebSettings(Section):
    """The HTTP door."""

    host: str = "127.0.0.1"
    port: int = Field(default=8787, ge=0, le=65535)
    ingest_tokens: dict[str, str] = Field(
        default_factory=dict,
        description="Source name (or `*`) -> secret reference of the bearer token that may send alerts as it.",
    )
    metrics_token: str | None = Field(
        default=None, description="Secret reference; without it /metrics is for this machine alone."
    )
    max_body_bytes: int = Field(default=8_388_608, gt=0, description="Largest request body.")


class KafkaSettings(ClusterSettings):
    """Topics that alerts come from."""

    topics: tuple[str, ...] = Field(
        min_length=1, description="Topics to consume; one that begins with ^ is a pattern for the whole of their names."
    )
    group_id: str = "soar"
    group_instance_id: str | None = Field(
        default=None, description="Static membership: a name of its own for each worker, the same after its restart."
    )
    session_timeout_ms: int = Field(
        default=10_000, ge=1000, le=1_800_000, description="How long the group waits for a member that says nothing."
    )
    source: str = Field(default="kafka", description="Name under which records are counted.")
    mapping: str | None = Field(default=None, description="Mapping for all records; without it, detected by shape.")
    max_poll_records: int = Field(default=500, ge=1, le=10_000)
    stuck_seconds: float = Field(
        default=120,
        ge=1,
        description="Records wait and none comes for so long: first a new consumer, then the end of the service.",
    )
    dead_letter_topic: str | None = Field(default=None, description="Where dead letters of all doors are sent.")

    @model_validator(mode="after")
    def _no_circle(self) -> Self:
        if self.dead_letter_topic in self.topics:
            raise ValueError(f"dead letters sent to {self.dead_letter_topic} would come again; take another topic")
        return self


class EventTopicSettings(Section):
    """A topic of the cluster that alerts come from."""

    topic: str = Field(description="The topic, such as soar.events.")


class EventsSettings(Section):
    """Where others learn what happens here."""

    kafka: EventTopicSettings | None = None


class WorkerSettings(Section):
    """How runs are carried out."""

    concurrency: int = Field(default=100, ge=1, le=1000, description="Runs under way at once.")
    lease_seconds: float = Field(
        default=30,
        ge=3,
        le=600,
        description="How long a worker that died keeps its runs from others; the same for all workers of a store.",
    )


class EnvironmentSettings(Section):
    """Where this is, as policy sees it."""

    name: str = "default"
    tenant: str = "default"


Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


class HoursSettings(Section):
    """Hours of work on some days of the week."""

    days: tuple[Weekday, ...] = Field(min_length=1, description="Days of the week.")
    from_: str = Field(alias="from", pattern=_CLOCK, description="Such as 08:00.")
    to: str = Field(pattern=_CLOCK, description="Such as 18:00; 24:00 is midnight.")

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.from_ >= self.to:
            raise ValueError(f"from {self.from_} to {self.to} is no time; past midnight, write two entries")
        return self


class FreezeSettings(Section):
    """A change freeze."""

    name: str = Field(min_length=1)
    from_: AwareDatetime = Field(alias="from", description="Instant with a zone; it belongs to the freeze.")
    to: AwareDatetime = Field(description="Instant with a zone; it does not.")

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.from_ >= self.to:
            raise ValueError(f"the freeze {self.name!r} ends before it begins")
        return self


class CalendarSettings(Section):
    """What policy is told of the time. Without business hours, all hours are."""

    timezone: str = Field(default="UTC", description="Where the hours, days and holidays are: `Europe/Berlin`.")
    business_hours: tuple[HoursSettings, ...] = Field(default=(), description="When people are at work.")
    holidays: tuple[date, ...] = Field(default=(), description="Days without business hours: `2026-12-25`.")
    freezes: tuple[FreezeSettings, ...] = Field(
        default=(), description="Change freezes, beside those of policies/data/freezes.yaml."
    )

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as failure:
            raise ValueError(f"{name!r} is no timezone known here; write such as Europe/Berlin") from failure
        return name


class LogSettings(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    style: Literal["console", "json"] = "console"


class LabSettings(Section):
    """The lab, started with the service by `soar run --lab`."""

    host: str = "127.0.0.1"
    port: int = Field(default=8790, ge=0, le=65535)
    log: Path = Field(default=Path("data/lab.jsonl"), description="The lab's own request log.")
    token: str = Field(default="secret://env/SOAR_LAB_TOKEN", description="Secret reference of its bearer token.")


class Settings(Section):
    """All of `soar.yaml`. Relative paths start at the folder of the file."""

    store: StoreSettings = StoreSettings()
    playbooks: tuple[Path, ...] = Field(default=(Path("playbooks"),), description="Folders of playbooks.")
    watch_playbooks: bool = Field(default=False, description="Load playbooks anew when a file changes, as SIGHUP does.")
    mappings: tuple[Path, ...] = Field(default=(Path("mappings"),), description="Folders of your own mappings.")
    policy: PolicySettings = PolicySettings()
    journal: JournalSettings = JournalSettings()
    retention: RetentionSettings = RetentionSettings()
    environment: EnvironmentSettings = EnvironmentSettings()
    calendar: CalendarSettings = CalendarSettings()
    connectors: dict[str, ConnectorSettings] = Field(default_factory=dict)
    connectors_dir: Path | None = Field(default=None, description="Folder of drop-in connectors.")
    bindings: dict[str, str] = Field(default_factory=dict, description="Capability or pattern -> connector instance.")
    people: tuple[PersonSettings, ...] = ()
    cli: CliSettings = CliSettings()
    web: WebSettings = WebSettings()
    kafka: KafkaSettings | None = None
    events: EventsSettings = EventsSettings()
    worker: WorkerSettings = WorkerSettings()
    log: LogSettings = LogSettings()
    lab: LabSettings = LabSettings()

    @model_validator(mode="after")
    def _events_have_a_way_out(self) -> Self:
        wanted = self.events.kafka
        if wanted is not None and self.kafka is None:
            raise ValueError("events.kafka is a topic of the cluster under kafka:, which is not configured; add it")
        if wanted is not None and self.kafka is not None and wanted.topic in self.kafka.topics:
            raise ValueError(f"events sent to {wanted.topic} would be consumed as alerts; take another topic")
        return self

    @field_validator("people")
    @classmethod
    def _names_once(cls, people: tuple[PersonSettings, ...]) -> tuple[PersonSettings, ...]:
        names = [person.name for person in people]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the person {name!r} stands twice; keep one")
        return people


class Loaded:
    """Settings with the file they came from, so that later errors can still name their place."""

    def __init__(self, settings: Settings, located: Located, folder: Path, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.folder = folder
        self.environ = environ
        self._located = located

    @property
    def file(self) -> str:
        """The file's name."""
        return self._located.file

    def path(self, path: Path) -> Path:
        """A configured path, from the file's folder on."""
        return path if path.is_absolute() else self.folder / path

    def place(self, *path: str | int) -> Place:
        """Where a value stands in the file."""
        return self._located.place(path)


def load_settings(file: Path | None = None, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read the file and the environment; raises ConfigError listing all that is wrong, each with its place."""
    env = os.environ if environ is None else environ
    path = file or Path(env.get(f"{PREFIX}CONFIG", DEFAULT_FILE))
    if not path.is_file():
        raise ConfigError(
            "no such configuration; `soar init DIR` makes one, --config FILE names another", Place(str(path))
        )
    located = load(read_text(path, ConfigError), str(path), ConfigError)
    document = located.value if located.value is not None else {}
    if not isinstance(document, dict):
        raise ConfigError("must hold names and values, such as `web: {port: 8787}`", Place(str(path)))
    try:
        settings = Settings.model_validate(_overridden(document, env))
    except ValidationError as failure:
        known = _known_fields()
        problems = explain(failure, located, ConfigError, known=known)
        raise ConfigError("\n".join(str(problem) for problem in problems)) from None
    return Loaded(settings, located, path.resolve().parent, env)


def settings_schema() -> dict[str, Any]:
    """JSON Schema of `soar.yaml`, for editors."""
    return Settings.model_json_schema()


def _overridden(document: dict[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    result = {key: dict(value) if isinstance(value, dict) else value for key, value in document.items()}
    for name in sorted(env):
        if not name.startswith(PREFIX) or "__" not in name:
            continue
        section, _, key = name.removeprefix(PREFIX).lower().partition("__")
        if section not in Settings.model_fields:
            raise ConfigError(f"environment variable {name} names no section {section!r} of the configuration")
        inner = result.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"environment variable {name}: section {section!r} holds no names and values")
        inner[key] = load(env[name], name, ConfigError).value
    return result


def _known_fields() -> list[str]:
    models: list[type[BaseModel]] = [*Section.__subclasses__(), *ClusterSettings.__subclasses__()]
    return sorted({name for model in models for name in model.model_fields})
