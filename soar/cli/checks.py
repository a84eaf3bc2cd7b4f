"""What `soar doctor` looks at. Each check stands alone: it yields lines, and may raise; the others go on."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import httpx
from aiokafka.errors import KafkaError

from soar.cli.connectors import tried
from soar.cli.ground import Unchecked, counted
from soar.connector.secret import Secret, SecretResolver
from soar.errors import ConfigError, StoreUnavailableError
from soar.ingest.backlog import backlog
from soar.ingest.mapping import load_mappings
from soar.library.folder import load_folders
from soar.model.catalogue import Catalogue
from soar.model.clock import Clock, Ids
from soar.model.decision import Verdict
from soar.policy.address import OpaAddress
from soar.policy.bundle import load_bundle
from soar.policy.gate import Gate
from soar.policy.rehearsal import rehearsal
from soar.service import build_registry, read_key
from soar.service.brokers import subscription_of
from soar.service.deciding import engine_of, server_of
from soar.service.running import HONOURED
from soar.service.storage import database_url
from soar.settings import Loaded
from soar.store.postgres.connect import connect, prepare, where
from soar.store.postgres.migrate import SCHEMA_VERSION as POSTGRES_VERSION
from soar.store.postgres.migrate import schema_version
from soar.store.sqlite.evidence import GUARDS, open_evidence
from soar.store.sqlite.store import SCHEMA_VERSION

BROKER_SECONDS = 15.0  # a cluster that has just been made finds its groups a coordinator first
ANSWER_SECONDS = 2.0
OPA_SECONDS = 3.0
_REMEDIES = MappingProxyType(
    {
        "not_sent": "start it, or correct its config under connectors: in soar.yaml",
        "authentication": "give it a valid secret, or the rights that it lacks",
    }
)
_LITTLE_BYTES = 1 << 30
_NO_BYTES = 64 << 20


class State(StrEnum):
    """How one thing stands."""

    OK = "ok"
    WARN = "warn"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at; `fix` says what to do about it where the message does not."""

    state: State
    message: str
    fix: str = ""


@dataclass(frozen=True, kw_only=True)
class Patient:
    """The configuration under examination."""

    loaded: Loaded
    clock: Clock
    ids: Ids
    offline: bool

    def path(self, path: Path) -> Path:
        """A configured path, from the configuration's folder on."""
        return self.loaded.path(path)


Check = Callable[[Patient], AsyncIterator[Line]]


async def folders(patient: Patient) -> AsyncIterator[Line]:
    """Everything that must be there before anything is read from it."""
    settings = patient.loaded.settings
    for kind, paths in (("playbooks", settings.playbooks), ("policy", [settings.policy.path])):
        for path in map(patient.path, paths):
            if path.is_dir():
                yield Line(State.OK, f"{kind}: {path}")
            else:
                yield Line(State.FAILED, f"{kind}: {path} is no folder", f"create it, or correct {kind}: in soar.yaml")
    for path in map(patient.path, settings.mappings):
        if not path.is_dir():
            yield Line(State.OK, f"mappings: {path} is not there; the built-in mappings are used")
    if settings.store.url is not None:
        return
    data = patient.path(settings.store.path).parent
    while not data.exists():
        data = data.parent
    if not os.access(data, os.W_OK | os.X_OK):
        yield Line(State.FAILED, f"store: {data} cannot be written by {_account()}", f"run: chown {_account()} {data}")
    free = shutil.disk_usage(data).free
    state = State.FAILED if free < _NO_BYTES else State.WARN if free < _LITTLE_BYTES else State.OK
    room = f"{free / (1 << 30):.1f} GiB free for the store"
    yield Line(state, room, "" if state is State.OK else f"make room on the file system of {data}")


async def key(patient: Patient) -> AsyncIterator[Line]:
    """The journal's signing key."""
    verifier = read_key(patient.loaded).verifier
    origin = patient.loaded.settings.journal.origin
    if verifier.name == origin:
        yield Line(State.OK, f"signs as {verifier}")
    else:
        yield Line(
            State.FAILED,
            f"the key is {verifier.name!r}, the journal is {origin!r}: it could not sign a checkpoint",
            "set journal.origin to the key's name",
        )


async def store(patient: Patient) -> AsyncIterator[Line]:
    """The database or the store's file, looked at without changing it."""
    url = database_url(patient.loaded)
    if url is not None:
        yield await _database(url)
        return
    async for line in _file(patient):
        yield line


async def _file(patient: Patient) -> AsyncIterator[Line]:
    path = patient.path(patient.loaded.settings.store.path)
    if not path.exists():
        yield Line(State.OK, f"{path} is made at the first start")
        return
    for each in (path, path.parent):
        if not os.access(each, os.W_OK):
            yield Line(State.FAILED, f"{each} cannot be written by {_account()}", f"run: chown {_account()} {each}")
    with open_evidence(path) as evidence:
        version, mode = evidence.pragma("user_version"), evidence.pragma("journal_mode")
        if evidence.damage:
            raise StoreUnavailableError(f"{path}: {evidence.damage[0]}; restore a backup")
        if version > SCHEMA_VERSION:
            yield Line(State.FAILED, f"{path} has schema {version}, this soar knows {SCHEMA_VERSION}", "upgrade soar")
            return
        if version < SCHEMA_VERSION:
            yield Line(State.OK, f"{path} has schema {version}; the next start brings it to {SCHEMA_VERSION}")
            return
        if mode != "wal":
            yield Line(State.WARN, f"{path} is in journal mode {mode}", "the next start sets WAL; if not, is it NFS?")
        missing = sorted(GUARDS - evidence.guards())
        if missing:
            yield Line(State.FAILED, f"{path} lacks its triggers {', '.join(missing)}", "run: soar audit verify")
        size, _ = evidence.tree()
        if evidence.damage:
            raise StoreUnavailableError(f"{path}: {evidence.damage[0]}; run: soar audit verify")
        yield Line(State.OK, f"{path}: schema {version}, {counted(size, 'entry', 'entries')}")


async def _database(url: str) -> Line:
    db = await connect(url)
    try:
        await prepare(db)
        version = await schema_version(db)
    finally:
        await db.close()
    if version > POSTGRES_VERSION:
        return Line(
            State.FAILED, f"the database has schema {version}, this soar knows {POSTGRES_VERSION}", "upgrade soar"
        )
    later = "" if version == POSTGRES_VERSION else f"; the next start brings it to {POSTGRES_VERSION}"
    return Line(State.OK, f"PostgreSQL at {where(url)}: durable, schema {version}{later}")


async def policy(patient: Patient) -> AsyncIterator[Line]:
    """Whether the bundle loads, and a plain question gets a decision that counts."""
    settings = patient.loaded.settings.policy
    bundle = load_bundle(patient.path(settings.path))
    modules = f"{counted(len(bundle.modules), 'module')}, revision {bundle.revision[:12]}"
    server = server_of(patient.loaded)
    if isinstance(server, OpaAddress):
        if server.in_the_open:
            fix = "use https, or a Unix socket, or see that nobody else is on that network"
            yield Line(State.WARN, f"others on the way to {server.url} could answer in its place", fix)
        if patient.offline:
            yield Line(State.OK, f"{modules}; OPA at {server.url} not asked, as --offline")
            return
    engine = engine_of(patient.loaded, bundle, start_seconds=OPA_SECONDS)
    gate = Gate(engine, mandatory_controls=bundle.mandatory_controls, ids=patient.ids, honours=HONOURED)
    await gate.open()
    try:
        decision = await gate.decide(rehearsal()[0].document())
    finally:
        await gate.close()
    modules += "" if server is None else f", decided by OPA ({settings.url or server})"
    if decision.effect is Verdict.ALLOW:
        yield Line(State.OK, f"{modules}; a plain read is allowed")
    else:
        reasons = "; ".join(reason.msg for reason in decision.reasons) or decision.effect
        yield Line(State.WARN, f"{modules}; a plain read is not allowed: {reasons}", "nothing may run; is it meant so?")
    if settings.shadow is not None:
        yield Line(State.OK, f"shadow: revision {load_bundle(patient.path(settings.shadow)).revision[:12]}")


async def connectors(patient: Patient) -> AsyncIterator[Line]:
    """Whether every instance can be built, and whether its product lets us in."""
    configured = patient.loaded.settings.connectors
    if not configured:
        yield Line(State.WARN, "none are configured", "add one under connectors:; see soar connectors list --available")
        return
    registry = build_registry(patient.loaded, patient.clock)
    try:
        if patient.offline:
            yield Line(State.OK, f"{counted(len(configured), 'instance')} built; not asked, as --offline")
            return
        for result in await asyncio.gather(*(tried(registry, name) for name in configured)):
            state = State.OK if result["ok"] else State.FAILED
            yield Line(state, f"{result['name']}: {result['message']}", _REMEDIES.get(result["code"], ""))
    finally:
        await registry.close()


async def playbooks(patient: Patient) -> AsyncIterator[Line]:
    """Whether all of them are in force."""
    catalogue, unchecked = await _catalogue(patient)
    library = load_folders([patient.path(path) for path in patient.loaded.settings.playbooks], catalogue)
    for fault in library.errors:
        yield Line(State.FAILED, f"left out: {fault}")
    if unchecked:
        yield Line(State.WARN, "actions were not checked, as the connectors cannot be built")
    found = f"{counted(len(library.playbooks), 'playbook')} in force"
    if library.playbooks:
        yield Line(State.OK, found)
    else:
        yield Line(State.WARN, f"{found}: no alert starts a run", "soar init FOLDER writes starters to copy from")


async def _catalogue(patient: Patient) -> tuple[Catalogue, bool]:
    try:
        registry = build_registry(patient.loaded, patient.clock)
    except ConfigError:
        return Unchecked(), True  # the check of the connectors says why
    await registry.close()
    return registry.catalogue(), False


async def mappings(patient: Patient) -> AsyncIterator[Line]:
    """Whether all of them are in force."""
    found = load_mappings([patient.path(path) for path in patient.loaded.settings.mappings])
    for fault in found.errors:
        yield Line(State.FAILED, f"left out: {fault}")
    yield Line(State.OK, f"{counted(len(found.by_name), 'mapping')} in force")


async def people(patient: Patient) -> AsyncIterator[Line]:
    """Whether somebody can decide, and whether the one at this terminal can."""
    settings = patient.loaded.settings
    if not settings.people:
        yield Line(State.WARN, "nobody is configured, so nothing can be approved", "add people: to soar.yaml")
        return
    grouped = sum(bool(person.groups) for person in settings.people)
    yield Line(State.OK, f"{counted(len(settings.people), 'person', 'people')}, {grouped} in groups")
    if all(person.os_user != _account() for person in settings.people) and not settings.cli.act_as:
        fix = f"add `os_user: {_account()}` to one of people:"
        yield Line(State.WARN, f"the account {_account()!r} belongs to nobody, so it cannot approve from here", fix)


async def broker(patient: Patient) -> AsyncIterator[Line]:
    """Whether Kafka answers and has the topics, and how far behind the group is."""
    kafka = patient.loaded.settings.kafka
    subscription = subscription_of(patient.loaded)
    if kafka is None or subscription is None:
        yield Line(State.OK, "Kafka is not configured")
        return
    if patient.offline:
        yield Line(State.OK, f"Kafka at {kafka.bootstrap_servers} not asked, as --offline")
        return
    fix = "start it, or correct kafka.bootstrap_servers"
    if kafka.security_protocol != "PLAINTEXT":
        fix += ", or what is under kafka: of security_protocol, sasl_ and ssl_"
    try:
        async with asyncio.timeout(BROKER_SECONDS):
            found = await backlog(subscription)
    except TimeoutError:
        yield Line(State.FAILED, f"Kafka at {kafka.bootstrap_servers} gave no answer in {BROKER_SECONDS:.0f} s", fix)
        return
    except KafkaError as failure:
        yield Line(State.FAILED, f"Kafka at {kafka.bootstrap_servers} cannot be reached: {failure}", fix)
        return
    named = {each for each in kafka.topics if not each.startswith("^")} | set(subscription.apart)
    missing = sorted(named - found.topics)
    if missing:
        yield Line(State.WARN, f"Kafka has no topic {', '.join(missing)}", "create it, or correct soar.yaml")
    else:
        yield Line(State.OK, f"Kafka at {kafka.bootstrap_servers} has {', '.join(kafka.topics)}")
    if found.lag:
        worst = max(found.lag, key=lambda each: found.lag[each])
        most = f", most of them in {worst.topic}/{worst.partition}" if found.lag[worst] else ""
        yield Line(State.OK, f"group {kafka.group_id}: {counted(sum(found.lag.values()), 'record')} wait{most}")


async def ports(patient: Patient) -> AsyncIterator[Line]:
    """Whether the service can listen, or does already; and whether its tokens can be had."""
    settings = patient.loaded.settings
    web, lab = settings.web, settings.lab
    yield await _port("web", web.host, web.port, Asked("/health", "status"))
    if any(each.use.startswith("lab_") for each in settings.connectors.values()):
        yield await _port("lab", lab.host, lab.port, Asked("/", "lab"))
    resolver = SecretResolver(patient.loaded.environ)
    for source, reference in web.ingest_tokens.items():
        resolver.reveal(Secret(reference))
        yield Line(State.OK, f"web: {source} may send alerts with its token")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a server of ours is asked, and a word that its answer has."""

    path: str
    word: str


async def _port(name: str, host: str, port: int, asked: Asked) -> Line:
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as failure:
        answer = await _answer(host, port, asked)
        if answer is None:
            fix = f"end what uses it, or change {name}.port in soar.yaml"
            return Line(State.FAILED, f"{name}: cannot listen on {host}:{port}: {failure.strerror}", fix)
        if answer.is_success:
            return Line(State.OK, f"{name}: running at {host}:{port}")
        return Line(State.WARN, f"{name}: running at {host}:{port} and not well: {answer.text:.300}")
    return Line(State.OK, f"{name}: {host}:{port} is free")


async def _answer(host: str, port: int, asked: Asked) -> httpx.Response | None:
    """What the server there says, None where it is none of ours."""
    shown = f"[{host}]" if ":" in host else host
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS) as client:
            answer = await client.get(f"http://{shown}:{port}{asked.path}")
    except httpx.HTTPError:
        return None
    return answer if asked.word in answer.text else None


def _account() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name
