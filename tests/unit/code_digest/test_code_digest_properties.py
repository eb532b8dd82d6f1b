"""Generated projects: the digest of a function changes with exactly the functions that a plain search finds."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.code_digest import BundleCode

MODULES = ["main", "helpers", "pkg.one", "pkg.two", "pkg.sub.three"]


class Project:
    """Functions that call each other across modules, by every way of importing."""

    def __init__(self, seed: int, size: int) -> None:
        chance = random.Random(seed)
        self.module = {number: chance.choice(MODULES) for number in range(size)}
        self.calls = {
            number: sorted(chance.sample(range(size), chance.randint(0, min(3, size)))) for number in range(size)
        }
        self.styles = {(a, b): chance.randrange(5) for a in self.calls for b in self.calls[a]}
        self.values = dict.fromkeys(range(size), 0)
        self.comments = dict.fromkeys(range(size), 0)

    def reached(self, start: int) -> set[int]:
        found: set[int] = set()
        pending = [start]
        while pending:
            number = pending.pop()
            if number not in found:
                found.add(number)
                pending += self.calls[number]
        return found

    def digest(self, number: int) -> str:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for package in ("pkg", "pkg/sub"):
                (root / package).mkdir()
                (root / package / "__init__.py").write_text("")
            for module in MODULES:
                (root / f"{module.replace('.', '/')}.py").write_text(self._source(module))
            return BundleCode([root], "bundle").digest(self.module[number], f"f{number}")

    def _source(self, module: str) -> str:
        imports: list[str] = []
        functions: list[str] = []
        for number, home in self.module.items():
            if home == module:
                inner: list[str] = []
                body: list[str] = []
                for other in self.calls[number]:
                    line, call, local = self._call(number, other, module)
                    (inner if local else imports).append(line)
                    body.append(call)
                lines = [f"    {line}" for line in inner if line]
                lines.append(f"    # comment {self.comments[number]}")
                lines.append(f"    return [V{number}, {', '.join(body)}]")
                functions.append(f"V{number} = {self.values[number]}\n\n\ndef f{number}():\n" + "\n".join(lines))
        return "\n".join([*dict.fromkeys(line for line in imports if line), "", *functions, ""])

    def _call(self, number: int, other: int, module: str) -> tuple[str, str, bool]:
        """(import, call, whether the import stands in the function)"""
        home, name = self.module[other], f"f{other}"
        if home == module:
            return "", f"{name}()", False
        match self.styles[number, other]:
            case 0:
                return f"from {home} import {name}", f"{name}()", False
            case 1:
                return f"from {home} import {name} as g{number}_{other}", f"g{number}_{other}()", False
            case 2:
                return f"import {home}", f"{home}.{name}()", False
            case 3:
                return f"import {home} as m{number}_{other}", f"m{number}_{other}.{name}()", True
            case _:
                return f"from {home} import {name} as h{other}", f"h{other}()", True


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**9), st.integers(1, 12), st.data())
def test_exactly_what_is_reached_counts(seed: int, size: int, data: st.DataObject) -> None:
    project = Project(seed, size)
    start = data.draw(st.integers(0, size - 1))
    reached, before = project.reached(start), project.digest(start)
    for number in range(size):
        project.comments[number] += 1
        assert project.digest(start) == before
        project.values[number] += 1
        assert (project.digest(start) != before) == (number in reached)
        project.values[number] -= 1
