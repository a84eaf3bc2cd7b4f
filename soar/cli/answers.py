"""Answers to the questions of `ask` steps: typed, as the playbook says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from soar.errors import InputError
from soar.located import did_you_mean


def parse_answer(binding: Mapping[str, Any], value: str) -> str | int | float | bool:
    """The typed answer to a question; raises InputError saying what is wanted."""
    options = [str(option) for option in binding.get("options", ())]
    match binding.get("answer"):
        case "choice":
            if value not in options:
                raise InputError(f"{value!r} is none of {', '.join(options)}{did_you_mean(value, options)}")
            return value
        case "boolean":
            words = {"yes": True, "true": True, "no": False, "false": False}
            if value.lower() not in words:
                raise InputError(f"{value!r} is neither yes nor no")
            return words[value.lower()]
        case "number":
            return _number(value)
    return value


def _number(value: str) -> int | float:
    try:
        number = json.loads(value)
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise InputError(f"{value!r} is no number; write it like 3, -1 or 2.5")
    return number
