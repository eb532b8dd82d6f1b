"""Which steps and items a retry of a run lets run again, by the words of docs/control.md."""

from __future__ import annotations

from typing import TypeAlias

from tests.e2e.random_dags.dags import Dag, Step
from tests.e2e.random_dags.predictions import Part, Place, Prediction

Again: TypeAlias = dict[str, list[Place] | None]
"""By step: None, and all of it runs again with a new list, or the places of items that do."""

_ENDED_BADLY = ("FAILED", "CANCELLED", "UPSTREAM_FAILED")


def runs_again(dag: Dag, former: Prediction) -> Again:
    """Empty if there is nothing to be retried. Cleanup steps run again in any case, also if they alone failed."""
    again: Again = {}
    for step in dag.steps:
        if not step.cleanup and _is_touched(step, former.steps[step.name], again):
            again[step.name] = _places(dag, step, former, again) or None
    if again or any(step.cleanup and _has_ended_badly(former.steps[step.name]) for step in dag.steps):
        again.update({step.name: None for step in dag.steps if step.cleanup})
    return again


def _is_touched(step: Step, part: Part, again: Again) -> bool:
    if _has_ended_badly(part) or _gets_a_new_list(step, part, again):
        return True
    return part.state == "SKIPPED" and any(name in again for name in step.upstream)


def _has_ended_badly(part: Part) -> bool:
    """Also a map that is COMPLETED or SKIPPED because what failed in it was allowed to."""
    return part.state in _ENDED_BADLY or any(each.state in _ENDED_BADLY for _, each in part.walk())


def _gets_a_new_list(step: Step, part: Part, again: Again) -> bool:
    """It went along with what is made anew."""
    followed = step.map.followed if step.map else None
    if followed is None or part.parts is None or followed not in again:
        return False
    assert step.map is not None
    return again[followed] is None or step.map.kind == "nested"


def _places(dag: Dag, step: Step, former: Prediction, again: Again) -> list[Place]:
    """Items of a map that stays as it is; none if it does not."""
    part = former.steps[step.name]
    if part.parts is None or _gets_a_new_list(step, part, again) or not _stays(step, part, again):
        return []
    followed = step.map.followed if step.map else None
    along = (again.get(followed) or []) if followed else []
    return [
        place
        for place, item in part.items.items()
        if item.state in _ENDED_BADLY or (item.state == "SKIPPED" and place in along)
    ]


def _stays(step: Step, part: Part, again: Again) -> bool:
    assert step.map is not None
    followed = step.map.followed
    others = [name for name in step.upstream if name != followed or step.names_followed_elsewhere]
    if any(name in again for name in others):
        return False
    if step.map.kind != "nested":
        return True
    groups = [each for _, each in part.walk() if each.group]
    return followed not in again and all(each.state in ("COMPLETED", "SKIPPED") for each in groups)
