"""Levels of the own logs of coordinators and agents, for all of a log and for single loggers of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import penstock_agent.log_levels
import penstock_coordinator.log_levels
from penstock_agent import own_log
from penstock_coordinator.logs import configure_logging

PARTS: list[ModuleType] = [penstock_agent.log_levels, penstock_coordinator.log_levels]
of_each_part = pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.partition(".")[0])
NAMED = "warning,library=debug,library.loud=error,asyncio=info"


@pytest.fixture
def untouched() -> Iterator[None]:
    """What a test says to the loggers of this process is taken back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    names = ("library", "library.loud", "asyncio")
    before = [logging.getLogger(name).level for name in names]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, former in zip(names, before, strict=True):
        logging.getLogger(name).setLevel(former)
    logging.captureWarnings(False)


@of_each_part
@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("debug", "debug"),
        ("", "info"),
        ("aiohttp.access=info", "info,aiohttp.access=info"),
        (
            " WARNING, penstock_agent.runtime=Debug ,asyncio=error,",
            "warning,asyncio=error,penstock_agent.runtime=debug",
        ),
        ("penstock_coordinator.core.run=debug", "info,penstock_coordinator.core.run=debug"),
    ],
)
def test_levels_are_shown_as_they_may_be_written(part: ModuleType, given: str, shown: str) -> None:
    assert part.spelled(given) == shown
    assert part.spelled(shown) == shown


@of_each_part
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "loud",
            "'loud' is no level: write debug, info, warning or error, and for single loggers info,OWN.runtime=debug",
        ),
        ("info,asyncio=", "'asyncio=' is no level"),
        ("info,debug", "the log as a whole has two levels: keep one"),
        ("a=info,a=debug", "a has two levels: keep one"),
        ("a b=debug", "'a b' is no name of a logger: write for example info,OWN.runtime=debug"),
        ("=debug", "'' is no name of a logger"),
        ("OWN.runtim=debug", "there is no logger 'OWN.runtim': it may be OWN.runtime that is meant"),
    ],
)
def test_what_is_wrong_is_named_with_its_remedy(part: ModuleType, given: str, said: str) -> None:
    own = part.__name__.partition(".")[0]
    with pytest.raises(ValueError, match=r"is no|two levels|there is no") as refused:
        part.spelled(given.replace("OWN", own))
    assert str(refused.value).startswith(said.replace("OWN", own))


def test_both_parts_read_levels_alike() -> None:
    assert len({Path(str(part.__file__)).read_text() for part in PARTS}) == 1


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("set_up", [lambda: own_log.set_up("json", NAMED), lambda: configure_logging(NAMED, "json")])
def test_a_logger_goes_by_the_longest_name_that_was_given(set_up: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(set_up)
    set_up()
    for name in ("other", "library", "library.quiet", "library.loud", "asyncio"):
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).log(level, "%s-%s", name, logging.getLevelName(level).lower())
    lines = capsys.readouterr().err.splitlines()
    heard = {name: sum(f'"{name}-' in line for line in lines) for name in ("other", "library", "library.quiet")}
    assert heard == {"other": 2, "library": 4, "library.quiet": 4}
    assert sum('"library.loud-' in line for line in lines) == 1
    assert sum('"asyncio-' in line for line in lines) == 3
