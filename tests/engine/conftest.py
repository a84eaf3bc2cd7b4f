"""A house for each test: see `house.py`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .house import House, open_house


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A whole house, not started: a test puts playbooks in and calls `start`."""
    async with open_house(tmp_path) as house:
        yield house
