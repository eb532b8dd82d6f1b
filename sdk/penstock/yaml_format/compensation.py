"""The long form of `compensate:`, written out: the step that undoes another one, in the place where it is needed."""

from __future__ import annotations

from typing import Any

from penstock.json_values import Json
from penstock.yaml_format.reading import Path, YamlDocument

MEMBER = "compensate"


def write_out_compensation(document: YamlDocument) -> YamlDocument:
    """`compensate: {…}` becomes a step of its own, named `undo_STEP` unless it says another name."""
    content = document.value
    steps: Any = content.get("steps") if isinstance(content, dict) else None
    if isinstance(steps, dict):
        members = list(steps.items())
    else:
        members = list(enumerate(steps)) if isinstance(steps, list) else []
    if not isinstance(content, dict) or not any(_is_long(body) for _, body in members):
        return document
    return _Writing(document).written(content, members, named=isinstance(steps, dict))


def _is_long(body: Any) -> bool:
    return isinstance(body, dict) and isinstance(body.get(MEMBER), dict)


class _Writing:
    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self._places: dict[Path, tuple[int, int]] = dict(document.places)

    def written(self, content: dict[str, Any], members: list[tuple[Any, Any]], *, named: bool) -> YamlDocument:
        """Steps as a mapping stay one, a list stays one; those that undo come last."""
        names = {key if named else body.get("name") for key, body in members if named or isinstance(body, dict)}
        found: list[tuple[Any, Any]] = []
        undoing: list[tuple[str, dict[str, Any]]] = []
        for key, body in members:
            if not _is_long(body):
                found.append((key, body))
                continue
            at: Path = ("steps", key, MEMBER)
            name = self._name(str(key if named else body.get("name", key)), body[MEMBER], at)
            if name in names:
                raise self._document.error(
                    f"there is a step {name!r} already",
                    at,
                    "give this one another `name:`, or name the step that is there",
                )
            names.add(name)
            undoing.append((name, {each: value for each, value in body[MEMBER].items() if each != "name"}))
            self._move(at, ("steps", name if named else len(members) + len(undoing) - 1))
            found.append((key, {**body, MEMBER: name}))
        steps: Json = {**dict(found), **dict(undoing)} if named else self._list(found, undoing)
        return YamlDocument({**content, "steps": steps}, self._places)

    def _name(self, step: str, body: dict[str, Any], at: Path) -> str:
        name = body.get("name", f"undo_{step}")
        if not isinstance(name, str):
            raise self._document.error("the name is no text", (*at, "name"), "put it in quotes, or leave it out")
        return name

    @staticmethod
    def _list(found: list[tuple[Any, Any]], undoing: list[tuple[str, dict[str, Any]]]) -> list[Any]:
        return [*(body for _, body in found), *({"name": name, **body} for name, body in undoing)]

    def _move(self, old: Path, new: Path) -> None:
        """Errors in it name the place where it stands."""
        for path, place in self._document.places.items():
            if path[: len(old)] == old:
                self._places[(*new, *path[len(old) :])] = place
