"""`@step`: a Python function as a step."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from penstock.authoring.calls import Call, graph_for_map
from penstock.authoring.compensation import Compensation, wanted_of
from penstock.authoring.graph import FunctionTarget, Graph, current_graph
from penstock.authoring.options import StepKeywords, StepOptions, read_options
from penstock.authoring.other_words import OF_STEPS, unknown_member
from penstock.authoring.references import NodeOutput
from penstock.errors import DefinitionError
from penstock.names import check_name

P = ParamSpec("P")
R = TypeVar("R")


class Step(Generic[P, R]):
    """A function that pipelines can use as a step.

    Outside a pipeline a call is the plain function's call. In the body of a pipeline a call adds a node and
    returns its output as a reference.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, R]

    def __init__(self, function: Callable[P, R], options: StepOptions, base_name: str | None = None) -> None:
        functools.update_wrapper(self, function)
        self.penstock_function = function
        self.penstock_options = options
        self.penstock_name = base_name or function.__name__

    def __repr__(self) -> str:
        return f"<step {self.penstock_name}>"

    if not TYPE_CHECKING:  # type checkers know that there is nothing else

        def __getattr__(self, name):
            raise unknown_member(self, name, OF_STEPS)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        graph = current_graph()
        if graph is None:
            return self.penstock_function(*args, **kwargs)
        return cast("R", self._add(graph, args, kwargs))

    def options(self, **overrides: Unpack[StepKeywords]) -> Step[P, R]:
        """The same step with other options; each one given replaces the former value of that option."""
        changed = read_options(self.penstock_options, overrides)
        return Step(self.penstock_function, changed, self.penstock_name)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """In a pipeline: one step run per item of a list; the output is the list of outputs in item order.

        An argument that is a list, a parameter or the output of a step is mapped over, all others are the same for
        every item; a list, an output or a parameter that may be a list is wrapped in `unmapped` for that. Over several
        lists there is a step run for every combination, the last list running fastest.

        The output of a mapped step is gone through item by item: each begins when that item is done. `joined` waits for
        all of it, `nested` goes into the lists that its items give. `.options(max_parallel=4)` bounds how many items
        are under way at once.
        """
        return self._add_map(args, kwargs, zipped=False)

    def zip(self, *args: Any, **kwargs: Any) -> Any:
        """As `map` over several lists, but the first members go together, then the second ones, as in Python's `zip`.
        The step fails if the lists have different lengths."""
        return self._add_map(args, kwargs, zipped=True)

    def penstock_compensation(self) -> Compensation:
        """As a step that undoes another one."""
        name = check_name(self.penstock_options.name or self.penstock_name, "name")
        wanted = wanted_of(inspect.signature(self.penstock_function), name)
        return Compensation(self._target(), self.penstock_options, name, wanted)

    def _add(self, graph: Graph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NodeOutput:
        return self._call(args, kwargs).add(graph)

    def _add_map(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, zipped: bool) -> NodeOutput:
        graph = graph_for_map(f"{self!r}.{'zip' if zipped else 'map'}")
        return self._mapped_call(args, kwargs).add_map(graph, zipped=zipped)

    def _mapped_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        bound = self._bind(args, kwargs)
        return Call(self._target(), self.penstock_options, check_name(self.penstock_name, "name"), bound)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments by name: a step's inputs are keyword arguments."""
        signature = inspect.signature(self.penstock_function)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise DefinitionError(
                str(error), field=self.penstock_name, remedy=f"call it as {self.penstock_name}{signature}"
            ) from None
        inputs: dict[str, Any] = {}
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                inputs.update(value)
            elif kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
                raise DefinitionError(
                    f"the argument {name} can only be given by position",
                    field=f"{self.penstock_name}.{name}",
                    remedy="inputs are passed by name: take '*' and '/' out of the step's signature",
                )
            else:
                inputs[name] = value
        return inputs

    def _target(self) -> FunctionTarget:
        qualname = self.penstock_function.__qualname__
        if "<" in qualname:
            raise DefinitionError(
                f"{qualname} is defined inside a function",
                field=self.penstock_name,
                remedy="define the step with def at the top of a module, where an agent can import it",
            )
        return FunctionTarget(self.penstock_function)


@overload
def step(function: Callable[P, R], /) -> Step[P, R]: ...
@overload
def step(**options: Unpack[StepKeywords]) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(function: Callable[..., Any] | None = None, /, **options: Unpack[StepKeywords]) -> Any:
    """Makes a function a step, with or without options.

    `retries=2` is short for `retry=Retry(max_attempts=3)`: two more executions after the first. Spans of time
    (`timeout` of one attempt, `queued_timeout`, `overall_timeout`) are seconds, a timedelta, or a text such as
    "5m"; `memory` is bytes or a text such as "2GiB"; `when` is a CEL expression. `compensate` is the step that undoes
    this one when a run is rolled back: it gets those of this step's inputs that it has arguments for, and `output`.
    """
    checked = read_options(StepOptions(), options)

    def decorate(target: Callable[..., Any]) -> Step[..., Any]:
        if isinstance(target, Step):
            raise DefinitionError(f"{target!r} is a step already", remedy="use .options(...) to change it")
        if not inspect.isroutine(target):
            raise DefinitionError(f"{target!r} is no function", remedy="put @step on a def")
        # The decorator's name is the base of the names of all calls; only `.options(name=...)` is exact.
        return Step(target, replace(checked, name=None), checked.name)

    return decorate if function is None else decorate(function)
