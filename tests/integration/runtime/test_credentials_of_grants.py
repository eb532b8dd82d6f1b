"""Every grant brings the credential of its lease, and it is good as long as the lease."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.integration.runtime.test_runs import spec

from penstock_coordinator.runtime.credentials import LeaseOver, WrongCredential
from penstock_coordinator.runtime.session import lease_key

if TYPE_CHECKING:
    from tests.integration.runtime.conftest import World

TWO = spec({"name": "a"}, {"name": "b"})


async def test_a_credential_comes_with_the_grant_and_ends_with_the_lease(world: World) -> None:
    coordinator = await world.coordinator()
    agent = coordinator.agent()
    await agent.connect(credits=10)
    run_id = await coordinator.start(TWO)
    one, other = await agent.grant(), await agent.grant()
    credentials = coordinator.supervisor.credentials
    key, token = lease_key(one.lease), one.lease.token
    await credentials.require_live(key, token, one.credential)
    with pytest.raises(WrongCredential):
        await credentials.require_live(key, token, other.credential)
    await agent.acked(await agent.succeed(one))
    with pytest.raises(LeaseOver):
        await credentials.require_live(key, token, one.credential)
    await agent.succeed(other)
    await coordinator.ended(run_id)


async def test_after_a_restart_the_lease_and_its_credential_are_still_good(world: World) -> None:
    former = await world.coordinator()
    agent = former.agent()
    await agent.connect(credits=10)
    await former.start(spec({"name": "a"}))
    grant = await agent.grant()
    await former.kill()
    coordinator = await world.coordinator()
    await coordinator.supervisor.credentials.require_live(lease_key(grant.lease), grant.lease.token, grant.credential)
