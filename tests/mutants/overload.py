"""Mutants of what is let in, of bounds and of breakers. Their own tests hunt them."""

from __future__ import annotations

from tests.mutants.changes import Mutant

COORDINATOR = "coordinator/penstock_coordinator"
SDK = "sdk/penstock"
OVERLOAD = "overload"


def _mutant(name: str, breaks: str, file: str, before: str, after: str, part: str = COORDINATOR) -> Mutant:
    return Mutant(name, breaks, file, before, after, part, OVERLOAD)


OVERLOAD_MUTANTS = (
    _mutant(
        "background work takes all places",
        "runs of low priority are refused earlier than others",
        "runtime/admission.py",
        "LOW_SHARE, NORMAL_SHARE, HIGH_SHARE = 0.5, 0.9, 1.0",
        "LOW_SHARE, NORMAL_SHARE, HIGH_SHARE = 1.0, 1.0, 1.0",
    ),
    _mutant(
        "the refused come back in a wave",
        "each refused caller is told to come behind the one before it",
        "runtime/admission.py",
        "max(self._turn, now) + int(count * 1e6 / rate)",
        "now + int(count * 1e6 / rate)",
    ),
    _mutant(
        "a run that ends before it began keeps its place",
        "places of the backlog are given back",
        "runtime/supervisor.py",
        "        self.begun(actor)\n        self._deadlines.forget(actor)\n        self.limits.ended(actor.run_id)\n",
        "        self._deadlines.forget(actor)\n        self.limits.ended(actor.run_id)\n",
    ),
    _mutant(
        "half open is open",
        "one call alone tries whether the database is back",
        "adapters/breaker.py",
        "if self._state is HALF_OPEN or (",
        "if (",
    ),
    _mutant(
        "old failures are news",
        "what calls say that began before the breaker opened is not heard",
        "adapters/breaker.py",
        "    def failed(self, era: int, reason: str) -> None:\n        if era != self._era:\n            return\n",
        "    def failed(self, era: int, reason: str) -> None:\n",
    ),
    _mutant(
        "mailboxes without a bound",
        "results past the bound are left to their agents",
        "runtime/supervisor.py",
        "        if not actor.full:\n            actor.post(Mail(message))\n        return True",
        "        actor.post(Mail(message))\n        return True",
    ),
    _mutant(
        "patience without end",
        "a caller hears within a bounded time that the outcome is unknown",
        "runtime/answers.py",
        "            self._all.set_exception(Undecided(seconds))",
        "            pass",
    ),
    _mutant(
        "a delay is not waited for",
        "clients come back no sooner than they were asked to",
        "client/calls.py",
        "return asked + random",
        "return random",
        SDK,
    ),
)
