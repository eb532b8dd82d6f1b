"""`python -m penstock_agent`"""

import os
import sys

LIGHT = "-event_engine_client,-event_engine_listener"
"""gRPC's own threads for its connections hand each message on to the next one; without them it comes in on the thread
that waits for it, two thread switches earlier."""


def load_grpc() -> None:
    """It reads the variable once, when it is loaded: steps and other children do not inherit it. What the operator has
    set is left alone."""
    name = "GRPC_EXPERIMENTS"
    if name in os.environ:
        return
    os.environ[name] = LIGHT
    import grpc  # noqa: F401

    del os.environ[name]


def run() -> None:
    load_grpc()
    from penstock_agent.main import config, main

    if sys.argv[1:2] == ["config"]:
        config(sys.argv[2:], prog_name="penstock agent config")
    else:
        main(prog_name="penstock agent")


if __name__ == "__main__":
    run()
