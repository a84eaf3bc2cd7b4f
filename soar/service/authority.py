"""Who may do what here, as configuration and policies say it."""

from __future__ import annotations

from collections.abc import Callable

from soar.engine.authority import Authority
from soar.engine.people import People
from soar.engine.question import time_facts
from soar.engine.scribe import Scribe
from soar.model.approval import Person
from soar.policy.bundle import Bundle
from soar.policy.input import Environment
from soar.service.calendar import calendar_of
from soar.settings import Loaded
from soar.store.port import Store


def people_of(loaded: Loaded) -> People:
    """The configured people."""
    return People([Person(name=each.name, groups=each.groups) for each in loaded.settings.people])


def environment_of(loaded: Loaded) -> Environment:
    """Where this is."""
    here = loaded.settings.environment
    return Environment(name=here.name, tenant=here.tenant)


def authority_of(loaded: Loaded, store: Store, scribe: Scribe, bundle: Callable[[], Bundle]) -> Authority:
    """Asks this bundle, which is read no sooner than it is asked."""
    calendar = calendar_of(loaded.settings.calendar)
    return Authority(
        store=store,
        scribe=scribe,
        people=people_of(loaded),
        bundle=bundle,
        facts=lambda: time_facts(scribe.clock.now(), calendar),
        environment=environment_of(loaded),
    )
