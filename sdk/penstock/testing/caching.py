"""The cache of the simulation: questions take their time, and nobody is told of an end but by looking again.

Nothing makes inputs here, so a value is known by the code of its step, the parameters of the run and the item.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from penstock.testing.timeline import SECOND
from penstock_coordinator.core.run.events import CacheSource
from penstock_coordinator.core.run.messages import CacheAnswer, ValueAwaited, ValueFound, ValueMissing

if TYPE_CHECKING:
    from penstock.testing.coordinator import Coordinator
    from penstock_coordinator.core.run.commands import AskCache, EndReservation, KeepReservation
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.actor import Actor

LOOK = SECOND
"""Between two looks of one that waits."""
RESERVED = 10 * SECOND


class Place(NamedTuple):
    run_id: RunId
    step: int
    item: int
    token: int


class Reservation(NamedTuple):
    place: Place
    display_name: str
    until: int


class SimulatedCache:
    """What a coordinator makes of the values and reservations in the store."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._held: dict[Place, bytes] = {}

    def ask(self, actor: Actor, command: AskCache) -> None:
        for step, item, anew in command.questions:
            self._ask(Place(actor.run_id, step, item, command.token), anew)

    def _ask(self, place: Place, anew: bool) -> None:
        self._coordinator.read_store(lambda: self._answer(place, anew))

    def keep(self, actor: Actor, command: KeepReservation) -> None:
        self._held[Place(actor.run_id, command.step, command.item, command.token)] = command.key

    def end(self, actor: Actor, command: EndReservation) -> None:
        place = Place(actor.run_id, command.step, command.item, command.token)
        self._held.pop(place, None)
        self._coordinator.read_store(lambda: self._release(command.key, place))

    def _release(self, key: bytes, place: Place) -> None:
        reservations = self._coordinator.store.reservations
        if key in reservations and reservations[key].place == place:
            del reservations[key]

    def renew(self) -> None:
        """To be called several times a second."""
        if not self._held or self._coordinator.reach.away:
            return
        for place, key in list(self._held.items()):
            actor = self._coordinator.actors.get(place.run_id)
            lookup = None if actor is None else actor.run.lookups.get((place.step, place.item))
            if actor is not None and lookup is not None and lookup.token == place.token:
                self._reserve(key, place, actor.run)
            elif actor is None or not actor.in_flight:
                del self._held[place]

    def _reserve(self, key: bytes, place: Place, run: Run) -> Reservation:
        """Whose it is then."""
        store = self._coordinator.store
        before, now = store.reservations.get(key), store.timeline.now
        if before is None or before.until < now or before.place[:3] == place[:3]:
            name = run.display_name(place.step, place.item)
            store.reservations[key] = Reservation(place, name, now + RESERVED)
        return store.reservations[key]

    def _answer(self, place: Place, anew: bool) -> None:
        actor = self._coordinator.actors.get(place.run_id)
        if actor is None or actor.run.asker(place.step, place.item, place.token) is None:
            return
        answer = self._found(actor.run, place, anew)
        self._coordinator.tell(place.run_id, answer)
        if isinstance(answer, ValueAwaited):
            self._coordinator.after(LOOK, self._ask, place, anew)

    def _found(self, run: Run, place: Place, anew: bool) -> CacheAnswer:
        key, question, now = _key(run, place), place[1:], self._coordinator.clock.now()
        if anew:
            return ValueMissing(now, *question, key, False)
        known = self._coordinator.store.values.get(key)
        if known is not None:
            run_id, row = known
            source = CacheSource(run_id, row.display_name, row.attempt, row.at, key)
            return ValueFound(now, *question, row.output, source)
        holder = self._reserve(key, place, run)
        if holder.place == place:
            return ValueMissing(now, *question, key, True)
        return ValueAwaited(now, *question, holder.place.run_id, holder.display_name)


def _key(run: Run, place: Place) -> bytes:
    step = run.plan.steps[place.step]
    return hashlib.sha256(repr((step.action, run.parameters, place.item)).encode()).digest()
