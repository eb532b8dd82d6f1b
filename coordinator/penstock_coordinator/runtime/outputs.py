"""The outputs of steps, by reference: the bytes are in the journal's tables and in one cache bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.values import check_size
from penstock_coordinator.core.run.states import StepState

if TYPE_CHECKING:
    from penstock_coordinator.ports import RunId, RunIndex
    from penstock_coordinator.runtime.actor import Actor

OutputKey: TypeAlias = tuple["RunId", int, int]
"""(run, step, item); item -1 of a mapped step is the joined list."""

ENTRY_OVERHEAD = 200
"""Bytes of bookkeeping per entry, so that many tiny outputs are bounded too."""


class OutputCache:
    """The most recently used outputs, at most `capacity` bytes of them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[OutputKey, bytes] = OrderedDict()
        self.size = 0

    def get(self, key: OutputKey) -> bytes | None:
        output = self._entries.get(key)
        if output is not None:
            self._entries.move_to_end(key)
        return output

    def put(self, key: OutputKey, output: bytes) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            self.size -= len(old) + ENTRY_OVERHEAD
        self._entries[key] = output
        self.size += len(output) + ENTRY_OVERHEAD
        while self.size > self._capacity:
            _, dropped = self._entries.popitem(last=False)
            self.size -= len(dropped) + ENTRY_OVERHEAD


class NotCached(Exception):
    """The output of this step has to be read first."""

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


def cached_output(cache: OutputCache, actor: Actor, step: int) -> bytes:
    """The whole output of an upstream step as JSON; null if it is not COMPLETED. Raises `NotCached`, and
    `UnresolvableInput` if it is too large."""
    run = actor.run
    if run.state_of(step) != StepState.COMPLETED:
        return b"null" if run.items_of(step) is None else _joined(cache, actor, step)
    if actor.plan.steps[step].map is not None:
        return _joined(cache, actor, step)
    output = cache.get((actor.run_id, step, -1))
    if output is None:
        raise NotCached(step)
    return output


def _joined(cache: OutputCache, actor: Actor, step: int) -> bytes:
    """The outputs of the items in their order, null where an item did not complete."""
    whole = cache.get((actor.run_id, step, -1))
    if whole is not None:
        return whole
    states = actor.run.items_of(step)
    assert states is not None
    parts: list[bytes] = []
    size = len(states)
    for item, state in enumerate(states):
        if state != StepState.COMPLETED:
            parts.append(b"null")
            continue
        part = cache.get((actor.run_id, step, item))
        if part is None:
            raise NotCached(step)
        parts.append(part)
        size += len(part)
        _check(actor, step, size)
    whole = b"[" + b",".join(parts) + b"]"
    if actor.run.state_of(step).at_rest:
        cache.put((actor.run_id, step, -1), whole)
    return whole


def _check(actor: Actor, step: int, size: int) -> None:
    check_size(f"the output of the step {quoted(actor.plan.steps[step].name)} has", size)


async def read_output(cache: OutputCache, index: RunIndex, actor: Actor, step: int) -> bytes:
    """As `cached_output`, from the database. Raises `Unavailable` and `UnresolvableInput`."""
    _check(actor, step, await index.outputs_size(actor.run_id, step))
    rows = dict(await index.outputs(actor.run_id, step))
    states = actor.run.items_of(step)
    if states is None:
        whole = rows.get(-1, b"null")
    else:
        parts = (
            rows.get(item, b"null") if state == StepState.COMPLETED else b"null" for item, state in enumerate(states)
        )
        whole = b"[" + b",".join(parts) + b"]"
    cache.put((actor.run_id, step, -1), whole)
    return whole
