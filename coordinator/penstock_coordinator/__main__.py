"""`python -m penstock_coordinator`."""

import os
import sys

LIGHT = "-event_engine_client,-event_engine_listener"
"""gRPC's own threads for its connections hand each message on to the next one; without them it comes in on the thread
that waits for it, two thread switches earlier."""


def load_grpc() -> None:
    """It reads the variable once, when it is loaded; children do not inherit it. What the operator has set is left
    alone."""
    name = "GRPC_EXPERIMENTS"
    if name in os.environ:
        return
    os.environ[name] = LIGHT
    import grpc  # noqa: F401

    del os.environ[name]


def leave_out_colours() -> None:
    """structlog loads `rich`, and that pygments, for tracebacks in colour: 8 MB that no coordinator makes use of."""
    sys.modules["rich"] = None  # type: ignore[assignment]  # the way to say that a module is not there


def run() -> None:
    load_grpc()
    leave_out_colours()
    from penstock_coordinator.main import main

    sys.exit(main())


if __name__ == "__main__":
    run()
