"""Stages: steps that say `type` and `config`, and `kinds:`, which names the functions that they are.

They become ordinary function steps: the config is the constant input `config`, and `from` is short for inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penstock.json_values import Json
from penstock.names import nearest
from penstock.yaml_format.reading import Path, YamlDocument
from penstock.yaml_format.short_forms import ShortForms

SECTION = "kinds"
CONFIG = "config"
# The input that `from: STEP` gives.
DATA = "data"
_MEMBERS = ("type", CONFIG, "from")
_KIND_REMEDY = "write it as module:function, for example csv_input: flows.kinds:read_csv"


@dataclass(frozen=True, slots=True)
class Stage:
    """A step with a kind, for who can import the function and check the config and the inputs."""

    path: Path
    kind: str
    module: str
    qualname: str
    config: Json
    inputs: tuple[str, ...]


def write_out(document: YamlDocument) -> tuple[YamlDocument, list[Stage]]:
    """The document without kinds and stages, and the stages that it had."""
    content = document.value
    if not isinstance(content, dict):
        return document, []
    stages = _Stages(document, _kinds(document, content.get(SECTION)))
    members = {key: value for key, value in content.items() if key != SECTION}
    steps = members.get("steps")
    if isinstance(steps, dict):
        members["steps"] = {name: stages.step(body, ("steps", name)) for name, body in steps.items()}
    elif isinstance(steps, list):
        members["steps"] = [stages.step(body, ("steps", at)) for at, body in enumerate(steps)]
    return YamlDocument(members, document.places), stages.found


def _kinds(document: YamlDocument, section: Any) -> dict[str, tuple[str, str]]:
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise document.error("the kinds are no object", (SECTION,), _KIND_REMEDY)
    kinds = {}
    for name, target in section.items():
        module, colon, qualname = target.partition(":") if isinstance(target, str) else ("", "", "")
        if not (module and colon and qualname):
            raise document.error(f"{target!r} names no function", (SECTION, name), _KIND_REMEDY)
        kinds[name] = (module, qualname)
    return kinds


class _Stages:
    def __init__(self, document: YamlDocument, kinds: dict[str, tuple[str, str]]) -> None:
        self._document = document
        self._kinds = kinds
        self._forms = ShortForms(document)
        self.found: list[Stage] = []

    def step(self, body: Any, path: Path) -> Any:
        if not isinstance(body, dict):
            return body
        if "type" not in body:
            for member in body.keys() & {CONFIG, "from"}:
                raise self._document.error(
                    f"`{member}` belongs to a step that has a `type`",
                    (*path, member),
                    "add `type:`, or use `inputs`",
                )
            return body
        for member in body.keys() & {"function", "command", "pipeline"}:
            raise self._document.error(f"type and {member} are both given", (*path, member), "give one of them")
        return self._stage(body, path)

    def _stage(self, body: dict[str, Any], path: Path) -> dict[str, Any]:
        kind = body["type"]
        if kind not in self._kinds:
            known = nearest(str(kind), self._kinds) if self._kinds else "declare it under `kinds:`"
            raise self._document.error(f"there is no kind {kind!r}", (*path, "type"), f"{known}; {_KIND_REMEDY}")
        module, qualname = self._kinds[kind]
        inputs = self._inputs(body, path)
        config: Json = {}
        if CONFIG in body:
            config = self._config(body[CONFIG], (*path, CONFIG))
            inputs[CONFIG] = {"value": config}
        self.found.append(Stage(path, kind, module, qualname, config, tuple(inputs)))
        members = {key: value for key, value in body.items() if key not in (*_MEMBERS, "inputs")}
        return {**members, "function": {"module": module, "qualname": qualname}, "inputs": inputs}

    def _config(self, value: Any, path: Path) -> Json:
        if not isinstance(value, dict):
            raise self._document.error("the config is no object", path, "write `name: value` lines")
        return self._forms.constant(value, path)

    def _inputs(self, body: dict[str, Any], path: Path) -> dict[str, Any]:
        given = body.get("inputs") or {}
        if not isinstance(given, dict):
            raise self._document.error("the inputs are no object", (*path, "inputs"), "write `name: value` lines")
        inputs = dict(given)
        for name, source in self._from(body.get("from"), (*path, "from")):
            if name in inputs:
                raise self._document.error(
                    f"the input {name!r} is also under `inputs`", (*path, "from"), "give it once"
                )
            inputs[name] = source
        if CONFIG in inputs:
            raise self._document.error(
                "`config` is the stage's constant",
                (*path, "inputs", CONFIG),
                "write it as `config:`, or rename it",
            )
        return inputs

    def _from(self, value: Any, path: Path) -> list[tuple[str, Any]]:
        """A step is the input `data`; of a list each step is an input by its name; a mapping names the inputs."""
        match value:
            case None:
                return []
            case str():
                return [(DATA, _output(value))]
            case list() if all(isinstance(each, str) for each in value):
                return [(each, _output(each)) for each in value]
            case dict() if all(isinstance(each, str) for each in value.values()):
                return [(name, _output(each)) for name, each in value.items()]
        raise self._document.error("`from` names no steps", path, "write a step, [a, b], or {input: step}")


def _output(step: str) -> Any:
    """`from` takes a step's name, and an expression where a part of the output is meant."""
    return step if "${" in step else {"step": step}
