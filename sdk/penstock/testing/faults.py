"""Faults: what can go wrong, when, and for whom. A schedule's faults are drawn before it begins, so that each of them
can be left out to see whether the rest is enough."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from penstock.testing.timeline import MILLISECOND, SECOND


class FaultKind(enum.Enum):
    """What can go wrong. The names are those that `simulate(faults=...)` takes."""

    AGENT_CRASH = "agent_crash"
    """kill -9 of an agent, which is started again after a while."""
    AGENT_CRASH_AT_RESULT = "agent_crash_at_result"
    """The same, between the end of an attempt and the first word about it."""
    AGENT_CRASH_AT_SYNC = "agent_crash_at_sync"
    """The same, between the sync of its spool and whatever follows."""
    POISON = "poison"
    """A step (the target counts steps) kills every agent that runs it, for a while."""
    AGENT_GONE = "agent_gone"
    """An agent's machine is gone for good; after a while there is a new one with another name."""
    AGENT_FREEZE = "agent_freeze"
    """An agent's process stands still; what it has started goes on."""
    AGENT_DRAIN = "agent_drain"
    """An agent is told to end, and another one is started in its place."""
    DISK_FULL = "disk_full"
    """An agent's disk takes nothing for a while."""
    STREAM_BREAK = "stream_break"
    """A stream breaks and loses what was on its way, perhaps several times in a row."""
    STREAM_GHOST = "stream_ghost"
    """The same, but what the agent had said still arrives, perhaps after its next stream was opened."""
    STREAM_DELAY = "stream_delay"
    """What an agent says and hears takes seconds for a while."""
    BAD_LINK = "bad_link"
    """An agent hears everything late for a while, and towards the end of it nobody hears the agent."""
    PARTITION = "partition"
    """An agent is cut off for a while, in one direction or both."""
    COORDINATOR_CRASH = "coordinator_crash"
    """kill -9 of the coordinator, which is started again after a while."""
    COORDINATOR_CRASH_AT_COMMIT = "coordinator_crash_at_commit"
    """The same, when a commit is durable and its answer has not come."""
    COORDINATOR_FREEZE = "coordinator_freeze"
    """The coordinator stands still for a while."""
    COORDINATOR_REPLACED = "coordinator_replaced"
    """It stands still, another one takes its place, and then it goes on."""
    OWNER_FREEZE_AT_COMMIT = "owner_freeze_at_commit"
    """Of several coordinators the owner stands still when a commit is durable and its answer has not come."""
    OWNER_FREEZE_AT_RENEWAL = "owner_freeze_at_renewal"
    """The owner stands still between the decision to renew its ownership lease and asking for it."""
    OWNER_CUT_OFF = "owner_cut_off"
    """The owner alone does not reach the database, or hears no answer of it."""
    FOLLOWER_CUT_OFF = "follower_cut_off"
    """The same of one that follows."""
    FOLLOWER_CRASH = "follower_crash"
    """kill -9 of a coordinator that follows, which is started again after a while."""
    FOLLOWER_FREEZE = "follower_freeze"
    """One that follows stands still for a while."""
    HAND_OVER = "hand_over"
    """The owner is told to end (now and then one that follows), and is started again after a while; or a person wants
    another one to own the runs."""
    COORDINATORS_PARTED = "coordinators_parted"
    """Nothing that one coordinator says arrives at another one, and perhaps the other way round, for a while."""
    AGENT_PARTED = "agent_parted"
    """An agent and one of the coordinators are cut off from each other for a while, in one direction or both."""
    BOARD_LOST = "board_lost"
    """Letters between coordinators are lost, come twice, seconds late, or are wrong, for a while."""
    OWNERSHIP_LATE = "ownership_late"
    """The connection breaks on which a coordinator asks for ownership, and what it asked for is done seconds later."""
    OWNERSHIP_UNKNOWN = "ownership_unknown"
    """What a coordinator asks for in the matter of ownership is done, and no answer comes."""
    MEMBER_CRASH = "member_crash"
    """kill -9 of a member, perhaps with a commit on its way, which is started again after a while."""
    MEMBER_FREEZE = "member_freeze"
    """A member stands still for a while."""
    MEMBER_FREEZE_AT_COMMIT = "member_freeze_at_commit"
    """The same, when a commit of it is durable and its answer has not come."""
    MEMBER_CUT_OFF = "member_cut_off"
    """A member alone does not reach the database, or hears no answer of it."""
    MEMBER_PARTED = "member_parted"
    """Nothing that a member says arrives at its head, and perhaps the other way round, for a while."""
    MEMBER_LEAVES = "member_leaves"
    """A member is told to end, and is started again after a while."""
    JOINS_LATE = "joins_late"
    """One that is not the head leaves it, and joins none for a while."""
    HEAD_AND_MEMBER_CRASH = "head_and_member_crash"
    """kill -9 of the head and, in the same moment, of a member."""
    LINK_PARTED = "link_parted"
    """An agent and a member are cut off from each other for a while, in one direction or both."""
    DATABASE_AWAY = "database_away"
    """Nobody reaches the database for a while."""
    COMMIT_UNKNOWN = "commit_unknown"
    """Commits are applied, and the connection breaks before the answer."""
    COMMIT_LATE = "commit_late"
    """The connection breaks, and what was sent is applied a little later."""
    COMMIT_SLOW = "commit_slow"
    """Commits take up to seconds for a while."""
    CLOCK_JUMP = "clock_jump"
    """The coordinator's wall clock is set forward or back."""
    CANCEL = "cancel"
    """Somebody cancels a run."""
    PAUSE = "pause"
    """Somebody pauses a run, and resumes it after a while."""
    RETRY = "retry"
    """Somebody retries a run that is at rest, or reruns a step."""
    DRAIN_ORDER = "drain_order"
    """Somebody drains an agent by way of the coordinator."""
    AGENT_PAUSE = "agent_pause"
    """Somebody pauses an agent by way of the coordinator, and lets it go on after a while."""


@dataclass(frozen=True, slots=True)
class Fault:
    at: int
    """True microseconds since the beginning."""
    kind: FaultKind
    target: int = 0
    """The agent or the run, by its place."""
    span: int = 0
    chance: float = 0.0
    """For what else is left open."""

    def __str__(self) -> str:
        span = f" for {self.span / SECOND:.2f} s" if self.span else ""
        return f"{self.at / SECOND:8.3f} s  {self.kind.value} of {self.target}{span}"


PEOPLE = frozenset({FaultKind.CANCEL, FaultKind.PAUSE, FaultKind.RETRY, FaultKind.DRAIN_ORDER, FaultKind.AGENT_PAUSE})
"""No faults, but what people do at any moment."""
SEVERAL = frozenset(
    {
        FaultKind.OWNER_FREEZE_AT_COMMIT,
        FaultKind.OWNER_FREEZE_AT_RENEWAL,
        FaultKind.OWNER_CUT_OFF,
        FaultKind.FOLLOWER_CUT_OFF,
        FaultKind.FOLLOWER_CRASH,
        FaultKind.FOLLOWER_FREEZE,
        FaultKind.HAND_OVER,
        FaultKind.COORDINATORS_PARTED,
        FaultKind.AGENT_PARTED,
        FaultKind.BOARD_LOST,
        FaultKind.OWNERSHIP_LATE,
        FaultKind.OWNERSHIP_UNKNOWN,
    }
)
"""They need several coordinators."""
OF_MEMBERS = frozenset(
    {
        FaultKind.MEMBER_CRASH,
        FaultKind.MEMBER_FREEZE,
        FaultKind.MEMBER_FREEZE_AT_COMMIT,
        FaultKind.MEMBER_CUT_OFF,
        FaultKind.MEMBER_PARTED,
        FaultKind.MEMBER_LEAVES,
        FaultKind.JOINS_LATE,
        FaultKind.HEAD_AND_MEMBER_CRASH,
        FaultKind.LINK_PARTED,
    }
)
"""They need members."""
OF_ONE = tuple(kind for kind in FaultKind if kind not in SEVERAL | OF_MEMBERS)
OF_ALL = tuple(kind for kind in FaultKind if kind is not FaultKind.COORDINATOR_REPLACED)
"""With members."""
OF_SEVERAL = tuple(kind for kind in OF_ALL if kind not in OF_MEMBERS)
"""What can go wrong with one coordinator, and with several: there one takes the place of another in many ways."""
OF_RUNS = frozenset({FaultKind.CANCEL, FaultKind.PAUSE, FaultKind.RETRY})
_SPANS = {
    FaultKind.AGENT_CRASH: (0.05, 30.0),
    FaultKind.AGENT_CRASH_AT_RESULT: (0.05, 20.0),
    FaultKind.AGENT_CRASH_AT_SYNC: (0.05, 20.0),
    FaultKind.AGENT_GONE: (0.1, 20.0),
    FaultKind.POISON: (1.0, 60.0),
    FaultKind.AGENT_FREEZE: (0.1, 60.0),
    FaultKind.DISK_FULL: (0.1, 20.0),
    FaultKind.STREAM_DELAY: (0.5, 10.0),
    FaultKind.BAD_LINK: (4.0, 40.0),
    FaultKind.PARTITION: (0.5, 60.0),
    FaultKind.COORDINATOR_CRASH: (0.05, 20.0),
    FaultKind.COORDINATOR_CRASH_AT_COMMIT: (0.05, 20.0),
    FaultKind.COORDINATOR_FREEZE: (0.1, 30.0),
    FaultKind.COORDINATOR_REPLACED: (0.1, 30.0),
    FaultKind.OWNER_FREEZE_AT_COMMIT: (0.1, 30.0),
    FaultKind.OWNER_FREEZE_AT_RENEWAL: (0.1, 30.0),
    FaultKind.OWNER_CUT_OFF: (0.2, 20.0),
    FaultKind.FOLLOWER_CUT_OFF: (0.2, 20.0),
    FaultKind.FOLLOWER_CRASH: (0.05, 20.0),
    FaultKind.FOLLOWER_FREEZE: (0.1, 60.0),
    FaultKind.HAND_OVER: (0.05, 10.0),
    FaultKind.COORDINATORS_PARTED: (0.5, 30.0),
    FaultKind.AGENT_PARTED: (0.5, 30.0),
    FaultKind.BOARD_LOST: (0.5, 20.0),
    FaultKind.MEMBER_CRASH: (0.05, 20.0),
    FaultKind.MEMBER_FREEZE: (0.1, 30.0),
    FaultKind.MEMBER_FREEZE_AT_COMMIT: (0.1, 30.0),
    FaultKind.MEMBER_CUT_OFF: (0.2, 20.0),
    FaultKind.MEMBER_PARTED: (0.5, 30.0),
    FaultKind.MEMBER_LEAVES: (0.05, 10.0),
    FaultKind.JOINS_LATE: (0.5, 10.0),
    FaultKind.HEAD_AND_MEMBER_CRASH: (0.05, 20.0),
    FaultKind.LINK_PARTED: (0.5, 30.0),
    FaultKind.DATABASE_AWAY: (0.2, 20.0),
    FaultKind.COMMIT_SLOW: (1.0, 10.0),
    FaultKind.CLOCK_JUMP: (0.5, 90_000.0),
    FaultKind.PAUSE: (0.05, 20.0),
    FaultKind.AGENT_PAUSE: (0.05, 20.0),
}
"""Seconds, from and to; short ones are more frequent."""


def draw_faults(
    random: Random, agents: int, runs: int, kinds: Sequence[FaultKind], least: int, most: int, chaos: int
) -> tuple[Fault, ...]:
    """At least `least` and at most `most` of what goes wrong, by the kinds given, within the first `chaos`
    microseconds; what people do comes on top. More come early, when most of the work is under way."""
    wrong = [kind for kind in kinds if kind not in PEOPLE]
    people = [kind for kind in kinds if kind in PEOPLE]
    faults = [_draw(random, agents, runs, wrong, chaos) for _ in range(random.randint(least, most) if wrong else 0)]
    faults += [_draw(random, agents, runs, people, chaos) for _ in range(random.randint(1, 3) if people else 0)]
    return tuple(sorted(faults, key=lambda fault: fault.at))


def _draw(random: Random, agents: int, runs: int, kinds: Sequence[FaultKind], chaos: int) -> Fault:
    kind = random.choice(kinds)
    at = int(random.random() ** 1.5 * chaos)
    shortest, longest = _SPANS.get(kind, (0.0, 0.0))
    span = int(shortest * (longest / shortest) ** random.random() * SECOND) if shortest else 0
    target = random.randrange(runs if kind in OF_RUNS else 10 if kind is FaultKind.POISON else agents)
    return Fault(at, kind, target, span // MILLISECOND * MILLISECOND, round(random.random(), 4))
