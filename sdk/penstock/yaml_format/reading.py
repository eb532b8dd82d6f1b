"""Reading YAML into plain values: YAML 1.2's core schema, no tags, bounded, with the place of every member.

The core schema means that `no`, `on`, `1:30` and `2026-11-21` are texts, where YAML 1.1 makes a bool, a number of
seconds and a date of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

import yaml

from penstock.errors import YamlError
from penstock.json_values import Json
from penstock.quantities import format_size

MAX_TEXT_BYTES = 32 * 2**20
MAX_DEPTH = 100
# Values that aliases (*name) repeat, and characters of these: a few lines could stand for billions.
MAX_ALIASED_VALUES = 100_000
MAX_ALIASED_TEXT = 32 * 2**20

Path: TypeAlias = "tuple[str | int, ...]"

_INT = re.compile(r"[-+]?[0-9]+")
_PREFIXED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_MOST_PREFIXED = 3_000
"""Characters of a number with a prefix: of longer ones Python refuses to write down the decimal digits."""
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_UNREADABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_PLAIN_TAGS = frozenset({"tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map", None})

_FLOW_REMEDY = 'inside {…} and […] put an expression in quotes: {x: "${params.x}"}, ["$[x]"]'


class _Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]  # either one
    """Composes nodes only. Without resolvers every plain scalar keeps the tag of a text."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  # as in the base class


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """The value of a document, and the (line, column) of the members of its mappings and lists."""

    value: Json
    places: dict[Path, tuple[int, int]]

    def error(self, message: str, path: Path, remedy: str = "") -> YamlError:
        """An error that names the path, and the line and column of its nearest known place."""
        line, column = next(
            (self.places[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.places), (0, 0)
        )
        return YamlError(message, field=path_text(path), remedy=remedy, line=line, column=column)


def path_text(path: Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def plain_scalar(text: str) -> Json:
    """What a scalar without quotes means in the core schema. ValueError: a number of absurd length."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _PREFIXED_INT.fullmatch(text):
        if len(text) > _MOST_PREFIXED:
            raise ValueError("the number is too long")
        return int(text, 0)
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def read_yaml(text: str) -> YamlDocument:
    """YamlError with line and column: malformed, several documents, a tag, a doubled key, or past a limit."""
    if len(text) > MAX_TEXT_BYTES:
        raise YamlError(f"the text is longer than {format_size(MAX_TEXT_BYTES)}", remedy="split the pipeline")
    try:
        _check_depth(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise _malformed(error, text) from None
    except yaml.YAMLError as error:
        raise _unreadable(text) or YamlError(f"the text is no YAML: {' '.join(str(error).split())}") from None
    if node is None:
        raise YamlError("the document is empty", remedy="a pipeline needs at least a name and steps")
    return _Construction().document(node)


def _unreadable(text: str) -> YamlError | None:
    """About the first character that no YAML may have."""
    found = _UNREADABLE.search(text)
    if found is None:
        return None
    line = text.count("\n", 0, found.start()) + 1
    column = found.start() - text.rfind("\n", 0, found.start())
    return YamlError(
        f"the text is no YAML: it has the character U+{ord(found[0]):04X}",
        remedy='remove it, or write it as in "\\x01", in double quotes',
        line=line,
        column=column,
    )


def _check_depth(text: str) -> None:
    """Before nodes are made: what makes them recurses in C without a bound, and would take the process down."""
    loader = _Loader(text)
    try:
        depth = 0
        while loader.check_event():
            event = loader.get_event()
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH + 1:
                mark = event.start_mark
                raise _too_deep(mark.line + 1, mark.column + 1)
    finally:
        loader.dispose()


def _too_deep(line: int, column: int, path: Path = ()) -> YamlError:
    message = f"the document is nested deeper than {MAX_DEPTH}"
    return YamlError(message, field=path_text(path), remedy="make it flatter", line=line, column=column)


def _malformed(error: yaml.MarkedYAMLError, text: str) -> YamlError:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    problem = " ".join(part for part in (error.context, error.problem) if part) or "the text is no YAML"
    if "expected a single document" in problem:
        return YamlError("there are several documents", remedy="one file holds one pipeline", line=line, column=column)
    around = text.splitlines()[max(line - 2, 0) : line]
    remedy = _FLOW_REMEDY if any("${" in each or "$[" in each for each in around) else "mend the YAML"
    return YamlError(problem, line=line, column=column, remedy=remedy)


@dataclass(slots=True)
class _Construction:
    """From nodes to values. Aliased nodes are written out anew each time, up to a limit."""

    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _open: set[int] = field(default_factory=set)
    _seen: set[int] = field(default_factory=set)
    _aliased: int = 0
    _aliased_text: int = 0

    def document(self, node: yaml.Node) -> YamlDocument:
        return YamlDocument(self._value(node, (), False), self.places)

    def _value(self, node: yaml.Node, path: Path, aliased: bool) -> Json:
        self.places[path] = (node.start_mark.line + 1, node.start_mark.column + 1)
        aliased = aliased or id(node) in self._seen
        self._check(node, path, aliased)
        self._seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self._value(each, (*path, at), aliased) for at, each in enumerate(node.value)]
            return self._mapping(node, path, aliased)
        finally:
            self._open.discard(id(node))

    def _check(self, node: yaml.Node, path: Path, aliased: bool) -> None:
        if node.tag not in _PLAIN_TAGS:
            self._fail(f"the tag {node.tag!r} is not allowed", node, path, "write plain values")
        if id(node) in self._open:
            self._fail("an alias stands inside its own anchor", node, path, "write the value out")
        if len(path) > MAX_DEPTH:
            raise _too_deep(node.start_mark.line + 1, node.start_mark.column + 1, path)
        self._aliased += aliased
        if self._aliased > MAX_ALIASED_VALUES:
            self._fail(f"aliases repeat more than {MAX_ALIASED_VALUES:,} values", node, path, "use fewer aliases")
        if aliased and isinstance(node, yaml.ScalarNode):
            self._aliased_text += len(node.value)
        if self._aliased_text > MAX_ALIASED_TEXT:
            self._fail(f"aliases repeat more than {format_size(MAX_ALIASED_TEXT)}", node, path, "use fewer aliases")

    def _mapping(self, node: yaml.Node, path: Path, aliased: bool) -> dict[str, Json]:
        result: dict[str, Json] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key in result:
                self._fail(f"the key {key!r} is given twice", key_node, (*path, key), "remove one of them")
            result[key] = self._value(value_node, (*path, key), aliased)
            mark = key_node.start_mark
            self.places[(*path, key)] = (mark.line + 1, mark.column + 1)
        return result

    def _key(self, node: yaml.Node, path: Path) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._fail("a key is no text", node, path, "write `name: value` lines")
        key = self._scalar(node, path)
        if not isinstance(key, str):
            self._fail("a key is no text", node, path, "put it in quotes")
        if key == "<<" and not node.style:
            self._fail("merge keys (<<) are not read", node, path, "use `defaults`, or write the values out")
        return key

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Json:
        text: str = node.value
        if node.style:
            return text
        if _NO_NUMBER.fullmatch(text):
            self._fail(f"{text} is no JSON number", node, path, "write a number, or put it in quotes if it is a text")
        try:
            return plain_scalar(text)
        except ValueError:
            self._fail("the number is too long", node, path, "put it in quotes")

    def _fail(self, message: str, node: yaml.Node, path: Path, remedy: str) -> NoReturn:
        mark = node.start_mark
        raise YamlError(message, field=path_text(path), remedy=remedy, line=mark.line + 1, column=mark.column + 1)
