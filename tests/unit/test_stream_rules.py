"""What may not be done to streams of gRPC in asyncio, because it breaks them without a word. No test of behaviour shows
all of it: a read that is cancelled loses messages only if one comes at that moment."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ["coordinator/penstock_coordinator/api", "agent/penstock_agent/runtime"]
WRITERS = {
    "coordinator/penstock_coordinator/api/agent_pen.py": {"_begin_next"},
    "coordinator/penstock_coordinator/api/agent_stream.py": {"_turn_away"},
    "agent/penstock_agent/runtime/pen.py": {"_begin_next"},
}
"""Who writes to the stream of an agent: one task at a time."""


def files() -> list[Path]:
    return sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))


def faults(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="wait_for"), args=[ast.Call(func=ast.Attribute(attr="read")), *_]):
                yield f"line {node.lineno}: a read with a timeout ends the call, and what comes is lost"
            case ast.AsyncWith(items=items) if any("timeout" in ast.unparse(item) for item in items):
                if any(_is_call_of(inner, "read") for inner in ast.walk(node)):
                    yield f"line {node.lineno}: a read with a timeout ends the call, and what comes is lost"
            case ast.ExceptHandler(type=kind) if kind is not None and "CancelledError" in ast.unparse(kind):
                if not any(isinstance(inner, ast.Raise) for inner in ast.walk(node)):
                    yield f"line {node.lineno}: a handler that keeps its cancellation to itself leaks memory"


def _is_call_of(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_streams_are_read_as_they_must_be(file: Path) -> None:
    assert list(faults(file.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "async def f(c): await asyncio.wait_for(c.read(), 1)",
        "async def f(c):\n async with asyncio.timeout(1):\n  await c.read()",
        "async def f(c):\n try:\n  pass\n except asyncio.CancelledError:\n  pass",
    ],
)
def test_what_is_wrong_is_seen(source: str) -> None:
    assert len(list(faults(source))) == 1


@pytest.mark.parametrize("path", WRITERS)
def test_a_stream_has_one_writer(path: str) -> None:
    writers = {
        function.name
        for function in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef)
        and any(_is_call_of(node, "write") for node in ast.walk(function))
    }
    assert writers == WRITERS[path]
