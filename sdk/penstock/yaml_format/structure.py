"""The `structure:` of a YAML template: what its arguments are called and of which type, and the values given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from penstock.errors import ParameterError
from penstock.json_values import Json, plain_json
from penstock.names import nearest
from penstock.parameters import ParameterType, check_fits, parse_text
from penstock.v1 import pipeline_pb2
from penstock.yaml_format.normalising import Normaliser
from penstock.yaml_format.reading import YamlDocument

SECTION = "structure"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PARAMETERS = pipeline_pb2.PipelineSpec.DESCRIPTOR.fields_by_name["parameters"]


def structure_arguments(
    document: YamlDocument, given: Mapping[str, Json], texts: Mapping[str, str]
) -> dict[str, Json] | None:
    """A value for every argument that the document declares; None if it is no template.

    `texts` are read by the declared types and win over `given`. ParameterError: missing, unknown or ill-typed.
    """
    content = document.value
    if not isinstance(content, dict) or SECTION not in content:
        for name in {**given, **texts}:
            raise ParameterError(
                "the file is no template and takes no structure arguments",
                field=name,
                remedy=f"declare it under `{SECTION}:`, or give a parameter with -p",
            )
        return None
    declared = _declared(document, content[SECTION])
    values: dict[str, Json] = {}
    for name, value in given.items():
        values[name] = check_fits(_type(declared, name), plain_json(value, name, ParameterError), name)
    for name, text in texts.items():
        values[name] = parse_text(_type(declared, name), text, name)
    return {name: values[name] if name in values else _default(document, name, each) for name, each in declared.items()}


def _declared(document: YamlDocument, section: Any) -> dict[str, dict[str, Any]]:
    if section is None:
        return {}
    declared = {}
    for each in Normaliser(document).members(_PARAMETERS, section, (SECTION,)):
        name = each.get("name", "")
        if not _IDENTIFIER.fullmatch(name):
            raise document.error(
                f"{name!r} is no name of an argument", (SECTION, name), "use letters, digits and '_', no digit first"
            )
        if "type" not in each:
            raise document.error("the argument has no type", (SECTION, name), "for example {type: list}")
        declared[name] = each
    return declared


def _kind(declared: dict[str, Any]) -> ParameterType:
    return ParameterType[declared["type"].removeprefix("PARAMETER_TYPE_")]


def _type(declared: dict[str, dict[str, Any]], name: str) -> ParameterType:
    if name not in declared:
        raise ParameterError("the template has no such argument", field=name, remedy=nearest(name, declared))
    return _kind(declared[name])


def _default(document: YamlDocument, name: str, declared: dict[str, Any]) -> Json:
    if "default" not in declared:
        raise ParameterError(
            "the argument has no default and is not given", field=name, remedy=f"add --set {name}=VALUE"
        )
    kind, value = _kind(declared), declared["default"]
    try:
        return check_fits(kind, value, name)
    except ParameterError as error:
        raise document.error(error.message, (SECTION, name, "default"), error.remedy) from None
