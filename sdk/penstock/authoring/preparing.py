"""What must be sent to a coordinator for a pipeline: its specification and bundle, after those of the pipelines that it
calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.authoring.graph import PipelineTarget
from penstock.authoring.pipelines import Pipeline
from penstock.authoring.sources import bundle_place, check_shipped
from penstock.bundle.archive import Bundle, build_bundle
from penstock.errors import DefinitionError

if TYPE_CHECKING:
    from penstock.v1 import pipeline_pb2


@dataclass(frozen=True, slots=True)
class PreparedPipeline:
    """A specification that names the digest of its bundle, and that bundle (None: it needs none)."""

    spec: pipeline_pb2.PipelineSpec
    bundle: Bundle | None


def prepare(pipelines: Iterable[Pipeline]) -> list[PreparedPipeline]:
    """`pipelines` in their order, each after those that it calls, which coordinators want to be there first; each once.

    DefinitionError: two that are different have one name, or they call each other in a circle.
    """
    prepared: dict[str, PreparedPipeline] = {}
    bundles: dict[object, Bundle] = {}
    for pipeline in called_first(pipelines):
        made = _prepare(pipeline, bundles)
        known = prepared.setdefault(pipeline.name, made)
        if known.spec != made.spec:
            raise DefinitionError(
                f"two pipelines that are different have the name {pipeline.name!r}",
                field="name",
                remedy='give one of them another, as in @pipeline(name="...")',
            )
    return list(prepared.values())


def _prepare(pipeline: Pipeline, bundles: dict[object, Bundle]) -> PreparedPipeline:
    place = bundle_place(pipeline)
    if place is None:
        return PreparedPipeline(pipeline.spec(), None)
    if place not in bundles:
        bundles[place] = build_bundle(place.root, place.script_folders)
    bundle = bundles[place]
    check_shipped(pipeline, bundle)
    return PreparedPipeline(pipeline.spec(bundle.digest), bundle)


def called_first(pipelines: Iterable[Pipeline]) -> list[Pipeline]:
    """`pipelines` and all that they call, each once and after those that it calls. A pipeline may call itself."""
    order = _Order()
    for pipeline in pipelines:
        order.visit(pipeline)
    return order.found


class _Order:
    def __init__(self) -> None:
        self.found: list[Pipeline] = []
        self._path: list[Pipeline] = []

    def visit(self, pipeline: Pipeline) -> None:
        if any(each is pipeline for each in self.found):
            return
        self._path.append(pipeline)
        for node in pipeline.graph().nodes.values():
            if isinstance(node.target, PipelineTarget) and node.target.pipeline is not None:
                self._visit_called(node.target.pipeline)
        self._path.pop()
        self.found.append(pipeline)

    def _visit_called(self, called: Pipeline) -> None:
        # A template copies the pipeline that its function returns; the body still calls the original.
        if called.function is self._path[-1].function:
            return
        names = [each.name for each in self._path]
        if called.name not in names:
            self.visit(called)
            return
        circle = " calls ".join(repr(name) for name in [*names[names.index(called.name) :], called.name])
        raise DefinitionError(
            f"pipelines call each other in a circle: {circle}",
            field="steps",
            remedy=f"call one that the coordinator has by its name: pipeline_ref({called.name!r})",
        )
