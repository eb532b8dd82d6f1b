"""Conditions: the `when` of steps, in the part of CEL that `cel` describes.

A condition is checked once, at submission (`check`), and compiled from the stored text with each plan
(`Condition`), which finds what it reads. The closures that evaluate it are made at its first evaluation: of the
conditions of a large plan most runs evaluate few at a time.
"""

from __future__ import annotations

from penstock_coordinator.core.plan.cel.cost import check_cost
from penstock_coordinator.core.plan.cel.errors import ConditionError, InvalidCondition
from penstock_coordinator.core.plan.cel.evaluation import build
from penstock_coordinator.core.plan.cel.frame import Frame, OutOfBudget, Run
from penstock_coordinator.core.plan.cel.functions import kind_of
from penstock_coordinator.core.plan.cel.kinds import check_kinds
from penstock_coordinator.core.plan.cel.names import Scope, resolve
from penstock_coordinator.core.plan.cel.syntax import parse
from penstock_coordinator.core.plan.model import Json, Path

__all__ = ["NO_ITEM", "Condition", "ConditionError", "InvalidCondition", "Scope", "check"]


class _NoItem:
    """Stands for the item where there is none."""

    def __repr__(self) -> str:
        return "NO_ITEM"


NO_ITEM = _NoItem()


def check(source: str, scope: Scope) -> dict[str, set[Path]]:
    """By step, the paths that the expression reads of outputs.

    Raises `InvalidCondition` for what cannot be read, for unknown names and functions, for what cannot be right
    whatever the values, for a result that is no boolean, and for an expression that may take too long.
    """
    tree, reads = resolve(parse(source), scope)
    check_kinds(tree, scope.parameters)
    check_cost(tree)
    return reads.outputs


class Condition:
    """A compiled expression. Equal sources are equal conditions."""

    __slots__ = (
        "_run",
        "_slots",
        "item_paths",
        "output_paths",
        "parameters",
        "reads_item",
        "reads_state",
        "source",
        "steps",
    )

    def __init__(self, source: str) -> None:
        """Raises `InvalidCondition` for what cannot be read; parameters and steps are taken as they are named."""
        _, reads = resolve(parse(source), None)
        self.source = source
        self.reads_item = bool(reads.item)
        self.item_paths = minimal(reads.item)
        """The parts of the item that are read."""
        self.parameters = tuple(sorted(reads.parameters))
        """The parameters that it names."""
        self.reads_state = bool(reads.states)
        """Whether it reads the state of a step."""
        self.output_paths: dict[str, tuple[Path, ...]] = {
            step: minimal(paths) for step, paths in sorted(reads.outputs.items())
        }
        """By step, the parts of its output that are read; `((),)` is the whole."""
        self.steps = frozenset(reads.states | reads.outputs.keys())
        """The steps that it names."""
        self._run: Run | None = None
        self._slots = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"Condition({self.source!r})"

    def evaluate(
        self, params: dict[str, Json], steps: dict[str, dict[str, Json]], item: Json | _NoItem = NO_ITEM
    ) -> bool:
        """The answer for the values of a run. `steps` has for every name in `self.steps` an object with `state` (the
        state's name) and `output` (None unless COMPLETED; at least the parts of `output_paths`).

        Raises `ConditionError`: a member that is missing, an operation that is not for such values, a division by
        zero, a result that is no boolean, an expression that takes too long. The same values give the same answer.
        """
        if self._run is None:
            tree, _ = resolve(parse(self.source), None)
            self._run, self._slots = build(tree, self.source)
        if item is NO_ITEM and self.reads_item:
            raise ConditionError("the condition reads the item, and there is none")
        try:
            answer = self._run(Frame(params, steps, item, self._slots))
        except OutOfBudget:
            raise ConditionError("the condition takes too long: its lists or texts are too large") from None
        except RecursionError:
            raise ConditionError("the condition compares values that are nested too deeply") from None
        if answer is True or answer is False:
            return bool(answer)
        raise ConditionError(f"the condition gives {kind_of(answer).value}, not true or false")


def minimal(paths: set[Path] | frozenset[Path]) -> tuple[Path, ...]:
    """The paths that are not inside of others, sorted."""
    kept: list[Path] = []
    for path in sorted(paths):
        # Sorted, a path stands behind its prefixes, and everything inside of one is next to it.
        if not kept or path[: len(kept[-1])] != kept[-1]:
            kept.append(path)
    return tuple(kept)
