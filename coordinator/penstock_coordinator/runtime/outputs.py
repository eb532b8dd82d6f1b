"""The outputs of steps, by reference: the bytes are in the journal's tables and in one cache bounded by bytes."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol, TypeAlias

from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.references import follow_through, loaded
from penstock_coordinator.core.plan.values import check_size, dump_again, follow, parse
from penstock_coordinator.core.run.events import WHOLE
from penstock_coordinator.core.run.places import gathered
from penstock_coordinator.core.run.states import StepState

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.limits import RunLimits
    from penstock_coordinator.core.plan.model import Json, Path, Plan
    from penstock_coordinator.core.plan.spilled import Load
    from penstock_coordinator.core.run.places import Shaped
    from penstock_coordinator.core.run.state import Run
    from penstock_coordinator.ports import RunId, RunIndex

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

    def forget(self, key: OutputKey) -> None:
        dropped = self._entries.pop(key, None)
        if dropped is not None:
            self.size -= len(dropped) + ENTRY_OVERHEAD


class NotCached(Exception):
    """The output of this step, or of this item of it, has to be read first."""

    def __init__(self, step: int, item: int = WHOLE) -> None:
        super().__init__(step, item)
        self.step = step
        self.item = item


class OutputSource(Protocol):
    """A run whose outputs are read: a live one's actor, or one that was folded from its journal."""

    run_id: RunId
    run: Run
    plan: Plan
    limits: RunLimits


class InputSource(OutputSource, Protocol):
    """A run whose step runs get inputs."""

    parameters_json: bytes
    parameters: dict[str, object] | None
    """Decoded when they are first needed."""
    environment_json: bytes


def cached_output(cache: OutputCache, actor: OutputSource, step: int) -> bytes:
    """The whole output of an upstream step as JSON; null if it is not COMPLETED. Raises `NotCached`, and
    `UnresolvableInput` if it is too large."""
    run = actor.run
    if run.items_of(step) is not None:
        return _joined(cache, actor, step)
    return cached_item(cache, actor, step, WHOLE)


def cached_item(cache: OutputCache, actor: OutputSource, step: int, item: int) -> bytes:
    """The output of one step run as JSON; null if it is not COMPLETED. Raises `NotCached`."""
    if actor.run.state_of(step, item) != StepState.COMPLETED:
        return b"null"
    output = cache.get((actor.run_id, step, item))
    if output is None:
        raise NotCached(step, item)
    return output


def _joined(cache: OutputCache, actor: OutputSource, step: int) -> bytes:
    """The outputs of the items in the order of their places, null where an item did not complete."""
    whole = cache.get((actor.run_id, step, WHOLE))
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
    whole = joined(actor.plan, actor.run, step, parts)
    if actor.run.state_of(step).at_rest:
        cache.put((actor.run_id, step, WHOLE), whole)
    return whole


def joined(plan: Plan, shaped: Shaped, step: int, parts: list[bytes]) -> bytes:
    """The output of a mapped step, of those of its items by number."""
    return gathered(plan, shaped, step, parts, _list, b"null")


def _list(parts: list[bytes]) -> bytes:
    return b"[" + b",".join(parts) + b"]"


def _check(actor: OutputSource, step: int, size: int) -> None:
    check_size(f"the output of the step {quoted(actor.plan.steps[step].name)} has", size, actor.limits)


async def read_output(cache: OutputCache, index: RunIndex, actor: OutputSource, missing: NotCached) -> bytes:
    """As `cached_output` or `cached_item`, from the database. Raises `Unavailable` and `UnresolvableInput`."""
    step, item = missing.step, missing.item
    states = actor.run.items_of(step)
    if states is None or item != WHOLE:
        rows = await index.step_runs(actor.run_id, (step, item), (step, item))
        whole = (rows[0].output if rows else None) or b"null"
    else:
        _check(actor, step, await index.outputs_size(actor.run_id, step))
        outputs = dict(await index.outputs(actor.run_id, step))
        parts = [
            outputs.get(at, b"null") if state == StepState.COMPLETED else b"null" for at, state in enumerate(states)
        ]
        whole = joined(actor.plan, actor.run, step, parts)
    cache.put((actor.run_id, step, item), whole)
    return whole


class ListCache:
    """The lists that nested maps go through, as the outputs of items have them: their members are granted one by one,
    and each list is read once for all of them. At most `capacity` bytes of outputs."""

    def __init__(self, capacity: int = 16 << 20) -> None:
        self._capacity = capacity
        self._lists: OrderedDict[tuple[RunId, int, int, int], tuple[int, Json]] = OrderedDict()
        self._size = 0

    def member(self, key: tuple[RunId, int, int, int], output: bytes, path: Path, position: int, load: Load) -> bytes:
        """The JSON of a member. `key` names the generation, the nested step and the owner. Raises `InvalidJson`,
        `NoSuchPath`, and what `load` raises."""
        found = self._lists.get(key)
        if found is None:
            members = loaded(follow_through(path, parse(output), load), load)
            found = self._lists[key] = (len(output), members)
            self._size += len(output)
            while self._size > self._capacity and len(self._lists) > 1:
                _, (dropped, _) = self._lists.popitem(last=False)
                self._size -= dropped
        else:
            self._lists.move_to_end(key)
        return dump_again(follow((str(position),), found[1]))
