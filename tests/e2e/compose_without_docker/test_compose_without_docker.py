"""docker-compose.yml, started without Docker: the same as `python -m tests.e2e.compose_without_docker`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.compose_without_docker.check import check
from tests.processes import processes_of


@pytest.mark.timeout(600)
async def test_what_the_compose_file_says_works_and_leaves_no_process(
    tmp_path: Path, say: Callable[[str], None]
) -> None:
    lines: list[str] = []
    await check(tmp_path, lines.append)
    say(lines[-1])
    assert processes_of(tmp_path) == []
