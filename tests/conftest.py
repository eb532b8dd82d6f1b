"""Fixtures for all tests."""

from __future__ import annotations

import signal

import pytest

pytest_plugins = ["tests.postgres"]


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
