"""How long a coordinator takes to refuse what is one past a limit, and to accept what is at it.

python -m benchmarks.limits [--repeat 5]

Each request goes to `PipelineService.Create` or `RunService.Start` of a whole coordinator on this machine, over a
connection that is open already. The client has its message ready in bytes. Prints a JSON line per limit with the
medians in milliseconds, from the call to the answer: `refused_ms` of a client that just sends, `announced_ms` of one
that says the size of a large request first.
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
from typing import Any, TypeAlias

import grpc.aio
from google.protobuf.struct_pb2 import Value

from penstock.client.channel import ANNOUNCED, LARGE_BYTES, OPTIONS, Metadata
from penstock.dev.cluster import DevCluster
from penstock.v1 import pipeline_service_pb2 as pipelines_pb
from penstock.v1 import run_service_pb2 as runs_pb
from penstock.v1.pipeline_pb2 import PARAMETER_TYPE_STRING, PipelineSpec

Make = Callable[[int], PipelineSpec]
Call: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[Any, Any]"


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
        # Without serializers: what is sent was written before the clock begins.
        self._create: Call = channel.unary_unary("/penstock.v1.PipelineService/Create")
        self._start: Call = channel.unary_unary("/penstock.v1.RunService/Start")
        self._repeat = repeat
        self._numbers = itertools.count()

    async def specification(self, case: Case) -> None:
        past = self._written(case.make(case.value + 1))
        refused = await self._timed(self._create, past, grpc.StatusCode.INVALID_ARGUMENT)
        announced = await self._announced(self._create, past, grpc.StatusCode.INVALID_ARGUMENT)
        accepted = await self._timed(self._create, self._written(case.make(case.value)), grpc.StatusCode.OK)
        report(case.limit, case.value, refused, announced, accepted)

    async def message(self, limit: int) -> None:
        spec = chain(1)
        spec.description = "x" * limit
        past = self._written(spec)
        refused = await self._timed(self._create, past, grpc.StatusCode.RESOURCE_EXHAUSTED)
        announced = await self._announced(self._create, past, grpc.StatusCode.RESOURCE_EXHAUSTED)
        report("message_bytes", limit, refused, announced, None)

    async def parameters_bytes(self) -> None:
        spec = chain(1)
        spec.name = "limits"
        spec.parameters.add(name="p", type=PARAMETER_TYPE_STRING)
        await self._create(pipelines_pb.CreatePipelineRequest(spec=spec).SerializeToString())
        most = (1 << 20) - len('{"p":""}')
        past, at = (
            [runs_pb.StartRunRequest(pipeline="limits", parameters={"p": Value(string_value="x" * size)})]
            for size in (most + 1, most)
        )
        refused = await self._timed(self._start, self._repeated(past[0]), grpc.StatusCode.INVALID_ARGUMENT)
        accepted = await self._timed(self._start, self._repeated(at[0]), grpc.StatusCode.OK)
        report("parameters_bytes", 1 << 20, refused, None, accepted)

    def _repeated(self, request: runs_pb.StartRunRequest) -> list[bytes]:
        return [request.SerializeToString()] * self._repeat

    def _written(self, spec: PipelineSpec) -> list[bytes]:
        requests = []
        for _ in range(self._repeat):
            # Names of one length, so that each is a new pipeline of the same size.
            spec.name = f"l{next(self._numbers):05}"
            requests.append(pipelines_pb.CreatePipelineRequest(spec=spec).SerializeToString())
        return requests

    async def _announced(self, call: Call, requests: list[bytes], expected: grpc.StatusCode) -> float | None:
        """As the SDK and the command line call with large requests: with their size in the metadata."""
        if len(requests[0]) <= LARGE_BYTES:
            return None
        return await self._timed(call, requests, expected, ((ANNOUNCED, str(len(requests[0]))),))

    async def _timed(
        self, call: Call, requests: list[bytes], expected: grpc.StatusCode, metadata: Metadata = ()
    ) -> float:
        """The median in milliseconds. Raises if the answer is another one."""
        spans = []
        for request in requests:
            begin = time.perf_counter()
            answer = call(request, metadata=metadata)
            code = await answer.code()
            spans.append((time.perf_counter() - begin) * 1_000)
            if code is not expected:
                raise RuntimeError(f"the answer is {code.name}, not {expected.name}: {await answer.details()}")
        return statistics.median(spans)


def report(limit: str, value: int, refused: float, announced: float | None, accepted: float | None) -> None:
    spans = {"refused_ms": refused, "announced_ms": announced, "accepted_ms": accepted}
    line = {name: None if span is None else round(span, 1) for name, span in spans.items()}
    sys.stdout.write(json.dumps({"limit": limit, "value": value, **line}) + "\n")
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
            await bench.message(40 << 20)


def main() -> None:
    parser = argparse.ArgumentParser(description="How long refusals take.")
    parser.add_argument("--repeat", type=int, default=5, help="calls per figure")
    asyncio.run(measure(parser.parse_args().repeat))


if __name__ == "__main__":
    main()
