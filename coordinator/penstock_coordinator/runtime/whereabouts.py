"""Where a run is: live at this coordinator, live at another owner, or at rest.

The row of the run has it, under the lock that guards the change. What is remembered here is a hint: whoever is sent
after it hears that the run has moved, and looks once more.

With one owner nothing is asked: `several` and `members_known` are plain attributes, and all that a call pays.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from penstock_coordinator.core.fleet.ownership import CoordinatorRow
from penstock_coordinator.core.run.states import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from penstock_coordinator.ports import RunId, RunOwner
    from penstock_coordinator.runtime.supervisor import Supervisor

KEPT_STARTS = 10_000


class Residence(Enum):
    HERE = auto()
    """Live, and this coordinator looks after it."""
    AT_REST = auto()
    UNKNOWN = auto()
    """There is no such run."""
    ARRIVING = auto()
    """Live, and nobody looks after it at this moment: it is about to be read from the journal."""


Where: TypeAlias = Residence | CoordinatorRow
"""The row: the run is live at that member."""


class Whereabouts:
    """Of one owner, as its supervisor has it."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self.head_epoch = 0
        """Of a member: of the head that it has joined. 0: this is the head, or the only owner."""
        self.members_known = False
        """This is a head, and members are heard of."""
        self.on_heard: Callable[[Iterable[CoordinatorRow]], None] = lambda members: None
        self._members: dict[str, CoordinatorRow] = {}
        self._placed: OrderedDict[RunId, str] = OrderedDict()

    @property
    def several(self) -> bool:
        """Others own runs, too."""
        return self.members_known or self.head_epoch != 0

    # --- who there is

    def join(self, head_epoch: int) -> None:
        """This one is a member of that head, and stays it."""
        self.head_epoch = head_epoch

    def heard(self, members: Iterable[CoordinatorRow]) -> None:
        """Of a head: these are its members now."""
        self._members = {row.coordinator_id: row for row in members}
        self.members_known = bool(self._members)
        self.on_heard(self.members)

    @property
    def members(self) -> list[CoordinatorRow]:
        """By id."""
        return [row for _, row in sorted(self._members.items())]

    # --- hints

    def placed(self, run_ids: Iterable[RunId], coordinator_id: str) -> None:
        """They were started there."""
        for run_id in run_ids:
            self._placed[run_id] = coordinator_id
            self._supervisor.counts.adoptions.placed += 1
        while len(self._placed) > KEPT_STARTS:
            self._placed.popitem(last=False)

    def moved(self, run_id: RunId) -> None:
        """It is not where it was looked for."""
        self._placed.pop(run_id, None)

    # --- runs

    def looked_after(self, run_id: RunId) -> bool:
        """Whether this coordinator is the one to ask, as far as it knows without a question: the run is live here, is
        being made again, or is set aside. A member's run that has come to rest is the head's, to read and to open
        again."""
        supervisor = self._supervisor
        actor = supervisor.actor(run_id)
        if actor is not None:
            return not (self.head_epoch and actor.run.at_rest)
        return run_id in supervisor.set_aside or not supervisor.lost(run_id)

    def has(self, run_id: RunId, *, routed: bool) -> bool:
        """Of a member: whether it answers a call about the run. `routed`: the head has found in the row that it should,
        so that what came to rest here meanwhile is told of, too."""
        return (routed and self._supervisor.actor(run_id) is not None) or self.looked_after(run_id)

    async def of(self, run_id: RunId) -> Where:
        """At most one read, by primary key. Raises `Unavailable`."""
        if self.looked_after(run_id):
            return Residence.HERE
        member = self._members.get(self._placed.get(run_id, ""))
        return member or (await self.of_many([run_id]))[run_id]

    async def of_many(self, run_ids: Sequence[RunId]) -> dict[RunId, Where]:
        """Of all of them, with one read at most. Raises `Unavailable`."""
        found: dict[RunId, Where] = {
            run_id: Residence.HERE for run_id in dict.fromkeys(run_ids) if self.looked_after(run_id)
        }
        asked = [run_id for run_id in dict.fromkeys(run_ids) if run_id not in found]
        owners = await self._supervisor.stores.runs.owners(asked) if asked else {}
        for run_id in asked:
            found[run_id] = self._where(run_id, owners.get(run_id))
        return found

    def _where(self, run_id: RunId, row: RunOwner | None) -> Where:
        """Its actor may have come while the row was read."""
        if row is None:
            return Residence.UNKNOWN
        if RunState(row.state).at_rest:
            return Residence.AT_REST
        if self._supervisor.actor(run_id) is not None:
            return Residence.HERE
        return self._members.get(row.owner) or Residence.ARRIVING
