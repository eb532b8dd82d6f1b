"""Each script beside this file; `--rewrite` writes what happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.scripts.agent.holder_script import play

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, rewrite: bool) -> None:
    script = path.read_text(encoding="utf-8")
    played = play(script)
    if rewrite:
        path.write_text(played, encoding="utf-8")
    assert played == script or rewrite
