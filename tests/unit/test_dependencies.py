"""What the processes import is installed with them. Tests run with all extras, so that no other one would notice."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imported(file: Path) -> Iterator[str]:
    """Top-level modules, also of imports inside functions; not those for types alone."""
    waiting: list[ast.AST] = [ast.parse(file.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                waiting += node.orelse
                continue
            case ast.Import():
                yield from (each.name.partition(".")[0] for each in node.names)
            case ast.ImportFrom(level=0, module=str(module)):
                yield module.partition(".")[0]
        waiting += ast.iter_child_nodes(node)


def installed_with(extra: str) -> set[str]:
    """Distributions of that extra, and what these need themselves."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [*project["dependencies"], *project["optional-dependencies"][extra]]
    found: set[str] = set()
    while waiting:
        name = plain(re.split(r"[^\w.-]", waiting.pop())[0])
        if name not in found:
            found.add(name)
            with contextlib.suppress(PackageNotFoundError):  # Of another system.
                waiting += [each for each in requires(name) or () if "extra ==" not in each]
    return found


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("extra", ["agent", "coordinator"])
def test_nothing_is_imported_that_is_not_installed_with_it(extra: str) -> None:
    package = f"penstock_{extra}"
    known, owners = installed_with(extra), packages_distributions()
    faults = {
        f"{file.relative_to(ROOT)}: {module}"
        for file in (ROOT / extra / package).rglob("*.py")
        for module in imported(file)
        if module not in sys.stdlib_module_names
        and module not in ("penstock", package)
        and known.isdisjoint(map(plain, owners.get(module, ())))
    }
    assert faults == set()
