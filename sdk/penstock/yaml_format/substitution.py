"""`$[name]` in a YAML template: a structure argument or a loop variable, put in while the template is expanded.

What is put in is never read as YAML, as an expression `${…}`, as CEL or as shell: each kind of place takes it as
plain text and refuses what would mean something there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from penstock.json_values import Json
from penstock.names import nearest

# `$$[` stands for the characters `$[`.
_TOKEN = re.compile(r"\$\$\[|\$\[")
_VARIABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)((?:\.[A-Za-z0-9_-]+|\[\d+\])*)\]")
_REFERENCE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)((?:\.[A-Za-z0-9_-]+|\[\d+\])*)")
_PART = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+)\]")
FORM_REMEDY = "write $[name], $[name.member] or $[name[0]], or $$[ for the characters themselves"


class SubstitutionError(ValueError):
    """The argument is the message; `remedy` says how to mend it."""

    def __init__(self, message: str, remedy: str = FORM_REMEDY) -> None:
        super().__init__(message)
        self.remedy = remedy


class Place(Enum):
    """What a text is to those who read it after the expansion."""

    VALUE = "a member of the specification"
    RAW = "a value that is taken as it stands"
    TEXT = "a text"
    CONSTANT = "a constant"
    CONDITION = "a condition"
    SCRIPT = "a shell script"


# What may be put into an expression, a condition and a script, where quotes and brackets end what they stand in.
_IN_EXPRESSION = (re.compile(r"[^{}\"\\$]*"), "an expression", "take {, }, $, quotes and backslashes out of the value")
_IN_PLACE = {
    Place.CONDITION: (
        re.compile(r"[^\"'\\\n\r]*"),
        "a condition",
        "take quotes, backslashes and line breaks out of the value",
    ),
    Place.SCRIPT: (
        re.compile(r"[A-Za-z0-9_@%+=:,./-]*"),
        "a shell script",
        "pass it as an input and use $PENSTOCK_INPUT_<NAME>, or write the command as a list",
    ),
}


@dataclass(frozen=True, slots=True)
class Variable:
    """`$[name]`, with the path into its value."""

    text: str
    name: str
    path: tuple[str, ...]

    def value(self, scope: Mapping[str, Json]) -> Json:
        if self.name not in scope:
            raise SubstitutionError(f"{self.text} names no argument and no loop variable", nearest(self.name, scope))
        value = scope[self.name]
        for part in self.path:
            value = self._member(value, part)
        return value

    def _member(self, value: Json, part: str) -> Json:
        if isinstance(value, dict) and part in value:
            return value[part]
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            return value[int(part)]
        known = nearest(part, value) if isinstance(value, dict) else f"it is {kind_of(value)}"
        raise SubstitutionError(f"{self.text} goes to {part!r}, which is not there", known)


def read_variable(text: str) -> Variable:
    """`name`, `name.member` or `name[0]` without the brackets around it."""
    match = _REFERENCE.fullmatch(text)
    if match is None:
        raise SubstitutionError(f"{text!r} is no name of an argument", "write name, name.member or name[0]")
    return _variable(match)


def _variable(match: re.Match[str]) -> Variable:
    path = tuple(part[1] or part[2] for part in _PART.finditer(match[2]))
    return Variable(f"$[{match[1]}{match[2]}]", match[1], path)


def parts(text: str) -> list[str | Variable]:
    """The literal texts and variables of `text`, in order; `$$[` in literal texts is replaced."""
    return list(_parts(text)) if "$[" in text else [text]


def _parts(text: str) -> Iterator[str | Variable]:
    start = 0
    for token in _TOKEN.finditer(text):
        if token.start() < start:
            continue
        yield text[start : token.start()]
        if token[0] == "$$[":
            yield "$["
            start = token.end()
            continue
        match = _VARIABLE.match(text, token.end())
        if match is None:
            raise SubstitutionError(f"{text[token.start() : token.start() + 40]!r} is no substitution")
        yield _variable(match)
        start = match.end()
    yield text[start:]


def substitute(text: str, scope: Mapping[str, Json], place: Place) -> Json:
    """`text` with its variables put in. A variable that is the whole text keeps its type, but in TEXT."""
    found = parts(text)
    variables = [each for each in found if isinstance(each, Variable)]
    if not variables:
        return "".join(str(each) for each in found)
    if len(variables) == 1 and text.strip() == variables[0].text:
        return _whole(variables[0], scope, place)
    if place is Place.CONSTANT:
        return _constant(found, scope)
    return "".join(each if isinstance(each, str) else _put_in(each, scope, place) for each in found)


def _whole(variable: Variable, scope: Mapping[str, Json], place: Place) -> Json:
    value = variable.value(scope)
    match place:
        case Place.VALUE | Place.RAW:
            return value
        case Place.TEXT:
            return [scalar_text(each, variable) for each in value] if isinstance(value, list) else scalar_text(value)
        case Place.CONSTANT:
            return escaped(value)
        case Place.CONDITION | Place.SCRIPT:
            return _put_in(variable, scope, place)


def _put_in(variable: Variable, scope: Mapping[str, Json], place: Place) -> str:
    text = scalar_text(variable.value(scope), variable)
    if place in _IN_PLACE:
        _check(text, variable, *_IN_PLACE[place])
    return text


def _constant(found: list[str | Variable], scope: Mapping[str, Json]) -> str:
    """Literal parts may be an expression; what is put in never becomes one."""
    literal = "".join(each for each in found if isinstance(each, str))
    if "${" in literal.replace("$${", " "):
        return "".join(each if isinstance(each, str) else _in_expression(each, scope) for each in found)
    plain = [
        each.replace("$${", "${") if isinstance(each, str) else scalar_text(each.value(scope), each) for each in found
    ]
    return str(escaped("".join(plain)))


def _in_expression(variable: Variable, scope: Mapping[str, Json]) -> str:
    text = scalar_text(variable.value(scope), variable)
    _check(text, variable, *_IN_EXPRESSION)
    return text


def _check(text: str, variable: Variable, allowed: re.Pattern[str], where: str, remedy: str) -> None:
    if not allowed.fullmatch(text):
        raise SubstitutionError(f"{variable.text} is {text!r}, which cannot be put into {where}", remedy)


def escaped(value: Json) -> Json:
    """The constant that stands for `value` where `${` begins an expression."""
    if isinstance(value, str):
        return value.replace("${", "$${")
    if isinstance(value, list):
        return [escaped(each) for each in value]
    return {key: escaped(each) for key, each in value.items()} if isinstance(value, dict) else value


def scalar_text(value: Json, variable: Variable | None = None) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
    named = f"{variable.text} is" if variable else "it is"
    raise SubstitutionError(
        f"{named} {kind_of(value)}, which is no text", "use a text, a number or a bool, or a member of it"
    )


def kind_of(value: Json) -> str:
    match value:
        case None:
            return "null"
        case list():
            return "a list"
        case dict():
            return "an object"
    return f"{value!r}"
