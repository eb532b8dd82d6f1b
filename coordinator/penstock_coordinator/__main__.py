"""`python -m penstock_coordinator`."""

import os
import sys

from penstock_coordinator.settings_reading import SettingsReading, is_to_serve

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


def load_http() -> None:
    """aiohttp reads the system's certificate authorities when it is loaded, for connections that a coordinator does not
    make with it: 2 MB, and a tenth of a start. Whoever connects to others (S3, Redis, PostgreSQL) reads its own."""
    name = "SSL_CERT_FILE"
    given = os.environ.get(name)
    os.environ[name] = os.devnull
    try:
        import aiohttp  # noqa: F401
    finally:
        if given is None:
            del os.environ[name]
        else:
            os.environ[name] = given


def run() -> None:
    arguments = sys.argv[1:]
    reading = SettingsReading(arguments) if is_to_serve(arguments) else None
    load_grpc()
    leave_out_colours()
    load_http()
    sys.exit(look_after(arguments) if reading is None else serve(reading))


def look_after(arguments: list[str]) -> int:
    from penstock_coordinator import commands

    return commands.look_after(arguments)


def serve(reading: SettingsReading) -> int:
    from penstock_coordinator.main import run_server

    given = reading.take()
    return run_server(given.settings, migrates=given.migrates, former=given.former)


if __name__ == "__main__":
    run()
