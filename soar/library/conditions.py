"""Trigger conditions that stand alone, read and checked by the same rules as those of a playbook."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from soar.errors import InputError
from soar.library.lint import lint
from soar.library.parse import parse
from soar.model.catalogue import Catalogue
from soar.model.playbook import Trigger


def conditions(match: Mapping[str, Any], where: str | None = None) -> Trigger:
    """The trigger that these conditions make; raises InputError with everything that is wrong with them."""
    on = {"match": dict(match), **({"where": where} if where is not None else {})}
    around = {"playbook": "conditions", "description": "-", "owner": "-", "on": on, "steps": [{"stop": "succeeded"}]}
    parsed = parse(json.dumps(around, ensure_ascii=False), "conditions")
    errors = lint(parsed, Catalogue(), ())
    if errors or parsed.playbook is None or parsed.playbook.on is None:
        raise InputError("; ".join(error.message for error in errors))
    return parsed.playbook.on
