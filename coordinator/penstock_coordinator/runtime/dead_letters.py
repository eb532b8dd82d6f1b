"""Dead letters, as people look at them and deal with them one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock_coordinator.core.plan.values import UnresolvableInput
from penstock_coordinator.core.run.messages import RequeueSteps
from penstock_coordinator.core.run.resets import NotPossible
from penstock_coordinator.ports import LetterState, Repeated
from penstock_coordinator.runtime.absent_runs import unknown
from penstock_coordinator.runtime.grants import Granter
from penstock_coordinator.runtime.history import rebuild
from penstock_coordinator.runtime.letter_remedies import remedies
from penstock_coordinator.runtime.outputs import OutputCache
from penstock_coordinator.runtime.reading import Reader
from penstock_coordinator.runtime.views import UnknownStepRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock_coordinator.core.plan.limits import RunLimits
    from penstock_coordinator.core.plan.model import Plan
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import DeadLetter, LetterFilter, LetterPlace, LetterRow, RequestKey, RunId
    from penstock_coordinator.runtime.reopening import Reopened, Reopener
    from penstock_coordinator.runtime.supervisor import Supervisor
    from penstock_coordinator.runtime.views import AttemptView, RunView, StepRunView


CACHED_BYTES = 64 << 20


class UnknownLetter(Exception):
    """There is no such letter, or it went with its run."""


@dataclass(frozen=True, slots=True)
class ShownLetter:
    """A letter with all that a person needs."""

    found: DeadLetter
    run: RunView
    step_run: StepRunView | None
    """As it is now; None if the run's version does not have it any more."""
    attempts: list[AttemptView]
    inputs: dict[str, bytes]
    """JSON by name: what the step run would get now."""
    inputs_problem: str
    remedies: list[str]


@dataclass(slots=True)
class _Past:
    """A run at rest, for its inputs."""

    run_id: RunId
    plan: Plan
    run: Run
    limits: RunLimits
    parameters_json: bytes
    parameters: dict[str, object] | None = None
    environment_json: bytes = field(default=b"")


class DeadLetters:
    """Whatever is answered is committed. Any method may raise `Unavailable` and `Stopping`."""

    def __init__(self, supervisor: Supervisor, reopener: Reopener) -> None:
        self._supervisor = supervisor
        self._store = supervisor.stores.dead_letters
        self._reopener = reopener
        self._reader = Reader(supervisor)

    async def list_letters(self, where: LetterFilter, limit: int, after: LetterPlace | None) -> list[DeadLetter]:
        """The newest failure first."""
        return await self._store.list_letters(where, limit, after)

    async def get(self, run_id: RunId, seq: int) -> DeadLetter:
        """Raises `UnknownLetter`."""
        found = await self._store.get(run_id, seq)
        if found is None:
            raise UnknownLetter
        return found

    async def show(self, run_id: RunId, seq: int) -> ShownLetter:
        """Raises `UnknownLetter`, `UnknownRun`."""
        found = await self.get(run_id, seq)
        view = await self._reader.run(run_id)
        step, item = found.letter.step, found.letter.item
        try:
            if view.plan.steps[step].retired:
                raise UnknownStepRun
            step_run, attempts = await self._reader.step_run(run_id, step, item)
        except UnknownStepRun:
            advice = remedies(found, view, gone=True)
            return ShownLetter(found, view, None, [], {}, "the run does not have the step run any more", advice)
        run = await self._run(run_id)
        inputs, problem = await self._inputs(run_id, run, step, item)
        advice = remedies(found, view, undoing=run is not None and run.undoing is not None)
        return ShownLetter(found, view, step_run, attempts, inputs, problem, advice)

    async def _run(self, run_id: RunId) -> Run | None:
        """None if its journal is removed."""
        actor = self._supervisor.actor(run_id)
        if actor is not None:
            return actor.run
        return await rebuild(self._supervisor.stores.journal, self._supervisor.plans, run_id)

    async def _inputs(self, run_id: RunId, run: Run | None, step: int, item: int) -> tuple[dict[str, bytes], str]:
        supervisor = self._supervisor
        actor = supervisor.actor(run_id)
        try:
            if actor is not None:
                return await supervisor.inputs_for(actor, step, item), ""
            if run is None:
                return {}, "the run's journal is removed"
            past = _Past(run_id, run.plan, run, supervisor.timing.run_limits, run.parameters)
            # What a run at rest has given may be given anew at any moment: it is read apart from what live ones share.
            return await Granter(supervisor, OutputCache(CACHED_BYTES)).inputs_for(past, step, item), ""
        except UnresolvableInput as error:
            return {}, str(error)

    async def requeue(
        self, run_id: RunId, seq: int, requested_by: str, reason: str, request: RequestKey | None
    ) -> Reopened | Repeated:
        """A new generation of the run, in which the step run runs again with all that it kept from running. Durable
        when it returns; Repeated if the request came with other content. Of many that come at once for one letter one
        wins, and a letter is either requeued or purged.

        Raises `UnknownLetter`, `NotPossible`, `UnknownRun`, `Overloaded`, `NotAccepted`."""

        async def wanted() -> RequeueSteps:
            found = await self.get(run_id, seq)
            if found.state is not LetterState.OPEN:
                raise NotPossible(_not_open(found))
            return requeue_of([found.letter], self._supervisor.clock.now(), requested_by, reason)

        return await self._reopener.reopen_as(run_id, wanted, request)

    async def purge(self, run_id: RunId, seq: int, requested_by: str) -> DeadLetter:
        """One that is not open is left as it is. Raises `UnknownLetter`, `UnknownRun`."""
        async with self._reopener.turn(run_id):
            await self.get(run_id, seq)
            stores = self._supervisor.stores
            if await stores.runs.get(run_id) is None:  # its letters go a moment after it
                raise await unknown(stores, run_id)
            await self._store.purge(run_id, [seq], self._supervisor.clock.now(), requested_by)
            return await self.get(run_id, seq)


def requeue_of(letters: Sequence[LetterRow], now: int, requested_by: str, reason: str) -> RequeueSteps:
    """Of what these letters tell of, and not of a later failure of the same step runs."""
    targets = tuple((letter.step, letter.item) for letter in letters)
    failed_in = tuple(letter.generation for letter in letters)
    return RequeueSteps(now, targets, requested_by, reason, failed_in=failed_in)


def _not_open(found: DeadLetter) -> str:
    if found.state is LetterState.PURGED:
        return (
            "the letter was purged: run the step again with `penstock rerun RUN STEP` (RerunStep), or all that failed"
            " with `penstock retry RUN` (Retry)"
        )
    return (
        f'"{found.letter.display_name}" was begun again since: if it failed once more there is another letter, see'
        " `penstock dead-letters list` (List)"
    )
