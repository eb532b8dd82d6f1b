"""A program with traces of its own that starts a run: python -m tests.e2e.system.traced_caller ADDRESS GATE BEGUN"""

from __future__ import annotations

import sys

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from tests.e2e.system.traced_flows import traced

from penstock.client.sync import SyncClient


def main(address: str, gate: str, begun: str) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    with trace.get_tracer("caller").start_as_current_span("order"), SyncClient(address) as client:
        print(client.start(traced, {"gate": gate, "begun": begun}).id)
    provider.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
