"""The steps that a template makes, and what `depends_on` and references mean in it.

The name of a loop stands for all of its copies. A step that is left out passes on what it waits for: who depends on
it depends on that, so the order of the others is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from penstock.json_values import Json
from penstock.yaml_format.expressions import ExpressionError, read_text
from penstock.yaml_format.reading import Path, YamlDocument


@dataclass(slots=True)
class Copy:
    """One step after the expansion. `old` is its place in the file; `new` is its place in the expanded document."""

    family: str
    name: str
    included: bool
    body: Any
    new: Path
    old: Path


class Copies:
    def __init__(self, source: YamlDocument) -> None:
        self._source = source
        self._families: dict[str, list[Copy]] = {}
        self._loops: set[str] = set()
        self._names: dict[str, Copy] = {}
        self._passed_on: dict[str, list[str]] = {}

    def add_family(self, family: str, looped: bool) -> None:
        if family in self._families:
            raise self._source.error(f"two steps are named {family!r}", ("steps", family), "give one another name")
        self._families[family] = []
        if looped:
            self._loops.add(family)

    def add(self, copy: Copy) -> None:
        other = self._names.get(copy.name)
        if other is not None:
            of = "" if other.family == copy.family else f", one of {other.family!r} and one of {copy.family!r}"
            raise self._source.error(
                f"two steps are named {copy.name!r}{of}", copy.old, "give the copies names that differ with `as:`"
            )
        self._names[copy.name] = copy
        self._families[copy.family].append(copy)

    def included(self) -> Iterator[Copy]:
        for copy in self._names.values():
            if copy.included:
                if copy.name in self._loops:
                    raise self._source.error(
                        f"{copy.name!r} is the name of a loop and of a step", copy.old, "rename one of them"
                    )
                yield copy

    def resolved(self, copy: Copy) -> Json:
        """The body with `depends_on` written out; an error if a reference names a loop or a step that is left out."""
        for path, name in _references(copy.body):
            self._check_reference(name, (*copy.old, *path))
        if not isinstance(copy.body, dict):
            return copy.body  # type: ignore[no-any-return]  # JSON, which the reader refuses with its place
        key = next((key for key in ("depends_on", "dependsOn") if isinstance(copy.body.get(key), list)), None)
        if key is None:
            return copy.body
        names = [name for entry in copy.body[key] for name in self._meant(entry)]
        # What is no text is the reader's to refuse, with its place.
        once = list(dict.fromkeys(name for name in names if isinstance(name, str)))
        return {**copy.body, key: [*once, *(name for name in names if not isinstance(name, str))]}

    def _meant(self, entry: Any) -> list[Any]:
        """The steps that an entry of `depends_on` stands for."""
        if not isinstance(entry, str):
            return [entry]
        if entry in self._loops:
            return [name for copy in self._families[entry] for name in self._or_passed_on(copy)]
        found = self._names.get(entry)
        return [entry] if found is None else self._or_passed_on(found)

    def _or_passed_on(self, copy: Copy) -> list[str]:
        if copy.included:
            return [copy.name]
        known = self._passed_on.get(copy.name)
        if known is not None:
            return known
        # A cycle of left out steps ends here; one that is not left out is the coordinator's to find.
        self._passed_on[copy.name] = []
        names = [name for entry in _upstream(copy.body) for name in self._meant(entry)]
        self._passed_on[copy.name] = list(dict.fromkeys(name for name in names if isinstance(name, str)))
        return self._passed_on[copy.name]

    def _check_reference(self, name: str, path: Path) -> None:
        if name in self._loops:
            copies = [copy.name for copy in self._families[name] if copy.included]
            example = f"${{steps.{copies[0]}.output}}" if copies else "one copy"
            raise self._source.error(
                f"{name!r} stands for all copies of a loop, and an input takes the output of one step",
                path,
                f"name one, such as {example}, or repeat the input: {{for_each: …, as: …, from: …}}",
            )
        found = self._names.get(name)
        if found is not None and not found.included:
            raise self._source.error(
                f"the step {name!r} is left out by its condition", path, "leave this step out under the same condition"
            )


def _upstream(body: Any) -> list[Any]:
    """What a step waits for."""
    if not isinstance(body, dict):
        return []
    entries = body.get("depends_on") or body.get("dependsOn")
    return [*(entries if isinstance(entries, list) else ()), *(name for _, name in _references(body))]


def _references(body: Any) -> Iterator[tuple[Path, str]]:
    """The steps whose outputs the inputs, the map and `from` name, with their paths in the body."""
    if not isinstance(body, dict):
        return
    inputs = body.get("inputs")
    for key, source in inputs.items() if isinstance(inputs, dict) else ():
        for name in _steps_of(source):
            yield ("inputs", key), name
    for name in _steps_of(body.get("map")):
        yield ("map",), name
    upstream = body.get("from")
    entries = (
        upstream.values() if isinstance(upstream, dict) else upstream if isinstance(upstream, list) else [upstream]
    )
    for entry in entries:
        if isinstance(entry, str):
            yield from ((("from",), step) for step in (_steps_of(entry) if "${" in entry else [entry]))


def _steps_of(source: Any) -> Iterator[str]:
    """The steps that an input or a map names, in its short and its long forms."""
    if isinstance(source, str):
        try:
            read = read_text(source)
        except ExpressionError:
            return
        if not isinstance(read, str) and read.kind == "steps":
            yield read.name
    elif isinstance(source, dict) and "step" in source:
        step = source["step"]
        name = step.get("step") if isinstance(step, dict) else step
        if isinstance(name, str):
            yield name
    elif isinstance(source, dict):
        for key, member in source.items():
            yield from _steps_of(member) if key not in ("value", "values") else ()
