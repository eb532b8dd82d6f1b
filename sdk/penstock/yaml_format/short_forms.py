"""The short forms of YAML, written out: what a person may write in place of a message's own members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from penstock.errors import YamlError
from penstock.json_values import Json, plain_json
from penstock.yaml_format.expressions import Expression, ExpressionError, read_text
from penstock.yaml_format.reading import Path, YamlDocument, path_text

_SOURCES = frozenset({"value", "parameter", "step", "item"})
_PYTHON_MEMBERS = frozenset({"requirements", "lock", "lock_format", "lockFormat"})
_MAP_FORMS = ("over", "joined", "nested", "product", "zip")
_VALUE_REMEDY = "write `value:` in front of a constant object, for example {value: {step: 3}}"


class ShortForms:
    """Writes out one document. Each method takes what stands in the place of a message of one type."""

    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self._forms: dict[str, Callable[[Any, Path], Any]] = {
            "penstock.v1.Parameter": self._parameter,
            "penstock.v1.FunctionAction": self._function,
            "penstock.v1.CommandAction": self._command,
            "penstock.v1.CommandOutput": self._command_output,
            "penstock.v1.PipelineAction": self._pipeline,
            "penstock.v1.OutputReference": self._output_reference,
            "penstock.v1.Input": self._input,
            "penstock.v1.MapSpec": self._map,
            "penstock.v1.MapList": self._map_list,
            "penstock.v1.Concurrency": self._concurrency,
            "penstock.v1.CachePolicy": self._cache,
            "penstock.v1.SecretUse": self._secret,
            "penstock.v1.Environment": self._environment,
        }

    def write_out(self, message_type: str, value: Any, path: Path) -> Any:
        form = self._forms.get(message_type)
        return value if form is None else form(value, path)

    def _parameter(self, value: Any, _path: Path) -> Any:
        return {"type": value} if isinstance(value, str) else value

    def _function(self, value: Any, path: Path) -> Any:
        if not isinstance(value, str):
            return value
        module, colon, named = value.partition(":")
        qualname, hash_sign, digest = named.partition("#")
        if not (module and colon and qualname):
            raise self._document.error(f"{value!r} names no function", path, "write module:function")
        function = {"module": module, "qualname": qualname}
        return {**function, "code_digest": digest} if hash_sign else function

    def _command(self, value: Any, _path: Path) -> Any:
        if isinstance(value, str):
            return {"shell": value}
        return {"argv": value} if isinstance(value, list) else value

    def _pipeline(self, value: Any, _path: Path) -> Any:
        return {"name": value} if isinstance(value, str) else value

    def _output_reference(self, value: Any, path: Path) -> Any:
        return self._output(value, path) if isinstance(value, str) else value

    def _command_output(self, value: Any, _path: Path) -> Any:
        return {"stdout": True} if value == "stdout" else value

    def _input(self, value: Any, path: Path) -> Any:
        if isinstance(value, str):
            return self._expression(value, path)
        if isinstance(value, dict) and _SOURCES & value.keys():
            return self._long_source(value, path)
        return {"value": self._checked_constant(value, path)}

    def _long_source(self, value: dict[str, Json], path: Path) -> dict[str, Json]:
        """{value: …}, {parameter: n}, {step: a, path: […]}, {item: {path: […]}}; nothing else beside them."""
        match sorted(value):
            case ["value"] | ["parameter"]:
                return value
            case ["item"]:
                return {"item": value["item"] or {}}
            case ["step"] if isinstance(value["step"], dict):
                return value
            case ["step"] | ["path", "step"]:
                return {"step": dict(value)}
        raise self._document.error("the object mixes a reference with other members", path, _VALUE_REMEDY)

    def _expression(self, text: str, path: Path) -> Any:
        read = self._read(text, path)
        if isinstance(read, str):
            return {"value": read}
        match read.kind:
            case "params":
                return {"parameter": read.name}
            case "steps":
                return {"step": {"step": read.name, "path": list(read.path)}}
            case "item":
                return {"item": {"path": list(read.path)}}

    def _read(self, text: str, path: Path) -> Expression | str:
        try:
            return read_text(text)
        except ExpressionError as error:
            raise self._document.error(str(error), path, error.remedy) from None

    def constant(self, value: Any, path: Path) -> Json:
        """A constant as inputs have it: texts are unescaped, references refused."""
        return self._checked_constant(value, path)

    def _checked_constant(self, value: Any, path: Path) -> Json:
        return check_constant(self._constant(value, path), path, self._document)

    def _constant(self, value: Any, path: Path) -> Any:
        """Texts in it are unescaped; a reference in it is refused, for a constant holds none."""
        if isinstance(value, str):
            read = self._read(value, path)
            if isinstance(read, str):
                return read
            raise self._document.error(f"{value!r} stands inside a constant", path, "pass it as an input of its own")
        if isinstance(value, list):
            return [self._constant(each, (*path, at)) for at, each in enumerate(value)]
        if isinstance(value, dict):
            return {key: self._constant(each, (*path, key)) for key, each in value.items()}
        return value

    def _map(self, value: Any, path: Path) -> Any:
        return self._long_map(value, path) if isinstance(value, dict) else self._list_over(value, path)

    def _list_over(self, value: Any, path: Path) -> Any:
        """A list, or what stands for one."""
        if isinstance(value, list):
            return {"values": self._checked_constant(value, path)}
        read = self._read(value, path) if isinstance(value, str) else ""
        if isinstance(read, str) or read.kind == "item":
            raise self._document.error(
                f"{value!r} is no list to map over",
                path,
                "write ${steps.NAME.output}, ${params.NAME}, or a list",
            )
        return self._expression(value, path)

    def _concurrency(self, value: Any, path: Path) -> Any:
        key = value.get("key") if isinstance(value, dict) else value
        if isinstance(key, str) and "${" in key:
            remedy = "for a key of parameters write key_expression, for example 'tenant-' + params.tenant"
            raise self._document.error(f"{key!r} is a key as it stands: nothing is put into it", path, remedy)
        return {"key": value} if isinstance(value, str) else value

    def _cache(self, value: Any, _path: Path) -> Any:
        if isinstance(value, bool):
            return {} if value else {"disabled": True}
        return value

    def _environment(self, value: Any, _path: Path) -> Any:
        """A list of requirements, what a PythonEnvironment has, or nothing for what the agent itself runs in."""
        if isinstance(value, list):
            return {"python": {"requirements": value}}
        if isinstance(value, dict) and value.keys() & _PYTHON_MEMBERS:
            return {"python": value}
        return {} if value is False else value

    def _secret(self, value: Any, path: Path) -> Any:
        """Of a list the name, of a mapping from names the variable."""
        if not isinstance(value, str):
            return value
        return {"name": value} if isinstance(path[-1], int) else {"env": value}

    def _long_map(self, value: dict[str, Any], path: Path) -> Any:
        """{over: …}, {joined: ${…}}, {nested: ${…}}, {product: {x: …}} or {zip: {x: …}}, each with max_parallel; or the
        members of the message."""
        forms = [name for name in _MAP_FORMS if name in value and not isinstance(value[name], bool)]
        if isinstance(value.get("nested"), dict):
            forms.remove("nested")
        if not forms:
            return _plain_list(value)
        form = forms[0]
        others = {name: each for name, each in value.items() if name != form}
        if others.keys() - {"max_parallel", "maxParallel"}:
            wrong = min(others.keys() - {"max_parallel", "maxParallel"})
            raise self._document.error(
                f"{form} and {wrong} are both given", (*path, wrong), f"beside {form} stands max_parallel alone"
            )
        return {**self._map_form(form, value[form], (*path, form)), **others}

    def _map_form(self, form: str, value: Any, path: Path) -> dict[str, Any]:
        match form:
            case "over":
                return cast("dict[str, Any]", self._list_over(value, path))
            case "joined":
                return {"step": self._output(value, path), "joined": True}
            case "nested":
                output = self._output(value, path)
                return {"step": {"step": output["step"]}, "nested": {"path": output["path"]}}
        combination = {"combination": "zip"} if form == "zip" else {}
        if not isinstance(value, dict):
            raise self._document.error(f"{form} needs named lists", path, "write {x: [1, 2], y: ${params.NAME}}")
        return {"lists": value, **combination}

    def _output(self, value: Any, path: Path) -> dict[str, Any]:
        read = self._read(value, path) if isinstance(value, str) else ""
        if isinstance(read, str) or read.kind != "steps":
            raise self._document.error(f"{value!r} is no output of a step", path, "write ${steps.NAME.output}")
        return {"step": read.name, "path": list(read.path)}

    def _map_list(self, value: Any, path: Path) -> Any:
        return _plain_list(value) if isinstance(value, dict) else self._list_over(value, path)


def _plain_list(value: dict[str, Any]) -> dict[str, Any]:
    """{step: a, path: […]} is short for {step: {step: a, path: […]}}."""
    if not isinstance(value.get("step"), str):
        return value
    reference = {name: value[name] for name in ("step", "path") if name in value}
    return {**{name: each for name, each in value.items() if name not in reference}, "step": reference}


def check_constant(value: Any, path: Path, document: YamlDocument) -> Json:
    """`value` as JSON; an error with its place otherwise."""
    try:
        return plain_json(value, path_text(path), YamlError)
    except YamlError as error:
        placed = document.error(error.message, path, error.remedy)
        placed.field = error.field
        raise placed from None
