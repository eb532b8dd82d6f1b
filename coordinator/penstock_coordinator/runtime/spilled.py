"""Values that were too large to be inline, as far as the coordinator itself has to look into them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.references import BadReference, may_refer, reference_at
from penstock_coordinator.core.plan.spilled import NotLoaded, keep_through
from penstock_coordinator.core.plan.values import InvalidJson, UnresolvableInput, parse
from penstock_coordinator.ports.artifacts import TooLarge

if TYPE_CHECKING:
    from penstock_coordinator.core.plan.limits import RunLimits
    from penstock_coordinator.core.plan.model import Json, Step
    from penstock_coordinator.core.plan.references import Reference
    from penstock_coordinator.ports import ArtifactStore

CAPACITY = 32 << 20
"""Bytes of JSON whose values are kept; parsed they take some times as much."""
READERS = 2
"""Values that are read at once."""
THREAD_BYTES = 64 << 10
"""More JSON than this is parsed in a thread."""


class SpilledValues:
    """The values that were used last. One that is alone may be larger than all that are kept."""

    def __init__(self, store: ArtifactStore, limits: RunLimits, capacity: int = CAPACITY) -> None:
        self._store = store
        self._limits = limits
        self._capacity = capacity
        self._values: OrderedDict[str, tuple[int, Json]] = OrderedDict()
        self._size = 0
        self._turns = asyncio.Semaphore(READERS)

    def get(self, reference: Reference) -> Json:
        """The value. Raises `NotLoaded`."""
        found = self._values.get(reference.digest)
        if found is None:
            raise NotLoaded(reference)
        self._values.move_to_end(reference.digest)
        return found[1]

    async def read(self, reference: Reference) -> Json:
        """The value, from the store. Raises `Unavailable`, and `UnresolvableInput` if it can never be had."""
        async with self._turns:
            found = self._values.get(reference.digest)
            if found is not None:
                return found[1]
            content = await self._content(reference)
            try:
                big = len(content) > THREAD_BYTES
                value = await asyncio.to_thread(parse, content) if big else parse(content)
            except InvalidJson as error:
                raise UnresolvableInput(f"the value {reference.digest} is {error}") from None
            self._keep(reference.digest, len(content), value)
            return value

    async def _content(self, reference: Reference) -> bytes:
        limit = self._limits.inputs_bytes
        try:
            content = await self._store.get(reference.digest, limit)
        except TooLarge:
            raise UnresolvableInput(
                f"a map, a condition, a path or a sub-pipeline reads of a value of {reference.size:,} bytes, and may of"
                f" one of {limit:,}: give what it reads as an output of its own, or have the operator raise"
                " PENSTOCK_MAX_INPUTS_SIZE"
            ) from None
        if content is None:
            raise UnresolvableInput(f"the artifact {reference.digest} was removed: run the step that made it again")
        return content

    def _keep(self, digest: str, size: int, value: Json) -> None:
        self._values[digest] = (size, value)
        self._size += size
        while self._size > self._capacity and len(self._values) > 1:
            _, (dropped, _) = self._values.popitem(last=False)
            self._size -= dropped

    async def kept_of(self, step: Step, output: bytes) -> tuple[bytes, ...]:
        """What a run keeps of an output of the step that refers to artifacts. Raises `Unavailable`, `InvalidJson`, and
        `UnresolvableInput` if what it refers to can never be had."""
        value = parse(output)
        held: dict[str, Json] = {}

        def load(reference: Reference) -> Json:
            return held[reference.digest] if reference.digest in held else self.get(reference)

        while True:
            try:
                return keep_through(step, value, load)
            except NotLoaded as missing:
                held[missing.reference.digest] = await self.read(missing.reference)
            except BadReference as error:
                raise UnresolvableInput(f"the output: {error}") from None

    async def resolved(self, inputs: dict[str, bytes], limit: int) -> dict[str, bytes]:
        """With values in place of references to values that were spilled; files stay references. Raises what `kept_of`
        does."""
        return {name: await self._resolved(name, data, limit) for name, data in inputs.items()}

    async def _resolved(self, name: str, data: bytes, limit: int) -> bytes:
        if not may_refer(data):
            return data
        try:
            found = reference_at(parse(data))
        except (InvalidJson, BadReference) as error:
            raise UnresolvableInput(f"the input {quoted(name)}: {error}") from None
        if found is None or not found.is_json:
            return data
        if found.size > limit:
            raise UnresolvableInput(
                f"the input {quoted(name)} has {found.size:,} bytes, and a parameter of a sub-pipeline at most"
                f" {limit:,}: give it as a file"
            )
        return await self._content(found)
