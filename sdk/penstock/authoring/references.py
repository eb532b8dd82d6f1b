"""References: what stands for a value while a pipeline is built, when no step has run yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from penstock.errors import DefinitionError, ReferenceUseError
from penstock.parameters import ParameterType

if TYPE_CHECKING:
    from penstock.authoring.graph import Node

_REMEDY = (
    "pass it to a step and use the value there; for one step run per item use step.map(...), "
    'for a condition use when="..."'
)


class Reference:
    """The base of `ParameterReference` and `NodeOutput`. Has no value to look at."""

    __slots__ = ()

    def _refuse(self, what: str) -> NoReturn:
        raise ReferenceUseError(f"{self!r} has no value while the pipeline is built, so it {what}", remedy=_REMEDY)

    def __bool__(self) -> bool:
        self._refuse("cannot be true or false")

    def __len__(self) -> int:
        self._refuse("has no length")

    def __iter__(self) -> NoReturn:
        self._refuse("cannot be iterated over")

    def __contains__(self, _value: object) -> bool:
        self._refuse("cannot be searched")

    def __str__(self) -> str:
        self._refuse("cannot be made into text")

    def __format__(self, _format: str) -> str:
        self._refuse("cannot be made into text")

    def __int__(self) -> int:
        self._refuse("cannot be made into a number")

    def __float__(self) -> float:
        self._refuse("cannot be made into a number")

    def __index__(self) -> int:
        self._refuse("cannot be made into a number")

    def __call__(self, *_args: object, **_kwargs: object) -> NoReturn:
        self._refuse("cannot be called")

    def __rshift__(self, _other: object) -> NoReturn:
        raise ReferenceUseError(f"{self!r} is put in order with >> or <<", remedy="write later.after(earlier)")

    __lshift__ = __rrshift__ = __rlshift__ = __rshift__

    # Identity is all that equality could mean here, and `if n == 3` would silently be False.
    def __eq__(self, _other: object) -> bool:
        self._refuse("cannot be compared")

    __hash__ = object.__hash__


def _refuse_operator(name: str) -> None:
    def refuse(self: Reference, *_others: object) -> NoReturn:
        self._refuse("cannot be compared or calculated with")

    setattr(Reference, name, refuse)


for _operator in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul", "and", "or", "xor"):
    _refuse_operator(f"__{_operator}__")
    _refuse_operator(f"__r{_operator}__")
for _operator in ("lt", "le", "gt", "ge", "ne", "neg", "pos", "abs", "invert", "round"):
    _refuse_operator(f"__{_operator}__")


class ParameterReference(Reference):
    """A parameter of the pipeline, in the pipeline's body."""

    __slots__ = ("name", "type")

    def __init__(self, name: str, type_: ParameterType) -> None:
        self.name = name
        self.type = type_

    def __repr__(self) -> str:
        return f"<parameter {self.name}>"

    def __getitem__(self, _key: object) -> NoReturn:
        raise ReferenceUseError(
            f"{self!r} is passed whole", remedy="pass the parameter to a step and take the member there"
        )


class NodeOutput(Reference):
    """The output of a step, or the part of it that a path leads to.

    ``output["rows"][0]`` goes down into the output; whether the path exists is known when the step has run.
    """

    __slots__ = ("path", "penstock_node")

    def __init__(self, node: Node, path: tuple[str, ...] = ()) -> None:
        self.penstock_node = node
        self.path = path

    def __repr__(self) -> str:
        return f"<output of {self.penstock_node.name}{''.join(f'[{part!r}]' for part in self.path)}>"

    def __getitem__(self, key: Any) -> NodeOutput:
        if isinstance(key, str):
            return NodeOutput(self.penstock_node, (*self.path, key))
        if isinstance(key, bool) or not isinstance(key, int) or key < 0:
            raise ReferenceUseError(
                f"{key!r} leads nowhere in {self!r}", remedy="use a text key, or a position from 0 on"
            )
        return NodeOutput(self.penstock_node, (*self.path, str(key)))

    def compensate(self, undo: Any) -> NodeOutput:
        """Makes the step whose call returned `undo` the one that undoes this one: it runs when the run is rolled back,
        and at no other time. Its inputs may be parts of this output (of a mapped step: of that of the item), of what
        this step's inputs come from, parameters and constants. Returns the same output."""
        self.penstock_node.undo_by(self.penstock_node.graph.own(undo, f"steps.{self.penstock_node.name}.compensate"))
        return self

    def after(self, *others: Any) -> NodeOutput:
        """Makes the step wait for `others` (outputs or names of steps) too. Returns the same output."""
        self.penstock_node.wait_for(others)
        return self


class Unmapped:
    """A value that is the same for every item of a map."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        if isinstance(value, Unmapped):
            raise DefinitionError("unmapped(unmapped(...)) is given", remedy="wrap the value once")
        self.value = value


class Joined:
    """All outputs of a mapped step, as one list."""

    __slots__ = ("output",)

    def __init__(self, output: Any) -> None:
        self.output = _output(output, "joined")


class Nested:
    """The lists that the items of a mapped step give."""

    __slots__ = ("output",)

    def __init__(self, output: Any) -> None:
        self.output = _output(output, "nested")


def _output(value: Any, word: str) -> NodeOutput:
    if isinstance(value, NodeOutput):
        return value
    raise DefinitionError(
        f"{word}({type(value).__name__}) is given", remedy=f"{word}(...) takes what a mapped step returned"
    )


def joined(output: Any) -> Any:
    """In ``step.map(...)``, of a mapped step: waits for all of it and maps over the list of its outputs, null where an
    item failed or was skipped. Without it the map goes item by item."""
    return Joined(output)


def nested(output: Any) -> Any:
    """In ``step.map(...)``, of a mapped step whose items give lists: one step run for each member of each list, as soon
    as the item that gives it is done. ``nested(output["rows"])`` if the list is a part of each item's output."""
    return Nested(output)


def unmapped(value: Any) -> Any:
    """In ``step.map(...)``: passes `value` (a list or a reference) whole to every item."""
    return Unmapped(value)
