"""The starter bundle, an engine on it, and a way to write small bundles of one's own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from soar.policy.bundle import Bundle, load_bundle
from soar.policy.embedded import EmbeddedEngine

from .policy_questions import DECISION, ROOT, Ask, CountingIds, Write, question


@pytest.fixture(scope="session")
def starters() -> Bundle:
    return load_bundle(ROOT / "policies")


@pytest.fixture
async def engine(starters: Bundle) -> AsyncIterator[EmbeddedEngine]:
    engine = EmbeddedEngine(starters)
    yield engine
    await engine.close()


@pytest.fixture
def ids() -> CountingIds:
    return CountingIds()


@pytest.fixture(scope="session")
def ask() -> Ask:
    """`ask("host.isolate", "host:ws-17", severity="high")`: a question as the engine would put it."""
    return question


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a bundle folder: a file's path, with `/` as `__` and its suffix as in `main_rego`, and its text."""

    def write(**files: str) -> Path:
        for name, text in {"main_rego": DECISION, **files}.items():
            stem, _, suffix = name.replace("__", "/").rpartition("_")
            path = tmp_path / "policies" / f"{stem}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.lstrip("\n"), encoding="utf-8")
        return tmp_path / "policies"

    return write
