"""Agents, and who speaks for a coordinator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class AgentRow:
    agent_id: str
    session_epoch: int
    boot_id: str
    version: str
    hostname: str
    queues: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    resources: tuple[tuple[str, float], ...]
    slots: int
    connect_time: int
    goodbye: bool
    """The last session ended with a goodbye."""
    paused: bool = False
    """By a person. A session that is opened leaves it as it is."""


class OpenedSession(NamedTuple):
    epoch: int
    """Greater than all before of all agents."""
    paused: bool
    """The agent is, by a person."""


class LinkRow(NamedTuple):
    """The last session of an agent with a member."""

    agent_id: str
    coordinator_id: str
    session_epoch: int
    boot_id: str


class AgentRegistry(Protocol):
    """The agents that were ever connected. All methods raise `Unavailable`."""

    async def open_session(self, agent: AgentRow) -> OpenedSession:
        """Commit a new session of the agent, with the head."""

    async def open_link(self, agent_id: str, coordinator_id: str, boot_id: str) -> int:
        """Commit a new session of the agent with a member; its number, from the sequence of all sessions. The agent's
        row is left as it is, which tells of its session with the head."""

    async def list_links(self, limit: int, after: tuple[str, str] = ("", "")) -> list[LinkRow]:
        """By agent and coordinator."""

    async def close_session(self, agent_id: str, session_epoch: int) -> None:
        """The session said goodbye. Nothing happens if a newer one is open."""

    async def set_paused(self, agent_id: str, *, paused: bool) -> bool:
        """Whether there is such an agent."""

    async def get_agent(self, agent_id: str) -> AgentRow | None: ...

    async def list_agents(self, limit: int, after: str = "") -> list[AgentRow]:
        """By id."""


class Incarnations(Protocol):
    async def incarnate(self, coordinator_id: str, lanes: int) -> int:
        """A new epoch of this coordinator, greater than every epoch of every coordinator before. Locks all fence rows
        of the id first, so that no append of the former incarnation is accepted from here on."""

    async def is_current(self, coordinator_id: str, epoch: int) -> bool:
        """Whether no newer incarnation of the coordinator was made since. Raises `Unavailable`."""

    def speak_as(self, epoch: int) -> None:
        """This coordinator was given its epoch by a claim of the `CoordinatorRegistry`: its journal writes with it."""

    async def take_over_run(self, run_id: bytes, epoch: int) -> bool:
        """Make this coordinator, with that epoch, the owner of a run at rest whose owner is none any more. False: it
        has another owner, or one that was never registered, or this one is none. Raises `Unavailable`."""
