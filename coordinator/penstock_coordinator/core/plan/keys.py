"""Keys of concurrency limits: a text, or an expression in CEL over the parameters of a run that gives one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from penstock_coordinator.core.plan.cel.cost import check_cost
from penstock_coordinator.core.plan.cel.errors import ConditionError, InvalidCondition
from penstock_coordinator.core.plan.cel.evaluation import build
from penstock_coordinator.core.plan.cel.frame import Frame, OutOfBudget, Run
from penstock_coordinator.core.plan.cel.functions import Kind, kind_of
from penstock_coordinator.core.plan.cel.kinds import check_kinds
from penstock_coordinator.core.plan.cel.names import Scope, resolve
from penstock_coordinator.core.plan.cel.syntax import parse
from penstock_coordinator.core.plan.model import Concurrency, Json, Plan
from penstock_coordinator.core.plan.naming import quoted

MAX_KEY = 256
"""Characters."""
PIPELINE_PREFIX = "pipeline:"
"""Keys of our own begin with it: "pipeline:<name>" is that of `max_active_runs`."""
BUDGET_SUFFIX = " (budget)"
"""Of the key "pipeline:<name> (budget)", by which runs wait for the budget of their pipeline."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class InvalidKey(Exception):
    """The key of a run or of a step cannot be made of the parameters. `field` is its expression's place in the
    specification."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def key_fault(key: str) -> str | None:
    """What is wrong with the text of a key, and the remedy."""
    if not key:
        return "the key is empty: give it a text"
    if len(key) > MAX_KEY:
        return f"the key has {len(key):,} characters, past the limit of {MAX_KEY}: shorten it"
    if _CONTROL.search(key):
        return f"the key {quoted(key)} has a control character: use printable characters"
    if key != key.strip():
        return f"the key {quoted(key)} begins or ends with white space: remove it"
    if key.startswith(PIPELINE_PREFIX):
        return f"the key {quoted(key)} begins with {PIPELINE_PREFIX!r}, which is ours: choose another"
    return None


def check_expression(source: str, parameters: Mapping[str, int]) -> None:
    """`parameters` are types by name, numbered as in the proto. Raises `InvalidCondition`."""
    _, reads = resolve(parse(source), None)
    if reads.states or reads.outputs or reads.item:
        what = "the item" if reads.item else "steps"
        raise InvalidCondition(f"it reads {what}: a key is made of the parameters of the run (params) alone", 0)
    tree, _ = resolve(parse(source), Scope(parameters, (), (), False))
    check_kinds(tree, parameters, Kind.TEXT)
    check_cost(tree)


class KeyExpression:
    """A compiled expression. Equal sources are equal expressions."""

    __slots__ = ("_run", "_slots", "source")

    def __init__(self, source: str) -> None:
        """Raises `InvalidCondition` for what cannot be read."""
        resolve(parse(source), None)
        self.source = source
        self._run: Run | None = None
        self._slots = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyExpression) and other.source == self.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"KeyExpression({self.source!r})"

    def evaluate(self, params: dict[str, Json]) -> str:
        """The key for the parameters of a run. The same parameters give the same key. Raises `ConditionError`."""
        if self._run is None:
            tree, _ = resolve(parse(self.source), None)
            self._run, self._slots = build(tree, self.source)
        try:
            key = self._run(Frame(params, {}, None, self._slots))
        except OutOfBudget:
            raise ConditionError("the expression takes too long: its lists or texts are too large") from None
        except RecursionError:
            raise ConditionError("the expression compares values that are nested too deeply") from None
        if not isinstance(key, str):
            raise ConditionError(f"the expression gives {kind_of(key).value}, not a text: use string(...)")
        fault = key_fault(key)
        if fault is not None:
            raise ConditionError(fault)
        return key


def key_of(concurrency: Concurrency, params: dict[str, Json]) -> str:
    """Raises `ConditionError`."""
    key = concurrency.key
    return key if isinstance(key, str) else key.evaluate(params)


def key_or_source(concurrency: Concurrency, params: dict[str, Json]) -> str:
    """The key for a run whose keys were checked. If all the same it cannot be made, the expression itself
    is the key: rather too few at once than too many."""
    try:
        return key_of(concurrency, params)
    except ConditionError:
        return str(concurrency.key)


def check_keys(plan: Plan, params: dict[str, Json]) -> None:
    """Whether all keys of a run with these parameters can be made. Raises `InvalidKey`."""
    if plan.concurrency is not None:
        _check(plan.concurrency, "concurrency", params)
    for position, concurrency in plan.limited.items():
        if not isinstance(concurrency.key, str):
            number = next(step.number for step in plan.steps if step.line == position)
            _check(concurrency, f"steps[{number}].concurrency", params)


def _check(concurrency: Concurrency, field: str, params: dict[str, Json]) -> None:
    try:
        key_of(concurrency, params)
    except ConditionError as error:
        raise InvalidKey(f"{field}.key_expression", str(error)) from None


def has_expressions(plan: Plan) -> bool:
    """Whether some key depends on the parameters."""
    found = [*plan.limited.values(), *([plan.concurrency] if plan.concurrency is not None else [])]
    return any(not isinstance(each.key, str) for each in found)
