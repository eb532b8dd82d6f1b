"""What the registry of agents promises, on PostgreSQL and in memory."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from tests.contract.backends import Backend

from penstock_coordinator.ports import AgentRow, Stores


def _agent(agent_id: str = "a1", boot_id: str = "boot-1") -> AgentRow:
    return AgentRow(
        agent_id=agent_id,
        session_epoch=0,
        boot_id=boot_id,
        version="0.1.0",
        hostname="nul\0host",
        queues=("default", "gpu"),
        labels=(("zone", "a"),),
        resources=(("memory_gb", 1.5),),
        slots=4,
        connect_time=77,
        goodbye=False,
    )


async def test_a_session_is_kept_with_what_the_agent_says_of_itself(stores: Stores) -> None:
    epoch, paused = await stores.agents.open_session(_agent())

    assert not paused
    assert await stores.agents.get_agent("a1") == dataclasses.replace(_agent(), session_epoch=epoch)
    assert await stores.agents.get_agent("a2") is None


async def test_session_epochs_grow_over_all_agents_and_coordinators(backend: Backend) -> None:
    first, second = await backend.open("c1"), await backend.open("c2")

    epochs = [
        (await first.agents.open_session(_agent("a1"))).epoch,
        (await second.agents.open_session(_agent("a2"))).epoch,
        (await second.agents.open_session(_agent("a1"))).epoch,
        (await first.agents.open_session(_agent("a1"))).epoch,
    ]

    assert epochs == sorted(set(epochs))


async def test_sessions_that_one_agent_opens_at_once_have_epochs_of_their_own(stores: Stores) -> None:
    opened = await asyncio.gather(*(stores.agents.open_session(_agent(boot_id=str(i))) for i in range(5)))
    epochs = [each.epoch for each in opened]

    assert len(set(epochs)) == 5
    row = await stores.agents.get_agent("a1")
    assert row is not None
    assert row.session_epoch == max(epochs)
    assert row.boot_id == str(epochs.index(max(epochs)))


async def test_goodbye_is_noted_until_the_next_session(stores: Stores) -> None:
    epoch, _ = await stores.agents.open_session(_agent())

    await stores.agents.close_session("a1", epoch)
    row = await stores.agents.get_agent("a1")
    assert row is not None
    assert row.goodbye

    await stores.agents.open_session(_agent())
    row = await stores.agents.get_agent("a1")
    assert row is not None
    assert not row.goodbye


async def test_the_goodbye_of_an_old_session_does_not_end_the_newer_one(stores: Stores) -> None:
    old, _ = await stores.agents.open_session(_agent())
    await stores.agents.open_session(_agent())

    await stores.agents.close_session("a1", old)

    row = await stores.agents.get_agent("a1")
    assert row is not None
    assert not row.goodbye


async def test_agents_are_listed_by_id_page_by_page(stores: Stores) -> None:
    for agent_id in ("b", "a", "C", "a-1"):
        await stores.agents.open_session(_agent(agent_id))
    pages, after = [], ""
    while page := await stores.agents.list_agents(3, after):
        pages.append([row.agent_id for row in page])
        after = page[-1].agent_id

    assert pages == [["C", "a", "a-1"], ["b"]]


@pytest.mark.parametrize("agent_id", ["nul\0nul", "lone \ud800 surrogate"])
async def test_nothing_is_found_by_an_id_that_is_no_text(stores: Stores, agent_id: str) -> None:
    assert await stores.agents.get_agent(agent_id) is None
    await stores.agents.close_session(agent_id, 1)
    await stores.agents.list_agents(10, agent_id)  # answers, whatever the page token was made of


async def test_a_pause_is_kept_over_sessions(stores: Stores) -> None:
    assert not await stores.agents.set_paused("a1", paused=True)
    await stores.agents.open_session(_agent())

    assert await stores.agents.set_paused("a1", paused=True)
    assert (await stores.agents.open_session(_agent())).paused
    assert [row.paused for row in await stores.agents.list_agents(10)] == [True]

    assert await stores.agents.set_paused("a1", paused=False)
    row = await stores.agents.get_agent("a1")
    assert row is not None
    assert not row.paused
    assert not (await stores.agents.open_session(_agent())).paused
    assert not await stores.agents.set_paused("no\0text", paused=True)


async def test_a_session_with_a_member_has_a_number_of_all_sessions_and_leaves_that_with_the_head_alone(
    backend: Backend,
) -> None:
    head, member = await backend.open("c1"), await backend.open("c2")
    home = (await head.agents.open_session(_agent())).epoch
    first = await member.agents.open_link("a1", "c2", "boot-1")
    other = await member.agents.open_link("a1", "c3", "boot-1")
    again = await member.agents.open_link("a1", "c2", "boot-2")

    assert home < first < other < again < (await head.agents.open_session(_agent("a2"))).epoch
    assert await head.agents.list_links(10) == [("a1", "c2", again, "boot-2"), ("a1", "c3", other, "boot-1")]
    row = await head.agents.get_agent("a1")
    assert row is not None
    assert (row.session_epoch, row.boot_id) == (home, "boot-1")
    await head.agents.close_session("a1", home)
    row = await head.agents.get_agent("a1")
    assert row is not None
    assert row.goodbye


async def test_links_that_are_opened_at_once_have_numbers_of_their_own(stores: Stores) -> None:
    opened = await asyncio.gather(*(stores.agents.open_link("a1", "c2", str(i)) for i in range(5)))
    assert len(set(opened)) == 5
    last = max(opened)
    assert await stores.agents.list_links(10) == [("a1", "c2", last, str(opened.index(last)))]


async def test_links_are_listed_by_agent_and_coordinator_page_by_page(stores: Stores) -> None:
    for agent_id, coordinator_id in (("b", "c1"), ("a", "c2"), ("C", "c9"), ("a", "c1")):
        await stores.agents.open_link(agent_id, coordinator_id, "boot")
    pages, after = [], ("", "")
    while page := await stores.agents.list_links(3, after):
        pages.append([row[:2] for row in page])
        after = page[-1].agent_id, page[-1].coordinator_id

    assert pages == [[("C", "c9"), ("a", "c1"), ("a", "c2")], [("b", "c1")]]
