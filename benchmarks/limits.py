"""How long a coordinator takes to refuse what is one past a limit, and to accept what is at it.

python -m benchmarks.limits [--repeat 5]

Each request goes to `PipelineService.Create` or `RunService.Start` of a whole coordinator on this machine, over a
connection that is open already. Prints a JSON line per limit with the medians in milliseconds, from the call to the
answer; what the client takes to write the message counts too.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.protobuf.struct_pb2 import Value

from penstock.client.channel import OPTIONS
from penstock.dev.cluster import DevCluster
from penstock.v1 import pipeline_service_pb2 as pipelines_pb
from penstock.v1 import run_service_pb2 as runs_pb
from penstock.v1.pipeline_pb2 import PARAMETER_TYPE_STRING, PipelineSpec
from penstock.v1.pipeline_service_pb2_grpc import PipelineServiceStub
from penstock.v1.run_service_pb2_grpc import RunServiceStub

Make = Callable[[int], PipelineSpec]


@dataclass(frozen=True, slots=True)
class Case:
    """A specification that is as large as a limit says in one way only."""

    limit: str
    value: int
    make: Make


def chain(count: int) -> PipelineSpec:
    spec = PipelineSpec()
    for number in range(count):
        step = spec.steps.add(name=f"step-{number}")
        step.command.argv.append("true")
        if number:
            step.depends_on.append(f"step-{number - 1}")
    return spec


def layers(edges: int) -> PipelineSpec:
    """1,000 steps wait for 1,000 others, as far as the edges go."""
    spec = chain(0)
    names = [f"up-{number}" for number in range(1_000)]
    for name in names:
        spec.steps.add(name=name).command.argv.append("true")
    for number in itertools.count():
        if edges <= 0:
            return spec
        step = spec.steps.add(name=f"down-{number}", depends_on=names[:edges])
        step.command.argv.append("true")
        edges -= len(step.depends_on)
    raise AssertionError


def bytes_in_all(size: int) -> PipelineSpec:
    """Most of it in commands, whose size has a limit of its own each."""
    spec = chain(0)
    script = "x" * 90_000
    for number in range(size // 91_000):
        spec.steps.add(name=f"step-{number}").command.shell = script
    rest = spec.steps.add(name="rest")
    while (left := size - 64 - spec.ByteSize()) > 0:
        rest.command.shell = "x" * min(left, 90_000)
        if left > 90_000:
            rest = spec.steps.add(name=f"rest-{left}")
    spec.description = "x"
    spec.description += "x" * (size - len("limits") - 2 - spec.ByteSize())
    return spec


def map_items(count: int) -> PipelineSpec:
    spec = chain(1)
    spec.steps[0].map.values.values.extend([Value(bool_value=True)] * count)
    return spec


def labels(count: int) -> PipelineSpec:
    spec = chain(1)
    spec.labels.update({f"label-{number}": "" for number in range(count)})
    return spec


def variables(count: int) -> PipelineSpec:
    spec = chain(1)
    spec.steps[0].env.update({f"NAME_{number}": "" for number in range(count)})
    return spec


def inputs(count: int) -> PipelineSpec:
    spec = chain(1)
    for number in range(count):
        spec.steps[0].inputs[f"input_{number}"].value.bool_value = True
    return spec


def parameters(count: int) -> PipelineSpec:
    spec = chain(1)
    for number in range(count):
        spec.parameters.add(name=f"parameter_{number}", type=PARAMETER_TYPE_STRING)
    return spec


def condition(size: int) -> PipelineSpec:
    spec = chain(1)
    spec.steps[0].when = "true".ljust(size)
    return spec


def name(length: int) -> PipelineSpec:
    spec = chain(1)
    spec.steps[0].name = "x" * length
    return spec


def nesting(depth: int) -> PipelineSpec:
    spec = chain(1)
    value = spec.steps[0].inputs["x"].value
    for _ in range(depth):
        value = value.list_value.values.add()
    value.bool_value = True
    return spec


CASES = (
    Case("steps", 100_000, chain),
    Case("edges", 1_000_000, layers),
    Case("spec_bytes", 32 << 20, bytes_in_all),
    Case("parameters", 1_000, parameters),
    Case("inputs", 1_000, inputs),
    Case("map_items", 10_000, map_items),
    Case("labels", 64, labels),
    Case("env", 500, variables),
    Case("condition_bytes", 4 << 10, condition),
    Case("nesting", 28, nesting),
    Case("name_length", 128, name),
)


class Bench:
    def __init__(self, channel: grpc.aio.Channel, repeat: int) -> None:
        self._pipelines = PipelineServiceStub(channel)
        self._runs = RunServiceStub(channel)
        self._repeat = repeat
        self._numbers = itertools.count()

    async def specification(self, case: Case) -> None:
        refused = await self._create(case.make(case.value + 1), grpc.StatusCode.INVALID_ARGUMENT)
        accepted = await self._create(case.make(case.value), grpc.StatusCode.OK)
        report(case.limit, case.value, refused, accepted)

    async def message(self) -> None:
        spec = chain(1)
        spec.description = "x" * (64 << 20)
        report("message_bytes", 64 << 20, await self._create(spec, grpc.StatusCode.RESOURCE_EXHAUSTED), None)

    async def parameters_bytes(self) -> None:
        spec = chain(1)
        spec.name = "limits"
        spec.parameters.add(name="p", type=PARAMETER_TYPE_STRING)
        await self._pipelines.Create(pipelines_pb.CreatePipelineRequest(spec=spec))
        most = (1 << 20) - len('{"p":""}')
        requests = [
            runs_pb.StartRunRequest(pipeline="limits", parameters={"p": Value(string_value="x" * size)})
            for size in (most + 1, most)
        ]
        refused = await self._timed(lambda: self._runs.Start(requests[0]), grpc.StatusCode.INVALID_ARGUMENT)
        accepted = await self._timed(lambda: self._runs.Start(requests[1]), grpc.StatusCode.OK)
        report("parameters_bytes", 1 << 20, refused, accepted)

    async def _create(self, spec: PipelineSpec, expected: grpc.StatusCode) -> float:
        requests = []
        for _ in range(self._repeat):
            # Names of one length, so that each is a new pipeline of the same size.
            spec.name = f"l{next(self._numbers):05}"
            requests.append(pipelines_pb.CreatePipelineRequest(spec=spec))
        return await self._timed(lambda: self._pipelines.Create(requests.pop()), expected)

    async def _timed(self, call: Callable[[], grpc.aio.UnaryUnaryCall[Any, Any]], expected: grpc.StatusCode) -> float:
        """The median in milliseconds. Raises if the answer is another one."""
        spans = []
        for _ in range(self._repeat):
            begin = time.perf_counter()
            answer = call()
            code = await answer.code()
            spans.append((time.perf_counter() - begin) * 1_000)
            if code is not expected:
                raise RuntimeError(f"the answer is {code.name}, not {expected.name}: {await answer.details()}")
        return statistics.median(spans)


def report(limit: str, value: int, refused: float, accepted: float | None) -> None:
    line = {
        "limit": limit,
        "value": value,
        "refused_ms": round(refused, 1),
        "accepted_ms": None if accepted is None else round(accepted, 1),
    }
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def measure(repeat: int) -> None:
    # A client that sends more than a message may have, to see what the coordinator says.
    options = [(name, 80 << 20 if name == "grpc.max_send_message_length" else value) for name, value in OPTIONS]
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        cluster = DevCluster(f"{folder}/data", agents=0, environment={"PENSTOCK_LOG_LEVEL": "warning"})
        async with cluster, grpc.aio.insecure_channel(cluster.address, options=options) as channel:
            bench = Bench(channel, repeat)
            await bench.specification(Case("warm_up", 128, name))
            for case in CASES:
                await bench.specification(case)
            await bench.parameters_bytes()
            await bench.message()


def main() -> None:
    parser = argparse.ArgumentParser(description="How long refusals take.")
    parser.add_argument("--repeat", type=int, default=5, help="calls per figure")
    asyncio.run(measure(parser.parse_args().repeat))


if __name__ == "__main__":
    main()
