"""The example of docs/ml-example.md, typed as it is there, on a local disk and on S3: `store_url` is both."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.protocol.conftest import System
from tests.integration.sdk.command_line import EXAMPLES, REPOSITORY, CommandLine

from penstock import Client
from penstock.v1 import artifact_service_pb2, run_pb2

PATIENCE = 120.0
SOURCE = (EXAMPLES / "ml" / "digits.py").read_text(encoding="utf-8")
PAGE = (REPOSITORY / "docs" / "ml-example.md").read_text(encoding="utf-8")
DATA = {"load", "features", "split"}
CANDIDATES = {f"evaluate[{item}]" for item in range(5)}
PREDICTIONS = {f"predict[{item}]" for item in range(3)}


@dataclass(frozen=True)
class Ran:
    """A run at its end."""

    id: str
    output: dict[str, Any]
    steps: dict[str, run_pb2.StepRun]
    """By "step", or "step[item]" of a mapped one."""

    @property
    def computed(self) -> set[str]:
        return {name for name, step in self.steps.items() if step.attempt_count}

    @property
    def known(self) -> set[str]:
        """Answered from the cache."""
        return {name for name, step in self.steps.items() if step.cached}


class Laboratory:
    """Runs pipelines of the example's file, or of a copy of it."""

    def __init__(self, client: Client, penstock: CommandLine) -> None:
        self._client = client
        self._penstock = penstock

    async def run(self, file: Path, pipeline: str, **parameters: Any) -> Ran:
        given = [part for name, value in parameters.items() for part in ("-p", f"{name}={json.dumps(value)}")]
        process = await self._penstock.start("run", f"{file}:{pipeline}", "--detach", *given)
        async with asyncio.timeout(PATIENCE):
            said, complaint = await process.communicate()
            assert process.returncode == 0, complaint.decode()
            run_id = said.decode().strip()
            ended = await self._client.wait(run_id)
        steps = {step.display_name: step for step in await self._steps(run_id)}
        assert ended.state == run_pb2.RUN_STATE_COMPLETED, (ended.reason, steps)
        output = await self._client.output(run_id)
        assert isinstance(output, dict)
        return Ran(run_id, output, steps)

    async def program(self, folder: Path) -> list[str]:
        """What the page's program says, put into this folder."""
        found = re.search(r"```python\n# release.py\n(.*?)```", PAGE, re.DOTALL)
        assert found is not None
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", found[1]),
            cwd=folder,
            env=self._penstock.environment,
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
        assert process.returncode == 0
        return said.decode().splitlines()

    async def _steps(self, run_id: str) -> list[run_pb2.StepRun]:
        found: list[run_pb2.StepRun] = []
        async for step in self._client.list_step_runs(run_id):
            if step.HasField("item_counts"):
                found += [item async for item in self._client.list_step_runs(run_id, step=step.step)]
            else:
                found.append(step)
        return found


def digest_of(reference: dict[str, Any]) -> str:
    return str(reference["$artifact"]["digest"])


def copy_of(folder: Path, before: str = "", after: str = "") -> Path:
    """The file in a folder of its own, as it is beside the example, with one line changed."""
    assert SOURCE.count(before) == 1 or not before
    folder.mkdir()
    (folder / ".penstockignore").touch()
    file = folder / "digits.py"
    file.write_text(SOURCE.replace(before, after) if before else SOURCE, encoding="utf-8")
    return file


@pytest.fixture
async def laboratory(cluster: System, store_url: str, tmp_path: Path) -> AsyncIterator[Laboratory]:
    cluster.settings["PENSTOCK_ARTIFACTS_URL"] = store_url
    await cluster.coordinator()
    await asyncio.gather(*(cluster.agent(name) for name in ("first", "second")))
    async with cluster.client() as client:
        yield Laboratory(client, CommandLine(cluster.address, tmp_path))


async def test_digits_from_the_data_to_predictions_and_again(
    laboratory: Laboratory, cluster: System, tmp_path: Path
) -> None:
    file = copy_of(tmp_path / "original")
    trained = await laboratory.run(file, "training")
    assert trained.computed == {*DATA, *CANDIDATES, "choose", "fit", "assess", "promote"}
    assert trained.output["accuracy"] >= 0.97
    model = trained.output["model"]
    assert (model["$artifact"]["name"], model["$artifact"]["codec"]) == ("digits-model", "pickle")
    assert model["$artifact"]["metadata"].items() >= trained.output["chosen"].items()

    predicted = await laboratory.run(file, "prediction", model=model)
    assert predicted.computed == {"batches", *PREDICTIONS, "publish"}
    assert predicted.known == DATA, "they are the steps of the training, on the same inputs"
    assert predicted.output["accuracy"] >= 0.95
    async with cluster.client() as client:
        await check_predictions(client, predicted, tmp_path)
        await check_lineage(client, trained, predicted)

    await check_that_nothing_is_computed_twice(laboratory, file, trained, predicted)
    await check_a_changed_step(laboratory, tmp_path, trained, predicted)


async def check_predictions(client: Client, predicted: Ran, folder: Path) -> None:
    table = folder / "predictions.csv"
    await client.artifacts.download(digest_of(predicted.output["predictions"]), table)
    header, *lines = table.read_text().splitlines()
    assert header == "predicted,label"
    right = [one == other for one, other in (line.split(",") for line in lines)]
    assert sum(right) / len(right) == predicted.output["accuracy"]


async def check_lineage(client: Client, trained: Ran, predicted: Ran) -> None:
    """From the predictions up to the data, through the promoted model; and down again."""
    predictions = digest_of(predicted.output["predictions"])
    above = await client.artifacts.lineage(predictions, direction=artifact_service_pb2.LINEAGE_DIRECTION_UP)
    made_by = {step.display_name: step.run_id for step in above.up}
    assert made_by == {
        **dict.fromkeys(("publish", *PREDICTIONS, "batches"), predicted.id),
        **dict.fromkeys(("promote", "fit", *DATA), trained.id),
    }
    assert not above.truncated
    assert all(step.code_digest and step.pipeline_version == 1 for step in above.up)
    digests = {artifact.digest for step in above.up for artifact in step.made}
    assert {input.digest for step in above.up for input in step.inputs} | {predictions} == digests
    loaded = json.loads((await client.get_step_run(trained.id, "load")).step_run.output_json)
    images = digest_of(loaded["images"])
    assert images in digests
    below = await client.artifacts.lineage(images, direction=artifact_service_pb2.LINEAGE_DIRECTION_DOWN)
    assert predictions in {artifact.digest for step in below.down for artifact in step.made}


async def check_that_nothing_is_computed_twice(
    laboratory: Laboratory, file: Path, trained: Ran, predicted: Ran
) -> None:
    again = await laboratory.run(file, "training")
    assert (again.computed, again.known) == (set(), set(again.steps))
    assert {step.cache_source.run_id for step in again.steps.values()} == {trained.id}
    assert again.output == trained.output
    once_more = await laboratory.run(file, "prediction", model=again.output["model"])
    assert (once_more.computed, once_more.output) == (set(), predicted.output)
    assert await laboratory.program(file.parent) == [
        f"{trained.output['chosen']} {trained.output['accuracy']}",
        f"{predicted.output['accuracy']} {digest_of(predicted.output['predictions'])}",
    ]

    too_high = await laboratory.run(file, "training", bar=1.1)
    assert too_high.computed == set()
    assert too_high.steps["promote"].state == run_pb2.STEP_RUN_STATE_SKIPPED
    assert too_high.output == {**trained.output, "model": None}

    candidates = [json.loads(trained.steps[name].output_json)["candidate"] for name in sorted(CANDIDATES)]
    wider = await laboratory.run(file, "training", candidates=[*candidates, {"C": 0.1, "gamma": 0.01}])
    assert wider.computed == {"evaluate[5]", "choose"}, "the best is the same: what comes after it is known"
    assert wider.output == trained.output


async def check_a_changed_step(laboratory: Laboratory, folder: Path, trained: Ran, predicted: Ran) -> None:
    """What the final fit gives is another model: it, and what depends on it, and nothing else is computed."""
    changed = copy_of(folder / "changed", "\nTOLERANCE = 1e-3\n", "\nTOLERANCE = 1e-4\n")
    retrained = await laboratory.run(changed, "training")
    assert retrained.computed == {"fit", "assess", "promote"}
    assert retrained.known == set(retrained.steps) - retrained.computed
    assert retrained.output["accuracy"] >= 0.97
    assert digest_of(retrained.output["model"]) != digest_of(trained.output["model"])
    anew = await laboratory.run(changed, "prediction", model=retrained.output["model"])
    says_the_same = all(anew.steps[name].output_json == predicted.steps[name].output_json for name in PREDICTIONS)
    assert anew.computed == (PREDICTIONS if says_the_same else {*PREDICTIONS, "publish"})
    assert anew.known == set(anew.steps) - anew.computed
