"""The messages of the stream, compiled when they are imported."""

from __future__ import annotations

from typing import Any

import grpc

messages: Any
services: Any
messages, services = grpc.protos_and_services("benchmarks/bare_loop/bare_loop.proto")

Step = messages.Step
Steps = messages.Steps
MOST_PER_MESSAGE = 200
