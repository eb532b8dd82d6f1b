"""Penstock: a durable DAG orchestrator for data and ML pipelines.

Names are loaded when they are first used: a step process that imports a user's module needs `step` and
`pipeline` and pays for neither gRPC nor protobuf.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock import context, errors, yaml_format
    from penstock.artifacts.artifact import Artifact
    from penstock.artifacts.codecs import Codec, register_codec
    from penstock.authoring.budget import Budget, BudgetPer, OnExceeded
    from penstock.authoring.caching import CachePolicy
    from penstock.authoring.commands import ArtifactFile, File, Stdout, command
    from penstock.authoring.concurrency import Concurrency, ConcurrencyPolicy
    from penstock.authoring.kinds import StepKind, stage, step_kind
    from penstock.authoring.options import Retry, TriggerRule
    from penstock.authoring.pipelines import Pipeline, pipeline
    from penstock.authoring.references import NodeOutput, joined, nested, unmapped
    from penstock.authoring.steps import Step, step
    from penstock.authoring.sub_pipelines import SubPipeline, pipeline_ref
    from penstock.authoring.templates import Template, template
    from penstock.client.client import Client
    from penstock.client.handles import RunHandle
    from penstock.client.sync import SyncClient, SyncRunHandle
    from penstock.context import secret
    from penstock.errors import PenstockError

__all__ = [
    "Artifact",
    "ArtifactFile",
    "Budget",
    "BudgetPer",
    "CachePolicy",
    "Client",
    "Codec",
    "Concurrency",
    "ConcurrencyPolicy",
    "File",
    "NodeOutput",
    "OnExceeded",
    "PenstockError",
    "Pipeline",
    "Retry",
    "RunHandle",
    "Stdout",
    "Step",
    "StepKind",
    "SubPipeline",
    "SyncClient",
    "SyncRunHandle",
    "Template",
    "TriggerRule",
    "__version__",
    "command",
    "context",
    "errors",
    "joined",
    "nested",
    "pipeline",
    "pipeline_ref",
    "register_codec",
    "secret",
    "stage",
    "step",
    "step_kind",
    "template",
    "unmapped",
    "yaml_format",
]

_HOMES = {
    "Artifact": "artifacts.artifact",
    "ArtifactFile": "authoring.commands",
    "CachePolicy": "authoring.caching",
    "Client": "client.client",
    "Codec": "artifacts.codecs",
    "File": "authoring.commands",
    "NodeOutput": "authoring.references",
    "PenstockError": "errors",
    "Pipeline": "authoring.pipelines",
    "Budget": "authoring.budget",
    "BudgetPer": "authoring.budget",
    "OnExceeded": "authoring.budget",
    "Concurrency": "authoring.concurrency",
    "ConcurrencyPolicy": "authoring.concurrency",
    "Retry": "authoring.options",
    "RunHandle": "client.handles",
    "Stdout": "authoring.commands",
    "Step": "authoring.steps",
    "StepKind": "authoring.kinds",
    "SubPipeline": "authoring.sub_pipelines",
    "SyncClient": "client.sync",
    "SyncRunHandle": "client.sync",
    "Template": "authoring.templates",
    "TriggerRule": "authoring.options",
    "command": "authoring.commands",
    "joined": "authoring.references",
    "nested": "authoring.references",
    "pipeline": "authoring.pipelines",
    "pipeline_ref": "authoring.sub_pipelines",
    "register_codec": "artifacts.codecs",
    "secret": "context",
    "stage": "authoring.kinds",
    "step": "authoring.steps",
    "step_kind": "authoring.kinds",
    "template": "authoring.templates",
    "unmapped": "authoring.references",
}
_MODULES = {"context", "errors", "yaml_format"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    elif name == "__version__":
        value = importlib.import_module("importlib.metadata").version("penstock")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
