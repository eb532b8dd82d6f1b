"""Every mutant finds its place in the code, and is another program."""

from __future__ import annotations

import ast

import pytest
from tests.mutants.__main__ import ALL, ROOT
from tests.mutants.changes import Mutant


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_a_mutant_finds_its_places(mutant: Mutant) -> None:
    for change in mutant.changes:
        text = (ROOT / change.part / change.file).read_text(encoding="utf-8")
        assert ast.dump(ast.parse(change.changed(text))) != ast.dump(ast.parse(text))


def test_no_two_mutants_share_a_name() -> None:
    names = [mutant.name for mutant in ALL]
    assert len(set(names)) == len(names)
