"""Steps that undo others, as `compensate=` gives them: their arguments are found by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from penstock.errors import DefinitionError
from penstock.names import LONGEST_NAME

if TYPE_CHECKING:
    from penstock.authoring.graph import Target
    from penstock.authoring.options import StepOptions

OUTPUT = "output"
"""The argument that gets what the step gave that is undone."""
_OWN_WAY = ("depends_on", "when", "trigger_rule", "cleanup", "compensate", "max_parallel")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An argument that can be given by name."""

    name: str
    required: bool


@dataclass(frozen=True, slots=True)
class Compensation:
    """What is to run, what it is called in errors, and which arguments it takes."""

    target: Target
    options: StepOptions
    name: str
    wanted: tuple[Wanted, ...]


@runtime_checkable
class Compensating(Protocol):
    """A step, or a pipeline as one: what may be given as `compensate=`."""

    def penstock_compensation(self) -> Compensation: ...


def read_compensate(value: Any, field: str) -> Compensating:
    if not isinstance(value, Compensating) or isinstance(value, type):
        raise DefinitionError(
            f"{value!r} is no step",
            field=field,
            remedy="give a function with @step, or a pipeline; for a command call it and use OUTPUT.compensate(...)",
        )
    return value


def wanted_of(signature: inspect.Signature, field: str) -> tuple[Wanted, ...]:
    """The arguments of a function, in their order."""
    found = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
            raise DefinitionError(
                f"the argument {parameter.name} can only be given by position",
                field=f"{field}.{parameter.name}",
                remedy="inputs are passed by name: take '*' and '/' out of the step's signature",
            )
        found.append(Wanted(parameter.name, parameter.default is inspect.Parameter.empty))
    return tuple(found)


def own_options(options: StepOptions, field: str) -> StepOptions:
    """Those of a step that undoes another one: nothing in them says when it runs. A name that is not exact."""
    for name in _OWN_WAY:
        if getattr(options, name) not in (None, ()):
            raise DefinitionError(
                "the step undoes another one, and runs when the run is rolled back",
                field=f"{field}.{name}",
                remedy=f"leave {name} out",
            )
    return replace(options, name=None)


def undo_name(step: str) -> str:
    """Of what undoes the step, unless it says a name of its own; as in YAML."""
    return f"undo_{step}"[:LONGEST_NAME]


def chosen(wanted: Iterable[Wanted], inputs: Mapping[str, Any], output: Any, step: str, name: str) -> dict[str, Any]:
    """The sources of the arguments: the output of the step that is undone, and its inputs of the same names."""
    found: dict[str, Any] = {}
    for argument in wanted:
        if argument.name == OUTPUT:
            found[OUTPUT] = output
        elif argument.name in inputs:
            found[argument.name] = inputs[argument.name]
        elif argument.required:
            known = ", ".join([*sorted(inputs), OUTPUT])
            raise DefinitionError(
                f"{name} needs the argument {argument.name!r}, and the step {step!r}, which it undoes, has none",
                field=f"steps.{step}.compensate",
                remedy=f"use the names that there are ({known}), give it a default,"
                " or call it yourself and use OUTPUT.compensate(...)",
            )
    return found
