"""Every mutant of the rules dies (`make mutants` tells of what)."""

from __future__ import annotations

import pytest
from tests.mutants.__main__ import kill
from tests.mutants.changes import MUTANTS, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_a_mutant_dies(mutant: Mutant) -> None:
    assert kill(mutant) is not None, f"nothing found that {mutant.breaks} is not kept"
