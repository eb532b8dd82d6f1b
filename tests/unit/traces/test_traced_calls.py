"""Which calls are spans."""

from __future__ import annotations

from typing import Any, cast

import grpc
import pytest

from penstock_coordinator.adapters.otlp import STREAMS, is_traced
from penstock_coordinator.api.server import DESCRIBED


class Call(grpc.HandlerCallDetails):
    def __init__(self, method: str, *metadata: tuple[str, str]) -> None:
        self.method = method
        self.invocation_metadata = cast("Any", metadata)


TRACED = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@pytest.mark.parametrize(
    "method",
    [*sorted(STREAMS), "/penstock.agent.v1.AgentService/Connect", "/grpc.health.v1.Health/Check"],
)
def test_what_lasts_is_no_span(method: str) -> None:
    assert not is_traced(Call(method, TRACED))


def test_what_a_traced_caller_asks_is_a_span() -> None:
    assert is_traced(Call("/penstock.v1.RunService/Start", ("a", "b"), TRACED))
    assert not is_traced(Call("/penstock.v1.RunService/Start", ("a", "b")))


def test_all_streams_are_named() -> None:
    methods = {f"/{each.full_name}/{method.name}": method for each in DESCRIBED for method in each.methods}
    streams = {name for name, method in methods.items() if method.server_streaming and name.startswith("/penstock.v1.")}
    assert streams == STREAMS
