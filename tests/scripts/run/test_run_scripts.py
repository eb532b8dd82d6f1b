"""The run core, one script per feature. `pytest tests/scripts --rewrite` writes what happens into the scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.scripts.run.script import play

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, rewrite: bool) -> None:
    text = path.read_text()
    played = play(text)
    if rewrite:
        path.write_text(played)
    assert rewrite or played == text
