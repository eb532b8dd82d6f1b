"""Fixtures for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

# gRPC's handlers of forks start its threads again in the child, which closes their files before it becomes a server of
# PostgreSQL or whatever a test starts, and now and then dies of it. gRPC asks for this once, when it is loaded.
_FORK_HANDLERS = "GRPC_ENABLE_FORK_SUPPORT"
if _FORK_HANDLERS not in os.environ:
    os.environ[_FORK_HANDLERS] = "0"
    import grpc  # noqa: F401

    del os.environ[_FORK_HANDLERS]

# Agents of tests find no container engine of this machine, which would make them another system than elsewhere; tests
# of containers name one.
os.environ.setdefault("PENSTOCK_CONTAINER_ENGINE", "none")

pytest_plugins = ["tests.order", "tests.postgres", "tests.seaweed", "tests.valkey"]


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore SIGINT, and processes that tests interrupt would inherit
    that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write what happens into the golden scripts")


@pytest.fixture
def rewrite(request: pytest.FixtureRequest) -> bool:
    """Whether golden scripts are to be written instead of compared."""
    return bool(request.config.getoption("--rewrite"))


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """A line for whoever reads what the tests printed, also if all is well: a seed, a figure."""

    def said(line: str) -> None:
        record_property("said", line)

    return said


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for value in (value for name, value in report.user_properties if name == "said"):
                    terminalreporter.write_line(value)
