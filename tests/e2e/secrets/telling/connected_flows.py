"""Steps that need what the system is connected with."""

from __future__ import annotations

import os
from typing import Any

from opentelemetry import trace

from penstock import Retry, pipeline, step

KEPT = "canary-kept"
"""The name of the secret that the coordinator keeps."""
OWN = "canary-own"
"""The name of the one that the agent has."""
MUCH = ["x" * 60_000]
"""An artifact."""


@step(secrets={KEPT: "KEPT_SECRET", OWN: "OWN_SECRET"}, retry=Retry(max_attempts=2), allow_failure=True)
def raises() -> None:
    print(os.environ["KEPT_SECRET"], os.environ["OWN_SECRET"])
    raise RuntimeError(os.environ["KEPT_SECRET"] + os.environ["OWN_SECRET"])


@step(allow_failure=True)
def gives_much() -> Any:
    with trace.get_tracer("connected").start_as_current_span("own"):
        return MUCH


@step(requirements=["there-is-no-such-package"], allow_failure=True)
def asks_for_packages() -> None: ...


@pipeline
def connected() -> None:
    raises()
    gives_much()
    asks_for_packages()


@pipeline
def stores() -> None:
    gives_much()
