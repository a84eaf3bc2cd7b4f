"""A token is compared whole: what only resembles it is another."""

import httpx
import pytest

from .served import Api, bearer


@pytest.mark.parametrize(
    "shown", ["e", "edr-secre", "dr-secret", "EDR-SECRET", "edr-secret\x00", "edr-secret edr-secret"]
)
async def test_what_resembles_a_token_opens_nothing(api: Api, client: httpx.AsyncClient, shown: str) -> None:
    response = await client.post("/ingest/edr", headers=bearer(shown), content=b'{"id": 1}')
    assert response.status_code == 401
    assert not api.records
