"""What is known beyond a run, as a script stages it.

    > agent a1 slots=2 leases=2 full
    > agent a2 lacks=label:zone:eu:us,resource:gpu:1:0
    > agent a3 left
    > key reports limit=1 holder=r7/load
    > window DAY measure=CPU_TIME used=12 limit=10 until=3600

`priority=5/7` of an agent line: that of who waits, and what it is with the wait.
`open=30s` of an agent line: agents are expected back until then.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from penstock_coordinator.core.plan.budget import Measure, Per
from penstock_coordinator.core.plan.model import Lack
from penstock_coordinator.core.run.explain.situations import (
    AgentSituation,
    KeyHolder,
    KeySituation,
    LineSituation,
    WindowSituation,
)


@dataclass
class StagedSituation:
    now: int = 0
    queued_open_at: int = 0
    agents: list[AgentSituation] = field(default_factory=list)
    ahead: int = 0
    priority: tuple[int, int] = (0, 0)
    of_run: KeySituation | None = None
    of_step: KeySituation | None = None
    of_window: WindowSituation | None = None
    noted: str = ""

    def line(self, _position: int) -> LineSituation:
        return LineSituation(tuple(self.agents), self.ahead, *self.priority)

    def step_key(self, _position: int) -> KeySituation | None:
        return self.of_step

    def child_key(self, _run_id: bytes) -> None:
        """A script knows of no other run."""

    def child_state(self, _run_id: bytes) -> str:
        return "RUNNING"

    def child_over_budget(self, _run_id: bytes) -> bool:
        return False

    def run_key(self) -> KeySituation | None:
        return self.of_run

    def window(self) -> WindowSituation | None:
        return self.of_window

    def lacks_secret(self, _name: str) -> bool:
        """A script's steps name none."""
        return False

    def set_window(self, words: list[str]) -> None:
        options = dict(word.split("=", 1) for word in words if "=" in word)
        measure = Measure[options["measure"]]
        used, limit, until = (int(options[name]) * 1_000_000 for name in ("used", "limit", "until"))
        self.of_window = WindowSituation("tests", Per[words[0]], measure, used, limit, until)

    def note(self, _step: int, _item: int) -> str:
        return self.noted

    def add_agent(self, words: list[str]) -> None:
        """Takes the place of one of the same name."""
        options = dict(word.split("=", 1) for word in words if "=" in word)
        lacks = tuple(Lack(*each.split(":")) for each in filter(None, options.get("lacks", "").split(",")))
        slots, leases = int(options.get("slots", "1")), int(options.get("leases", "0"))
        self.ahead = int(options.get("ahead", "0"))
        own, _, effective = options.get("priority", "0").partition("/")
        self.priority = (int(own), int(effective or own))
        self.agents = [agent for agent in self.agents if agent.agent != words[0]]
        if "gone" not in words:
            self.agents.append(
                AgentSituation(
                    words[0],
                    lacks,
                    "draining" in words,
                    "full" in words,
                    leases,
                    slots,
                    paused="paused" in words,
                    left="left" in words,
                )
            )

    def set_key(self, words: list[str]) -> None:
        options = dict(word.split("=", 1) for word in words if "=" in word)
        holders = tuple(KeyHolder(*each.split("/")) for each in filter(None, options.get("holder", "").split(",")))
        key = KeySituation(words[0], int(options.get("limit", "1")), holders, int(options.get("ahead", "0")))
        if "run" in words:
            self.of_run = key if "free" not in words else None
        else:
            self.of_step = key if "free" not in words else None
