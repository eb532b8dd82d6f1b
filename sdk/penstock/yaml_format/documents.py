"""`load`: from the text of a YAML document to a `PipelineSpec`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from penstock.errors import YamlError
from penstock.json_values import Json
from penstock.v1 import pipeline_pb2
from penstock.yaml_format.compensation import write_out_compensation
from penstock.yaml_format.expansion import expand
from penstock.yaml_format.normalising import Normaliser
from penstock.yaml_format.reading import YamlDocument, read_yaml
from penstock.yaml_format.stages import Stage, write_out
from penstock.yaml_format.structure import structure_arguments


@dataclass(frozen=True, slots=True)
class Document:
    """`bundle` is the folder to ship, relative to the file; None: none is needed.

    `stages` are the steps with a kind, and `source` places errors in the file.
    """

    spec: pipeline_pb2.PipelineSpec
    bundle: str | None
    stages: list[Stage]
    source: YamlDocument


def load(text: str, arguments: Mapping[str, Json] | None = None) -> pipeline_pb2.PipelineSpec:
    """The pipeline that the text describes. YamlError names the place, what is wrong and how to mend it.

    `arguments` are those of a template; ParameterError: one is missing, unknown or ill-typed. What only the
    coordinator can judge (cycles, unknown steps, CEL) is left to it.
    """
    return load_document(text, arguments).spec


def load_document(
    text: str, arguments: Mapping[str, Json] | None = None, argument_texts: Mapping[str, str] | None = None
) -> Document:
    """`load`, with the folder that `bundle` names: "." if it is left out and a step is a Python function.

    `argument_texts` are arguments as a command line gives them, read by their declared types.
    """
    document = read_yaml(text)
    structure = structure_arguments(document, arguments or {}, argument_texts or {})
    if structure is not None:
        document = expand(document, structure)
    document, stages = write_out(document)
    document = write_out_compensation(document)
    content = document.value
    if not isinstance(content, dict):
        raise document.error("the document is no object", (), "write at least `name:` and `steps:`")
    bundle = _bundle(document, content)
    members = {key: value for key, value in content.items() if key != "bundle"}
    spec = _parse(document, Normaliser(document).message(pipeline_pb2.PipelineSpec.DESCRIPTOR, members, ()))
    for required in ("name", "steps"):
        if not getattr(spec, required):
            raise document.error("the field is missing", (required,), "every pipeline has a name and steps")
    if bundle is None and not spec.bundle_digest and any(step.HasField("function") for step in spec.steps):
        bundle = "."
    return Document(spec, bundle, stages, document)


def _bundle(document: YamlDocument, content: dict[str, Any]) -> str | None:
    bundle = content.get("bundle")
    if bundle is not None and (not isinstance(bundle, str) or not bundle):
        raise document.error("the bundle is no folder", ("bundle",), "write a path relative to the file")
    return bundle


def _parse(document: YamlDocument, content: Any) -> pipeline_pb2.PipelineSpec:
    try:
        return json_format.ParseDict(content, pipeline_pb2.PipelineSpec())
    except json_format.ParseError as error:
        message = str(error).removeprefix("Failed to parse ")
        raise YamlError(message, remedy="see docs/yaml.md") from None
