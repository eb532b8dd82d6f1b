"""Whom a coordinator lets in: streams of agents from their first word on, as its shell has them before anybody owns.

What the shell does (`api/doorway.py`, `api/relaying.py`) is written here a second time, on the timeline.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock.testing import words
from penstock.testing.relays import RelayedStream
from penstock.testing.sessions import Stream
from penstock_coordinator.core.fleet.spreading import place_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.testing.coordinator import Coordinator
    from penstock.testing.network import End, Link
    from penstock.testing.seats import Seat
    from penstock_coordinator.core.fleet.ownership import CoordinatorRow


class Doorstep:
    """A stream of an agent, until somebody takes it in and after."""

    def __init__(self, seat: Seat, unreachable: Sequence[str] = (), by: str = "", member: str = "") -> None:
        """`unreachable`: owners that the agent could not reach. `by`: the coordinator that passes it on. `member`: the
        incarnation that it is for, and no other one; "": it is for the head."""
        self._seat = seat
        self.unreachable = unreachable
        self.by = by
        self.member = member
        self.link: Link | None = None
        self.end: End | None = None
        self.stream: Stream | RelayedStream | None = None
        self.over = False

    def hear(self, message: tuple[int, words.AgentWord]) -> None:
        if self.stream is not None:
            self.stream.hear(message)
        elif not self.over:
            self._seat.reception.receive(self, message)

    def ended(self) -> None:
        self.over = True
        if self.stream is not None:
            self.stream.ended()

    def send_away(self, word: words.CoordinatorWord) -> None:
        self.over = True
        if self.link is not None and self.end is not None:
            self.link.to_agent(word)
            self.link.close(self.end)


class Reception:
    """Of one process: who is inside, waits, or is passed on."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._expected_until = 0
        self._waiting: list[tuple[Doorstep, tuple[int, words.AgentWord]]] = []
        self._doorsteps: list[Doorstep] = []
        self.relayed: list[RelayedStream] = []

    def doorstep(self, *, by: str) -> Doorstep:
        """Of a stream that another one passes on."""
        return Doorstep(self._seat, by=by)

    def accept(self, end: End, link: Link, step: Doorstep) -> None:
        step.link, step.end = link, end
        self._doorsteps = [each for each in self._doorsteps if each.end is not None and each.end.open]
        self._doorsteps.append(step)

    def receive(self, step: Doorstep, hello: tuple[int, words.AgentWord]) -> None:
        """To whoever is inside; one that is likely to own soon lets it wait; else it is sent to the owner."""
        seat = self._seat
        inside = seat.inside
        if inside is not None and step.member == _door_of(inside):
            self._take_in(step, inside, hello)
        elif step.member:
            step.send_away(words.Goaway("not_the_leader"))
        elif seat.now() < self._expected_until and not seat.stopping:
            self._waiting.append((step, hello))
        else:
            self._send_on(step, hello)

    def _take_in(self, step: Doorstep, inside: Coordinator, hello: tuple[int, words.AgentWord]) -> None:
        assert step.link is not None
        assert step.end is not None
        stream = step.stream = Stream(inside)
        inside.accept(step.end, step.link, stream)
        stream.hear(hello)

    def _send_on(self, step: Doorstep, hello: tuple[int, words.AgentWord]) -> None:
        """To the owner; one that cannot reach it is passed on, once."""
        seat = self._seat
        owner = seat.owner()
        if owner is not None and owner.address in step.unreachable and not step.by:
            seat.cluster.count("relayed")
            passed_on = step.stream = RelayedStream(seat, step, owner, seat.cluster.site(owner.address))
            self.relayed = [each for each in self.relayed if each.open]
            self.relayed.append(passed_on)
            passed_on.hear(hello)
            return
        word = words.Goaway("not_the_leader") if owner is None else words.Redirect(owner.address)
        seat.cluster.count("sent away" if owner is None else "redirected")
        step.send_away(word)

    def expect(self, span: int) -> None:
        """It is likely to own within so long: who comes waits."""
        self._expected_until = self._seat.now() + span

    def let_in(self) -> None:
        """Those who wait: it owns, or it was not to be."""
        self._expected_until = 0
        waiting, self._waiting = self._waiting, []
        for step, hello in waiting:
            if not step.over:
                self.receive(step, hello)

    def hang_up(self, owner: CoordinatorRow | None) -> None:
        """It was looked for who owns: what goes to another one ends."""
        for each in self.relayed:
            if owner is not None and each.open and not each.leads_to(owner):
                each.end()

    def pass_nothing_on(self) -> None:
        """It is the head itself."""
        for each in self.relayed:
            each.end()

    def vanish(self) -> None:
        """The process is gone."""
        for step in self._doorsteps:
            if step.link is not None and step.end is not None and step.end.open:
                step.link.vanish(step.end)
        for each in self.relayed:
            each.vanish()


def _door_of(inside: Coordinator) -> str:
    return "" if inside.is_head else place_name(inside.owner, inside.epoch)
