"""Building everything that the configuration names."""

from __future__ import annotations

import contextlib
import gc
import os
import pwd
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import httpx
import structlog

from soar.connector.registry import InstanceConfig, Registry
from soar.connector.secret import SecretResolver
from soar.engine.approvals import ApprovalDesk
from soar.engine.authority import Authority
from soar.engine.control import Control
from soar.engine.intake import Intake
from soar.engine.people import People
from soar.engine.publishing import Anchor, AnchorFile, Publisher, prover
from soar.engine.scribe import Scribe
from soar.engine.timekeeper import Sequencer
from soar.errors import ConfigError, NotAllowedError, OutcomeUnknownError, Place
from soar.ingest.mapping import Mappings, load_mappings
from soar.ingest.normalise import Normaliser
from soar.journal.cosignature import CosignatureVerifier
from soar.journal.cosigning import WitnessClient
from soar.journal.note import Signer
from soar.library.folder import Library, load_folders
from soar.library.index import TriggerIndex
from soar.model.catalogue import Catalogue
from soar.model.clock import Clock, Ids, SharedClock, SystemClock, UlidSource
from soar.model.playbook import Mode
from soar.policy.bundle import Bundle, load_bundle
from soar.service.anchoring import KafkaAnchor
from soar.service.authority import authority_of, people_of
from soar.service.brokers import cluster_of
from soar.service.keys import hold_key, read_key
from soar.service.storage import store_of
from soar.service.timing import look
from soar.settings import AnchorSettings, Loaded
from soar.store.port import Store

log = structlog.get_logger(__name__)

WITNESS_SECONDS = 5.0


def starters(kind: str) -> Path:
    """The folder of starter `playbooks` or `policies`: inside the wheel, or beside the sources in a checkout."""
    package = Path(str(resources.files("soar")))
    bundled = package / "_bundled" / kind
    return bundled if bundled.is_dir() else package.parent / kind


@dataclass
class Service:
    """Everything that `soar run` starts, and that commands use without starting it."""

    loaded: Loaded
    clock: Clock
    ids: Ids
    store: Store
    registry: Registry
    library: Library
    mappings: Mappings
    bundle: Bundle
    people: People
    scribe: Scribe
    held: contextlib.ExitStack
    index: TriggerIndex = field(init=False)

    def __post_init__(self) -> None:
        self.index = index_of(self.library)

    def desk(self, woken: Callable[[], None] = lambda: None) -> ApprovalDesk:
        """Where people's decisions are taken."""
        return ApprovalDesk(
            store=self.store, scribe=self.scribe, people=self.people, authority=self.authority, woken=woken
        )

    def control(self, person: str) -> Control:
        """What this person may do to runs."""
        return Control(store=self.store, scribe=self.scribe, person=person, authority=self.authority)

    @property
    def authority(self) -> Authority:
        """Who may do what, by the policies in force."""
        return authority_of(self.loaded, self.store, self.scribe, lambda: self.bundle)

    def intake(self, admitted: Callable[[], None] = lambda: None, *, scribe: Scribe | None = None) -> Intake:
        """The door for records; `scribe` where somebody else than the service brings them."""
        normaliser = Normaliser(self.mappings, self.ids, self.clock)
        return Intake(
            store=self.store,
            scribe=scribe or self.scribe,
            normalise=normaliser.normalise,
            index=lambda: self.index,
            admitted=admitted,
        )

    def signer(self) -> Signer:
        """The journal's key; raises ConfigError where there is none."""
        return read_key(self.loaded)

    def sequencer(self) -> Sequencer:
        """Who signs checkpoints; until `assemble` ends, the key stays the one that it is."""
        self.held.enter_context(hold_key(self.loaded))
        return sequencer_of(self.loaded, self.store, self.signer())


@contextlib.asynccontextmanager
async def assemble(loaded: Loaded, *, clock: Clock | None = None, ids: Ids | None = None) -> AsyncIterator[Service]:
    """Build and open everything that the configuration names; raises ConfigError and its siblings.

    Broken playbooks and mappings are left out with their errors; a broken policy or connector stops the start.
    """
    settings = loaded.settings
    if clock is None:
        clock = SystemClock() if settings.store.url is None else SharedClock(SystemClock())
    # The lock of several runs goes to the first by name, whichever machine named it.
    ids = ids or UlidSource(clock if isinstance(clock, SharedClock) else None)
    registry = build_registry(loaded, clock)
    store = store_of(loaded)
    held = contextlib.ExitStack()
    try:
        await store.open()
        if isinstance(clock, SharedClock):
            await look(clock, store)
        yield Service(
            loaded=loaded,
            clock=clock,
            ids=ids,
            store=store,
            registry=registry,
            library=library_of(loaded, registry.catalogue()),
            mappings=load_mappings([loaded.path(path) for path in settings.mappings]),
            bundle=load_bundle(loaded.path(settings.policy.path)),
            people=people_of(loaded),
            scribe=Scribe(clock=clock, ids=ids),
            held=held,
        )
    finally:
        held.close()
        await registry.close()
        await store.close()


def index_of(library: Library) -> TriggerIndex:
    """What alerts are matched against."""
    return TriggerIndex(p for p in library.playbooks.values() if p.on is not None and p.mode is not Mode.OFF)


def build_registry(loaded: Loaded, clock: Clock) -> Registry:
    """The configured connectors; raises ConfigError listing everything wrong with its place."""
    settings = loaded.settings
    instances = {
        name: InstanceConfig(use=c.use, config=c.config, limits=c.limits.model_dump(exclude_unset=True))
        for name, c in settings.connectors.items()
    }

    def locate(path: tuple[str | int, ...]) -> Place:
        return loaded.place(*path) if path[:1] == ("bindings",) else loaded.place("connectors", *path)

    return Registry.build(
        instances,
        settings.bindings,
        SecretResolver(loaded.environ),
        clock=clock,
        connectors_dir=loaded.path(settings.connectors_dir) if settings.connectors_dir else None,
        locate=locate,
    )


def sequencer_of(loaded: Loaded, store: Store, signer: Signer) -> Sequencer:
    """Who signs checkpoints with this key, and shows them to those whom the configuration names.

    Raises ConfigError for a key of another name than the journal's.
    """
    origin = loaded.settings.journal.origin
    if signer.name != origin:
        remedy = "set that back; or, after a backup was restored: soar audit continue --reason ..."
        place = loaded.place("journal", "origin")
        raise ConfigError(f"the journal's key is of {signer.name}, journal.origin says {origin}; {remedy}", place)
    publisher = Publisher(
        witnesses=witnesses_of(loaded), prove=prover(store), anchors=anchors_of(loaded, origin=signer.name)
    )
    return Sequencer(store=store, signer=signer, origin=origin, publisher=publisher)


def witnesses_of(loaded: Loaded) -> list[WitnessClient]:
    """Who cosigns checkpoints."""
    return [
        WitnessClient(url=each.url, verifier=CosignatureVerifier.from_text(each.key), post=post_to_witness)
        for each in loaded.settings.journal.witnesses
    ]


def anchors_of(loaded: Loaded, *, origin: str, whole: bool = False) -> list[Anchor]:
    """Where checkpoints of the log `origin` are kept besides; `whole` are asked for all that they ever were given."""
    return [_anchor(loaded, each, origin, whole=whole) for each in loaded.settings.journal.anchors]


def _anchor(loaded: Loaded, wanted: AnchorSettings, origin: str, *, whole: bool) -> Anchor:
    if wanted.file is not None:
        return AnchorFile(loaded.path(wanted.file))
    kafka = wanted.kafka
    assert kafka is not None
    cluster = cluster_of(loaded, kafka, "journal", "anchors")
    return KafkaAnchor(cluster, topic=kafka.topic, origin=origin, whole=whole)


async def post_to_witness(url: str, body: bytes) -> tuple[int, bytes]:
    """Send a checkpoint; raises OutcomeUnknownError, which is harmless here: asking again is always allowed."""
    try:
        async with httpx.AsyncClient(timeout=WITNESS_SECONDS) as http:
            answer = await http.post(url, content=body)
    except httpx.HTTPError as failure:
        raise OutcomeUnknownError(f"{url}: {type(failure).__name__}: {failure}") from failure
    return answer.status_code, answer.content


def person_of(loaded: Loaded, named: str | None) -> str:
    """Who sits at this terminal: the person whose `os_user` owns this process.

    `--as` names another only where the configuration allows it. Raises NotAllowedError.
    """
    settings = loaded.settings
    if named is not None and settings.cli.act_as:
        return named
    account = pwd.getpwuid(os.getuid()).pw_name
    mine = [person.name for person in settings.people if person.os_user == account]
    if named is not None and named not in mine:
        raise NotAllowedError(f"--as {named} is not allowed here: cli.act_as is false in {loaded.file}")
    if not mine:
        raise NotAllowedError(
            f"the account {account!r} belongs to nobody in people: of {loaded.file}; add `os_user: {account}` to one"
        )
    return named or mine[0]


def library_of(loaded: Loaded, catalogue: Catalogue) -> Library:
    """The playbooks in force. Thousands of frozen objects stay for good: collecting among them is wasted work."""
    gc.disable()
    try:
        return load_folders([loaded.path(path) for path in loaded.settings.playbooks], catalogue)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
