"""Log streams that a coordinator with too much to do refuses."""

from __future__ import annotations

import itertools

from tests.integration.agent.conftest import Agents
from tests.integration.agent.coordinator import Coordinator
from tests.integration.agent.test_agent_commands import shell

SHED = 2


async def test_lines_whose_stream_is_refused_come_with_a_later_one_and_not_before_it_was_asked_for(
    coordinator: Coordinator, agents: Agents
) -> None:
    coordinator.refused_log_streams = SHED
    await agents.start()
    await coordinator.run(shell("echo first; echo second"))
    await coordinator.logged("second")
    texts = [record.text for _, record in coordinator.logs]
    assert texts.index("first") < texts.index("second")
    assert len(coordinator.log_streams) == SHED + 1
    assert all(later - earlier > 0.19 for earlier, later in itertools.pairwise(coordinator.log_streams))
