"""The cores are values in, values out. import-linter forbids the modules; here are the calls that need no import of
their own, or that hide in a module which is allowed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORES = [ROOT / "coordinator" / "penstock_coordinator" / "core", ROOT / "agent" / "penstock_agent" / "core"]
BUILTINS = {"open", "print", "input", "breakpoint", "exec", "eval", "__import__"}
CLOCKS = {"now", "utcnow", "today", "fromtimestamp", "GetCurrentTime"}


def impurities(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.AsyncFunctionDef() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
                yield f"line {node.lineno}: something waits"
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                yield f"line {node.lineno}: {name}()"
            case ast.Call(func=ast.Attribute(attr=name)) if name in CLOCKS:
                yield f"line {node.lineno}: .{name}()"


def core_files() -> list[Path]:
    return sorted(file for core in CORES for file in core.rglob("*.py"))


@pytest.mark.parametrize("file", core_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_core_decides_without_doing(file: Path) -> None:
    assert list(impurities(file.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "datetime.datetime.now()",
        "date.today()",
        "stamp.GetCurrentTime()",
        "open('x')",
        "print(1)",
        "async def f(): ...",
    ],
)
def test_what_a_core_must_not_do_is_found(source: str) -> None:
    assert len(list(impurities(source))) == 1
