"""`${…}` in the inputs and maps of a YAML pipeline: short forms of references, never text to be filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_WHOLE = re.compile(r"\$\{([^{}]*)\}")
_PART = re.compile(r'\.([A-Za-z0-9_][A-Za-z0-9_-]*)|\[(\d+)\]|\["((?:[^"\\]|\\["\\])*)"\]')
_HEAD = re.compile(r"\s*(params|steps|item)")

EXPRESSION_REMEDY = (
    "write ${params.NAME}, ${steps.NAME.output}, ${steps.NAME.output.member[0]}, ${item} or ${item.member}"
)
WHOLE_REMEDY = (
    "an expression is the whole value: pass it as an input of its own and put the text together in the step, "
    "or write $${ for the characters themselves"
)


class ExpressionError(ValueError):
    """The text is no expression that is known. The argument is the message; `remedy` says what is."""

    def __init__(self, message: str, remedy: str = EXPRESSION_REMEDY) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Expression:
    """`name` is that of the parameter or the step; empty for the item."""

    kind: Literal["params", "steps", "item"]
    name: str = ""
    path: tuple[str, ...] = ()


def read_text(text: str) -> Expression | str:
    """An expression if it is the whole text; else the text, in which `$${` stands for `${`."""
    match = _WHOLE.fullmatch(text.strip())
    if match:
        return _parse(match[1])
    if "${" in text.replace("$${", " "):
        raise ExpressionError(f"{text!r} holds an expression and something else", WHOLE_REMEDY)
    return text.replace("$${", "${")


def _parse(body: str) -> Expression:
    head = _HEAD.match(body)
    if head is None:
        raise ExpressionError(f"${{{body}}} is no expression")
    parts = _parts(body, head.end())
    match head[1], parts:
        case "item", _:
            return Expression("item", path=tuple(parts))
        case "params", [name]:
            return Expression("params", name)
        case "params", [name, *_]:
            raise ExpressionError(
                f"${{{body}}} goes into the parameter {name}",
                f"pass ${{params.{name}}} whole and take the member in the step",
            )
        case "steps", [name, "output", *path]:
            return Expression("steps", name, tuple(path))
    raise ExpressionError(f"${{{body}}} is no expression")


def _parts(body: str, start: int) -> list[str]:
    text, parts = body.rstrip(), []
    while start < len(text):
        match = _PART.match(text, start)
        if match is None:
            raise ExpressionError(f"${{{body}}} is no expression")
        parts.append(_part(match))
        start = match.end()
    return parts


def _part(match: re.Match[str]) -> str:
    member, position, quoted = match.groups()
    if quoted is not None:
        return re.sub(r"\\(.)", r"\1", quoted)
    return str(member or int(position))


def write_expression(expression: Expression) -> str:
    """The text that `read_text` reads back."""
    match expression.kind:
        case "params":
            parts: tuple[str, ...] = (expression.name,)
        case "steps":
            parts = (expression.name, "output", *expression.path)
        case "item":
            parts = expression.path
    return f"${{{expression.kind}{''.join(_write_part(part) for part in parts)}}}"


def _write_part(part: str) -> str:
    if re.fullmatch(r"0|[1-9]\d*", part):
        return f"[{part}]"
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", part):
        return f".{part}"
    escaped = part.replace("\\", "\\\\").replace('"', '\\"')
    return f'["{escaped}"]'


def is_writable(expression: Expression) -> bool:
    """Whether the short form can say it: braces would end it."""
    return not any(set(part) & set("{}") for part in (expression.name, *expression.path))
