"""Pipelines as YAML: `load` and `dump` between text and `PipelineSpec`."""

from penstock.yaml_format.documents import Document, load, load_document
from penstock.yaml_format.dumping import dump

__all__ = ["Document", "dump", "load", "load_document"]
