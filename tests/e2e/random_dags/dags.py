"""What the generator makes and the evaluator reads: pipelines of our own form, without a word of the system's code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = Any
Expression: TypeAlias = tuple[Any, ...]
"""A condition: see conditions.py."""


@dataclass(frozen=True)
class Source:
    """Where a value comes from: `value`, `parameter`, `step` or `item`."""

    kind: str
    name: str = ""
    path: tuple[str, ...] = ()
    value: Json = None


@dataclass(frozen=True)
class Map:
    """`list` over one source; `follow`, `nested` and `joined` over a mapped step; `product` and `zip` over several."""

    kind: str
    sources: tuple[Source, ...]
    names: tuple[str, ...] = ()
    max_parallel: int = 0

    @property
    def followed(self) -> str | None:
        return self.sources[0].name if self.kind in ("follow", "nested") else None


@dataclass(frozen=True)
class Retry:
    max_attempts: int = 1
    retry_on: tuple[str, ...] = ()
    never_retry_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Behaviour:
    """Outcomes by place and attempt (see behaving.py), and what is given in the end. A command knows no places."""

    by_place: tuple[tuple[str, ...], ...] = (("ok",),)
    gives: str = "digest"
    constant: Json = None
    command: bool = False


@dataclass(frozen=True)
class Step:
    name: str
    action: Behaviour | str
    """A text is the name of the child pipeline that the step is a run of."""
    inputs: dict[str, Source] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    rule: str = "all_success"
    when: Expression | None = None
    map: Map | None = None
    retry: Retry = Retry()
    allow_failure: bool = False
    cleanup: bool = False
    attempt_timeout: float | None = None

    @property
    def upstream(self) -> tuple[str, ...]:
        """Each once."""
        sources = (*self.inputs.values(), *(self.map.sources if self.map else ()))
        names = [*self.depends_on, *(each.name for each in sources if each.kind == "step")]
        return tuple(dict.fromkeys(names))

    @property
    def names_followed_elsewhere(self) -> bool:
        """It waits for the whole of the step that it follows."""
        followed = self.map.followed if self.map else None
        inputs = {each.name for each in self.inputs.values() if each.kind == "step"}
        return followed is not None and followed in {*self.depends_on, *inputs, *steps_read(self.when)}


def steps_read(expression: Expression | None) -> set[str]:
    if expression is None:
        return set()
    found = {expression[1]} if expression[0] in ("state", "output", "has") else set()
    return found.union(*(steps_read(each) for each in expression if isinstance(each, tuple)))


def reads_item(expression: Expression | None) -> bool:
    if expression is None:
        return False
    return expression[0] == "item" or any(reads_item(each) for each in expression if isinstance(each, tuple))


@dataclass(frozen=True)
class Dag:
    name: str
    steps: tuple[Step, ...]
    """Every step after its upstream."""
    parameters: dict[str, Json]
    """With the values for the run; those of a child are defaults."""
    output: Source | None = None
    outputs: dict[str, Source] = field(default_factory=dict)
    max_parallel: int = 0
    fail_fast: bool = False
    fate: str = "plain"
    """What people do to the run: plain, pause, retry, fail_fast, cancel, cancel_now, cancel_and_retry."""

    def step(self, name: str) -> Step:
        return next(each for each in self.steps if each.name == name)
