"""The conditions under which a requirement counts, as PEP 508 writes them after a semicolon."""

from __future__ import annotations

import re

from penstock_coordinator.core.plan.naming import quoted

_VARIABLES = frozenset(
    {
        "implementation_name",
        "implementation_version",
        "os_name",
        "platform_machine",
        "platform_python_implementation",
        "platform_release",
        "platform_system",
        "platform_version",
        "python_full_version",
        "python_version",
        "sys_platform",
    }
)
_TOKEN = re.compile(r"""\s*(?:([()])|(===|==|!=|~=|<=|>=|<|>|not\s+in\b|in\b)|(and\b|or\b)|("[^"]*"|'[^']*')|(\w+))""")
_DEEPEST = 16


class BadMarker(Exception):
    pass


def canonical_marker(text: str) -> str:
    """The same with one space between words and double quotes. Raises `BadMarker`."""
    said: list[str] = []
    depth, wants = 0, "operand"
    text = text.strip()
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise BadMarker(f"{quoted(text[at:])} is no part of a marker")
        at = found.end()
        paren, operator, joint, literal, word = found.groups()
        depth, wants = _next(depth, wants, paren, operator, joint, literal, word)
        said.append(_written(paren or joint or word, operator, literal))
    if wants != "joint" or depth:
        raise BadMarker("it ends too early: write it as in \"python_version < '3.12'\"")
    return " ".join(said).replace("( ", "(").replace(" )", ")")


def _written(word: str | None, operator: str | None, literal: str | None) -> str:
    if operator is not None:
        return " ".join(operator.split())
    if literal is not None:
        return f"'{literal[1:-1]}'" if '"' in literal[1:-1] else f'"{literal[1:-1]}"'
    assert word is not None
    return word


def _next(
    depth: int,
    wants: str,
    paren: str | None,
    operator: str | None,
    joint: str | None,
    literal: str | None,
    word: str | None,
) -> tuple[int, str]:
    """How deep it is and what comes next: an `operand`, an `operator`, the `other` operand, or a `joint`."""
    if word is not None and word not in _VARIABLES:
        raise BadMarker(f"{quoted(word)} is no variable of markers: use one of {', '.join(sorted(_VARIABLES))}")
    if paren == "(" and wants == "operand" and depth < _DEEPEST:
        return depth + 1, "operand"
    if paren == ")" and wants == "joint" and depth:
        return depth - 1, "joint"
    if operator is not None and wants == "operator":
        return depth, "other"
    if joint is not None and wants == "joint":
        return depth, "operand"
    if literal is not None or word is not None:
        if wants == "operand":
            return depth, "operator"
        if wants == "other":
            return depth, "joint"
    given = paren or operator or joint or literal or word or ""
    raise BadMarker(f"{quoted(given)} is not expected there: write it as in \"python_version < '3.12'\"")
