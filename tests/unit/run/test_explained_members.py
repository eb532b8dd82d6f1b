"""A member knows the agents that are linked with it, and says so where one is missing."""

from __future__ import annotations

from penstock_coordinator.core.plan.model import Lack, Line
from penstock_coordinator.core.run.explain.agents import line_reasons
from penstock_coordinator.core.run.explain.situations import AgentSituation, LineSituation

LINE = Line("default", (), (), "")


def test_agents_of_the_head_alone_are_not_among_those_that_could() -> None:
    other = AgentSituation("other", lacks=(Lack("queue", "default", "", ""),))
    for agents in ((), (other,)):
        (here,) = line_reasons(LINE, LineSituation(agents))
        (there,) = line_reasons(LINE, LineSituation(agents, member="c2"))
        assert there.message.startswith(here.message)
        assert '"c2" has the run, as a member' in there.message
        assert there.details == here.details | {"member": "c2"}
