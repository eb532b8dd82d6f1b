"""`make env`: passwords and keys of one's own."""

from __future__ import annotations

import asyncio
import base64
import shutil
import stat
from pathlib import Path

import pytest
from tests.e2e.compose_without_docker.definition import ROOT, read_variables


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/write_env.sh", tmp_path / "scripts")
    shutil.copy(ROOT / ".env.example", tmp_path)
    return tmp_path


async def write(checkout: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        "sh", "scripts/write_env.sh", cwd=checkout, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said
    return said.decode()


def names_in(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


async def test_what_has_no_value_gets_one_that_nobody_else_has(checkout: Path, tmp_path: Path) -> None:
    example = read_variables((checkout / ".env.example").read_text())
    written = []
    for _ in range(2):
        await write(checkout)
        found = checkout / ".env"
        assert stat.S_IMODE(found.stat().st_mode) == 0o600
        written.append(read_variables(found.read_text()))
        found.unlink()
    first, second = written
    assert set(first) == set(example)
    for name, value in example.items():
        if value:
            assert first[name] == value
        elif name == "PENSTOCK_SECRETS_KEY":
            assert len(base64.b64decode(first[name], validate=True)) == 32
            assert first[name] != second[name]
        else:
            assert len(first[name]) == 48
            assert first[name].isalnum()
            assert first[name] != second[name]


async def test_one_that_is_there_stays_as_it_is(checkout: Path) -> None:
    found = checkout / ".env"
    found.write_text("POSTGRES_PASSWORD=mine\n")
    assert await write(checkout) == ""
    assert found.read_text() == "POSTGRES_PASSWORD=mine\n"


async def test_of_many_at_once_one_writes_and_nothing_is_left_behind(checkout: Path) -> None:
    said = await asyncio.gather(*(write(checkout) for _ in range(8)))
    assert sum("Wrote .env" in each for each in said) == 1
    assert names_in(checkout) == {".env", ".env.example", "scripts"}
