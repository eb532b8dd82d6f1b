"""Many random pipelines, a bounded number of them at once. Pipeline and prediction follow from the seed alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from tests.e2e.random_dags import generator
from tests.e2e.random_dags.evaluator import predict
from tests.e2e.random_dags.playing import look, play, retried
from tests.e2e.random_dags.second_generation import runs_again
from tests.e2e.random_dags.specifications import specification
from tests.e2e.random_dags.verdicts import differences, stopped_differences

from penstock.bundle.archive import build_bundle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.e2e.random_dags.playing import Found
    from tests.e2e.random_dags.predictions import Prediction

    from penstock.client.client import Client

BEHAVING = Path(__file__).parent / "behaving"
AT_ONCE = 16


class Campaign:
    """Plays seeds and gathers what was different, by seed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._bundle = build_bundle(BEHAVING)
        self.failures: dict[int, list[str]] = {}
        self.counts: Counter[str] = Counter()

    async def run(self, seeds: Iterable[int]) -> None:
        await self._client.upload_bundle(self._bundle)
        room = asyncio.Semaphore(AT_ONCE)

        async def one(seed: int) -> None:
            async with room:
                found = await self._one(seed)
            if found:
                self.failures[seed] = found

        async with asyncio.TaskGroup() as tasks:
            for seed in seeds:
                tasks.create_task(one(seed))

    async def _one(self, seed: int) -> list[str]:
        try:
            return await _Seed(self._client, seed, self._bundle.digest, self.counts).play()
        except Exception as error:
            return [f"{type(error).__name__}: {error}"]

    def summary(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))


class _Seed:
    def __init__(self, client: Client, seed: int, bundle_digest: str, counts: Counter[str]) -> None:
        random = Random(seed)
        self._children = generator.children(random, f"random-{seed}")
        self._dag = generator.dag(random, f"random-{seed}", list(self._children))
        self._midway = random.randint(1, 2 * len(self._dag.steps))
        self._client = client
        self._bundle_digest = bundle_digest
        self._counts = counts

    async def play(self) -> list[str]:
        dag = self._dag
        used = self._used_children()
        for each in [*(self._children[name] for name in self._children if name in used), dag]:
            await self._client.create_pipeline(specification(each, self._bundle_digest))
        run_id = await play(self._client, dag, self._midway)
        predicted, found = predict(dag, self._children), await look(self._client, run_id)
        self._count(found)
        if dag.fail_fast or dag.fate.startswith("cancel"):
            different = list(stopped_differences(dag, predicted, found))
        else:
            different = differences(predicted, found)
        if not different and dag.fate in ("retry", "cancel_and_retry"):
            different = await self._retry(run_id, predicted, found)
        return [f"{dag.fate}: {each}" for each in different]

    def _used_children(self) -> set[str]:
        """Also those of children."""
        used: set[str] = set()
        for each in (self._dag, *reversed(self._children.values())):
            if each is self._dag or each.name in used:
                used |= {step.action for step in each.steps if isinstance(step.action, str)}
        return used

    async def _retry(self, run_id: str, predicted: Prediction, found: Found) -> list[str]:
        dag = self._dag
        again = runs_again(dag, predicted)
        taken = await retried(self._client, run_id)
        if dag.fate == "cancel_and_retry":
            return await self._after_cancel(run_id, predicted, found, taken)
        if taken is not bool(again):
            return [f"the retry was {'taken' if taken else 'refused'}, and {sorted(again)} were to run again"]
        if not taken:
            return []
        self._counts["retries"] += 1
        expected = predict(dag, self._children, None, predicted, again)
        return [f"again: {each}" for each in differences(expected, await look(self._client, run_id))]

    async def _after_cancel(self, run_id: str, predicted: Prediction, found: Found, taken: bool) -> list[str]:
        """All behaviours are steady, so a stopped run comes to the end that it would have had."""
        if not taken:
            return [] if found.state == "COMPLETED" else [f"the retry of a {found.state} run was refused"]
        self._counts["retries"] += 1
        again = await look(self._client, run_id)
        return [f"after the cancel: {each}" for each in differences(predicted, again, attempts=False)]

    def _count(self, found: Found) -> None:
        items = sum(len(each) for each in found.items.values())
        self._counts.update({"runs": 1, f"runs {found.state}": 1, "steps": len(found.steps), "items": items})
