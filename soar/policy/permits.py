"""Whether people may do what they ask to: the rules of the bundle, asked in this process.

Such questions are few and must be answered where no service runs, so each has an engine of its own.
"""

from __future__ import annotations

from soar.policy.bundle import Bundle
from soar.policy.person import Permission, PersonInput, answer_of
from soar.policy.rego import new_engine


def permission(bundle: Bundle, question: PersonInput) -> Permission:
    """What a bundle says; raises PolicyError where that is no answer.

    A bundle without the package `soar.people` says nothing about people: whoever is configured may do everything.
    """
    if not bundle.rules_people:
        return Permission(allow=True)
    return answer_of(new_engine(bundle.modules, bundle.data_json), question)
