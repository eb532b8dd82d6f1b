"""`@step_kind`: functions that are used by the name of a kind and a `config`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, Unpack

from penstock.authoring.calls import Call, graph_for
from penstock.authoring.graph import current_graph
from penstock.authoring.options import StepKeywords, StepOptions, read_options
from penstock.authoring.references import unmapped
from penstock.authoring.steps import Step
from penstock.authoring.typed_values import TypedValue
from penstock.errors import DefinitionError
from penstock.json_values import Json, plain_json
from penstock.names import check_name, nearest

P = ParamSpec("P")
R = TypeVar("R")

CONFIG = "config"
_PLAIN = (inspect.Parameter.empty, Any, object, dict, Mapping)

# Several modules may use one name for kinds of their own; it is ambiguous only to who asks by that name.
_registered: dict[str, dict[tuple[str, str], StepKind[..., Any]]] = {}


class StepKind(Step[P, R]):
    """A step whose argument `config` is a constant, checked by its annotation where the pipeline is defined.

    In the specification it is JSON; the function gets the annotated type again, also on an agent.
    """

    def __init__(self, function: Callable[P, R], options: StepOptions, kind: str, base_name: str | None = None) -> None:
        super().__init__(function, options, base_name or kind)
        self.kind = kind

    def __repr__(self) -> str:
        return f"<step kind {self.kind}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        if current_graph() is not None:
            return super().__call__(*args, **kwargs)
        bound = inspect.signature(self.penstock_function).bind(*args, **kwargs)
        if CONFIG in bound.arguments:
            bound.arguments[CONFIG] = self.read_config(bound.arguments[CONFIG])
        return self.penstock_function(*bound.args, **bound.kwargs)

    def options(self, **overrides: Unpack[StepKeywords]) -> StepKind[P, R]:
        changed = read_options(self.penstock_options, overrides)
        return StepKind(self.penstock_function, changed, self.kind, self.penstock_name)

    @property
    def takes_config(self) -> bool:
        return CONFIG in inspect.signature(self.penstock_function).parameters

    def read_config(self, value: Any, field: str = "") -> Any:
        """What the function gets for `value`. DefinitionError names `field` and the member that does not fit."""
        typed = self._config
        field = field or f"{self.kind}.{CONFIG}"
        if typed is not None:
            return (
                TypedValue(typed.annotation, field).of_value(value) if field != typed.field else typed.of_value(value)
            )
        if not isinstance(value, Mapping):
            raise DefinitionError(f"{value!r} is no config", field=field, remedy="give a dict")
        return value

    def config_json(self, value: Any) -> Json:
        """What stands in the specification for a config."""
        read = self.read_config(value)
        if self._config is None:
            return plain_json(read, f"{self.kind}.{CONFIG}", DefinitionError)
        return self._config.to_json(read)

    @functools.cached_property
    def _config(self) -> TypedValue | None:
        """None: any dict will do."""
        if not self.takes_config:
            raise DefinitionError(
                "the kind takes no config",
                field=self.kind,
                remedy="give its function an argument `config`, or leave it out",
            )
        try:
            signature = inspect.signature(self.penstock_function, eval_str=True)
        except Exception as error:
            raise DefinitionError(
                f"an annotation cannot be read: {error}", field=self.kind, remedy="use types that the module has"
            ) from error
        annotation = signature.parameters[CONFIG].annotation
        plain = annotation in _PLAIN or getattr(annotation, "__origin__", None) in (dict, Mapping)
        return None if plain else TypedValue(annotation, f"{self.kind}.{CONFIG}")

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        bound = super()._bind(args, kwargs)
        if CONFIG in bound and self.takes_config:
            bound[CONFIG] = self.config_json(bound[CONFIG])
        return bound

    def _mapped_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """The config is no list to go through, also where a list stands for it in JSON."""
        call = super()._mapped_call(args, kwargs)
        if not (self.takes_config and CONFIG in call.arguments):
            return call
        return replace(call, arguments={**call.arguments, CONFIG: unmapped(call.arguments[CONFIG])})


def step_kind(kind: str, /, **options: Unpack[StepKeywords]) -> Callable[[Callable[P, R]], StepKind[P, R]]:
    """Registers a function as a kind of step, for `stage(kind, …)` and for `type: kind` in YAML.

    Its argument `config` (annotated with a dataclass, a pydantic model, or a dict) is what a definition says of the
    stage; its other arguments are the data of upstream steps. It is a step like any other besides.
    """
    checked = read_options(StepOptions(), options)
    check_name(kind, "kind")

    def decorate(function: Callable[P, R]) -> StepKind[P, R]:
        if isinstance(function, Step) or not inspect.isroutine(function):
            raise DefinitionError(f"{function!r} is no plain function", remedy="put @step_kind alone on a def")
        made: StepKind[P, R] = StepKind(function, replace(checked, name=None), kind, checked.name)
        _registered.setdefault(kind, {})[function.__module__, function.__qualname__] = made
        return made

    return decorate


class Stages:
    """`stage`: adds steps of registered kinds to the pipeline whose body is running."""

    def __repr__(self) -> str:
        return "<stage>"

    def __call__(self, kind: str, /, *, name: str | None = None, config: Any = None, **inputs: Any) -> Any:
        """Adds a step of a registered kind; returns its output.

        `inputs` are the other arguments of the kind's function: outputs of steps, parameters and constants. Without a
        `config` the function's own default counts.
        """
        return _stage("", kind, name, 0)(**_arguments(config, inputs))

    def map(
        self, kind: str, /, *, name: str | None = None, config: Any = None, max_parallel: int = 0, **inputs: Any
    ) -> Any:
        """Adds a step of a registered kind that is run for each item of a list; returns the list of their outputs.

        Which of `inputs` are lists to go through is as for the arguments of `Step.map`; `config` is the same for
        every item. `max_parallel` bounds how many items are under way at once.
        """
        return _stage("map", kind, name, max_parallel).map(**_arguments(config, inputs))

    def zip(
        self, kind: str, /, *, name: str | None = None, config: Any = None, max_parallel: int = 0, **inputs: Any
    ) -> Any:
        """As `map` over several lists, but the first members go together, then the second ones."""
        return _stage("zip", kind, name, max_parallel).zip(**_arguments(config, inputs))


stage = Stages()


def _stage(verb: str, kind: str, name: str | None, max_parallel: int) -> Step[..., Any]:
    """The step that the call is one of."""
    found = _kind(kind)
    graph_for(f"stage{verb and '.' + verb}(...)", name or kind)
    options: StepKeywords = {}
    if name is not None:
        options["name"] = name
    if max_parallel:
        options["max_parallel"] = max_parallel
    return found.options(**options) if options else found


def _arguments(config: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    return inputs if config is None else {**inputs, CONFIG: config}


def _kind(name: str) -> StepKind[..., Any]:
    known = _registered.get(name, {})
    if len(known) == 1:
        return next(iter(known.values()))
    if known:
        places = ", ".join(sorted(f"{module}:{qualname}" for module, qualname in known))
        raise DefinitionError(f"several functions are of the kind {name!r}: {places}", field=name, remedy="rename one")
    remedy = nearest(name, _registered) if _registered else "import the module that has @step_kind"
    raise DefinitionError(f"there is no kind {name!r}", field=name, remedy=remedy)
