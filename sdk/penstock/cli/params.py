"""`-p name=value` and `--params-file`: from text to values of the declared types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.errors import ParameterError
from penstock.json_values import Json, plain_json
from penstock.names import nearest
from penstock.parameters import ParameterType, check_fits, parse_text

if TYPE_CHECKING:
    from penstock.v1 import pipeline_pb2


def read_parameters(spec: pipeline_pb2.PipelineSpec, pairs: Sequence[str], file: Path | None) -> dict[str, Json]:
    """Values for the parameters of `spec`; a pair wins over the file. ParameterError names the parameter.

    A pair of a string parameter is taken as it stands; all others are read as JSON, and a parameter of type
    any that is no JSON as text.
    """
    types = declared_types(spec)
    values: dict[str, Json] = {}
    for name, value in _read_file(file).items():
        values[name] = check_fits(_type_of(types, name), value, name)
    for pair in pairs:
        name, text = _split(pair)
        values[name] = parse_text(_type_of(types, name), text, name)
    _check_required(spec, values)
    return values


def read_settings(pairs: Sequence[str]) -> dict[str, str]:
    """`--set name=value`: the arguments of a template, as texts. The last one of a name counts."""
    texts = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise ParameterError(f"{pair!r} is no argument", field="--set", remedy="write --set name=value")
        texts[name] = text
    return texts


def declared_types(spec: pipeline_pb2.PipelineSpec) -> dict[str, ParameterType]:
    from penstock.v1 import pipeline_pb2

    return {
        parameter.name: ParameterType[pipeline_pb2.ParameterType.Name(parameter.type).removeprefix("PARAMETER_TYPE_")]
        for parameter in spec.parameters
    }


def _type_of(types: Mapping[str, ParameterType], name: str) -> ParameterType:
    if name not in types:
        raise ParameterError("the pipeline has no such parameter", field=name, remedy=nearest(name, types))
    return types[name]


def _split(pair: str) -> tuple[str, str]:
    name, equals, text = pair.partition("=")
    if not equals or not name:
        raise ParameterError(f"{pair!r} is no parameter", field="--param", remedy="write -p name=value")
    return name, text


def _read_file(file: Path | None) -> dict[str, Json]:
    """A YAML or JSON file with an object of parameters."""
    if file is None:
        return {}
    from penstock.yaml_format.reading import read_yaml

    try:
        text = file.read_text(encoding="utf-8")
        content: Any = read_yaml(text).value if text.strip() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"the file cannot be read: {error}", field=str(file)) from None
    if not isinstance(content, dict):
        raise ParameterError(
            "the file holds no object of parameters", field=str(file), remedy="write `name: value` lines"
        )
    return {name: plain_json(value, name, ParameterError) for name, value in content.items()}


def _check_required(spec: pipeline_pb2.PipelineSpec, values: Mapping[str, Json]) -> None:
    for parameter in spec.parameters:
        if not parameter.HasField("default") and parameter.name not in values:
            raise ParameterError(
                "the parameter has no default and is not given",
                field=parameter.name,
                remedy=f"add -p {parameter.name}=VALUE",
            )
