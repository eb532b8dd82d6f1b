"""Some of the mutants die in every run of the tests; all of them with `make mutants`."""

from __future__ import annotations

import pytest
from tests.mutants.__main__ import ROOT, kill
from tests.mutants.changes import Mutant
from tests.mutants.ownership import OWNERSHIP
from tests.mutants.promises import SIMULATED
from tests.mutants.several import SEVERAL

QUICK = (
    "commands before the commit",
    "any epoch may write",
    "a superseded session is still heard",
    "no resume window after a take-over",
    "the agent forgets a result that it has sent",
    "permits are not counted",
    "no owner's epoch is checked",
    "a take-over before the former lease has run out",
    "a claim waits for the head alone",
    "runs of members are there to be claimed",
    "an owner that wakes up goes on",
)
"""They die within a few schedules."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", QUICK)
def test_the_simulator_finds_a_broken_promise(name: str) -> None:
    (mutant,) = (each for each in (*SIMULATED, *OWNERSHIP, *SEVERAL) if each.name == name)
    assert kill(mutant) is not None, f"nothing found that {mutant.breaks} is not kept"


def test_every_mutant_has_a_name_of_its_own_and_fits() -> None:
    assert len({mutant.name for mutant in SIMULATED}) == len(SIMULATED) >= 25
    for mutant in (*SIMULATED, *OWNERSHIP, *SEVERAL):
        assert fits(mutant), mutant.name


def fits(mutant: Mutant) -> bool:
    """Whether the place that it changes is there, once."""
    return (ROOT / mutant.part / mutant.file).read_text(encoding="utf-8").count(mutant.before) == 1
