"""Results that refer to artifacts, on their way to their runs: what they say is checked, and what the rules will read
of their outputs is read, before the run hears of them. All others pass by here without a look."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec
import structlog

from penstock_coordinator.core.plan.references import BadReference, references_in
from penstock_coordinator.core.plan.values import InvalidJson, UnresolvableInput, parse
from penstock_coordinator.core.run.events import Failure, Outcome
from penstock_coordinator.ports import Unavailable
from penstock_coordinator.runtime.spilled import THREAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock_coordinator.core.plan.references import Reference
    from penstock_coordinator.core.run.messages import AttemptEnded
    from penstock_coordinator.ports import RunId
    from penstock_coordinator.runtime.supervisor import Supervisor

RETRY_SECONDS = 0.2
MOST_CONFIRMED = 50_000
CHECKS_AT_ONCE = 64

log = structlog.get_logger(__name__)


class ConfirmedObjects:
    """What this coordinator knows to be in the store, since it saw an upload of it end or told somebody so. A note is
    good for as long as nothing is removed that young."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, int] = OrderedDict()

    def note(self, digest: str, now: int) -> None:
        self._times[digest] = now
        self._times.move_to_end(digest)
        if len(self._times) > MOST_CONFIRMED:
            self._times.popitem(last=False)

    def since(self, digest: str, instant: int) -> bool:
        """Whether it was noted at the instant or later."""
        return self._times.get(digest, -1) >= instant


class _Wrong(Exception):
    """The attempt fails for it."""


class ArtifactResults:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._under_way: dict[bytes, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(CHECKS_AT_ONCE)

    def take(self, run_id: RunId, message: AttemptEnded, deliver: Callable[[AttemptEnded], None]) -> None:
        """`deliver` gets the message, or the failure that it turned out to be. A result that is sent again meanwhile
        changes nothing."""
        if message.result_id in self._under_way:
            return
        task = asyncio.create_task(self._take(run_id, message, deliver), name="result")
        self._under_way[message.result_id] = task
        task.add_done_callback(lambda _: self._under_way.pop(message.result_id, None))

    def close(self) -> None:
        """Agents send again what was not delivered."""
        for task in self._under_way.values():
            task.cancel()

    async def _take(self, run_id: RunId, message: AttemptEnded, deliver: Callable[[AttemptEnded], None]) -> None:
        while not self._supervisor.stopping:
            try:
                async with self._turns:
                    checked = await self._checked(run_id, message)
            except Unavailable:
                await asyncio.sleep(RETRY_SECONDS)
            except (_Wrong, UnresolvableInput) as error:
                deliver(_failed(message, str(error)))
                return
            except Exception:
                log.exception("result_not_checked")
                return  # the agent sends it again
            else:
                deliver(checked)
                return

    async def _checked(self, run_id: RunId, message: AttemptEnded) -> AttemptEnded:
        actor = self._supervisor.actor(run_id)
        if actor is None or actor.run.speaker(message.step, message.item, message.token) is None:
            return message  # nobody will look at it
        try:
            big = len(message.output) > THREAD_BYTES
            value = await asyncio.to_thread(parse, message.output) if big else parse(message.output or b"null")
            found = references_in(value)
        except InvalidJson:
            return message  # which the rules refuse
        except BadReference as error:
            raise _Wrong(str(error)) from None
        await self._check_made(run_id, message)
        await self._check_given(run_id, message, found)
        step = actor.plan.steps[message.step]
        if not found or not (step.kept_paths or step.kept_lengths):
            return message
        kept = await self._supervisor.spilled.kept_of(step, message.output)
        return msgspec.structs.replace(message, kept=kept)

    async def _check_made(self, run_id: RunId, message: AttemptEnded) -> None:
        """That the bytes are there, of the size that the result says, and that the attempt had them."""
        for made in message.artifacts:
            stored = await self._supervisor.stores.objects.find(made.digest)
            if stored is None:
                raise _Wrong(f"the artifact {made.digest} is not in the store: upload it before the result")
            if stored.size != made.size:
                raise _Wrong(f"the artifact {made.digest} has {stored.size:,} bytes, and the result says {made.size:,}")

        digests = [each.digest for each in message.artifacts]
        receipts = message.receipts or [""] * len(digests)
        unproven = await self._supervisor.possession.unproven(run_id, list(zip(digests, receipts, strict=True)))
        if unproven:
            raise _Wrong(
                f"the artifact {min(unproven)} is in the store, and no receipt shows that this run has had its bytes:"
                " upload it, and send the receipt of that with the result"
            )

    async def _check_given(self, run_id: RunId, message: AttemptEnded, found: list[Reference]) -> None:
        """What the attempt did not make it must have been given: nobody gets at another run's artifacts by naming
        them."""
        others = {each.digest for each in found} - {each.digest for each in message.artifacts}
        if not others:
            return
        unknown = others - await self._supervisor.stores.artifacts.of_run(run_id, others)
        if unknown:
            raise _Wrong(
                f"the output refers to {min(unknown)}, which this attempt did not make and this run was not given:"
                " return what the SDK made of it, or take it as an input"
            )


def _failed(message: AttemptEnded, why: str) -> AttemptEnded:
    return msgspec.structs.replace(
        message, outcome=Outcome.FAILED, failure=Failure("Artifact", why), output=b"", artifacts=(), kept=None
    )
