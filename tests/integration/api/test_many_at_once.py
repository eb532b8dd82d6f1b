"""More calls at once than a connection may have, on one that is new: what it refuses is asked again by the client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.integration.api.conftest import ONE_STEP

from penstock.client.client import Client
from penstock.v1 import run_service_pb2

if TYPE_CHECKING:
    from tests.integration.api.conftest import Edge

AT_ONCE = 2_000
"""Twice as many as a connection may have under way; the client hears of that bound with its first answer only."""


async def test_two_thousand_starts_on_a_fresh_connection_are_all_done_once(edge: Edge) -> None:
    await edge.create()
    async with Client(edge.server.address) as client:
        starts = (client.start(ONE_STEP.name, request_id=f"r{number}") for number in range(AT_ONCE))
        handles = await asyncio.gather(*starts)
    assert len({handle.id for handle in handles}) == AT_ONCE
    found, token = 0, ""
    while True:
        page = await edge.runs.List(run_service_pb2.ListRunsRequest(page_size=1_000, page_token=token))
        found, token = found + len(page.runs), page.next_page_token
        if not token:
            break
    assert found == AT_ONCE
