"""`@template`: a Python function that builds a pipeline, with arguments for the structure of its graph."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, NoReturn, ParamSpec

from penstock.authoring.graph import Graph, draw
from penstock.authoring.pipelines import Pipeline, TemplateUse
from penstock.authoring.typed_values import TypedValue
from penstock.errors import DefinitionError
from penstock.json_values import Json
from penstock.names import check_name, nearest

P = ParamSpec("P")

_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class _TemplateBody(Graph):
    """Stands where no step may be added: without it a step called here would be run as a plain function."""

    def add(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        raise DefinitionError(
            "a step is called in the body of the template itself",
            field=self.pipeline,
            remedy="call steps in a function with @pipeline inside the template, and return that function",
        )

    def source(self, *_args: Any, **_kwargs: Any) -> NoReturn:
        self.add()


class Template(Generic[P]):
    """A function that returns a pipeline. A call checks the arguments by their annotations and returns the pipeline.

    The arguments are kept in the pipeline's specification.
    """

    __name__: str
    __wrapped__: Callable[..., Pipeline]

    def __init__(self, function: Callable[P, Any]) -> None:
        functools.update_wrapper(self, function)
        self.function: Callable[..., Any] = function
        self.name = check_name(function.__name__, "name")
        self._names = _read_names(function, self.name)

    def __repr__(self) -> str:
        return f"<template {self.name}>"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Pipeline:
        """The pipeline for these arguments. DefinitionError names an argument that is missing, unknown or ill-typed."""
        given = self._by_name(args, kwargs)
        return self._build({name: self._typed(name).of_value(value) for name, value in given.items()})

    def from_texts(self, texts: Mapping[str, str]) -> Pipeline:
        """A call with what a command line gives: a text where the annotation takes one, else JSON."""
        self._check_known(texts)
        return self._build({name: self._typed(name).of_text(text) for name, text in texts.items()})

    def _by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        signature = inspect.signature(self.function)
        positional = [each.name for each in signature.parameters.values() if each.kind is _KINDS[0]]
        if len(args) > len(positional):
            raise self._error("", f"{len(args)} arguments are given by position", f"call it as {self.name}{signature}")
        given = dict(zip(positional, args, strict=False))
        for name in given.keys() & kwargs.keys():
            raise self._error(name, "the argument is given twice", "give it once")
        self._check_known(kwargs)
        return given | kwargs

    def _check_known(self, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in self._names:
                raise self._error(name, "the template has no such argument", nearest(name, self._names))

    def _build(self, given: dict[str, Any]) -> Pipeline:
        """`given` is checked; what is left out has its default, which is checked here."""
        arguments: dict[str, Any] = {}
        recorded: dict[str, Json] = {}
        for name, parameter in inspect.signature(self.function).parameters.items():
            typed = self._typed(name)
            if name in given:
                arguments[name] = given[name]
            elif parameter.default is inspect.Parameter.empty:
                raise self._error(
                    name, "the argument is missing and has no default", f"give {name}=..., or --set {name}=VALUE"
                )
            else:
                arguments[name] = typed.of_value(copy.deepcopy(parameter.default))
            recorded[name] = typed.to_json(arguments[name])
        return self._made(draw(_TemplateBody(self.name), lambda: self.function(**arguments)), recorded)

    def _made(self, pipeline: Any, arguments: dict[str, Json]) -> Pipeline:
        if not isinstance(pipeline, Pipeline):
            raise self._error(
                "", f"the template returned {pipeline!r}, no pipeline", "return the function that has @pipeline"
            )
        made = copy.copy(pipeline)
        made.template = TemplateUse(self.name, arguments)
        return made

    def _typed(self, name: str) -> TypedValue:
        return TypedValue(self._annotation(name), f"{self.name}.{name}")

    def _annotation(self, name: str) -> Any:
        try:
            annotation = inspect.signature(self.function, eval_str=True).parameters[name].annotation
        except Exception as error:
            raise self._error(name, f"the annotation cannot be read: {error}", "use plain types") from error
        return Any if annotation is inspect.Parameter.empty else annotation

    def _error(self, argument: str, message: str, remedy: str) -> DefinitionError:
        field = f"{self.name}.{argument}" if argument else self.name
        return DefinitionError(message, field=field, remedy=remedy)


def template(function: Callable[P, Pipeline], /) -> Template[P]:
    """Makes a function that returns a pipeline a template: its arguments shape the graph.

    Arguments are annotated (any type that pydantic checks; without an annotation any JSON value) and are plain
    values in the body: loops and conditions over them are ordinary Python. The same arguments must give the same
    pipeline.
    """
    if not inspect.isfunction(function):
        raise DefinitionError(f"{function!r} is no function", remedy="put @template on a def that returns a pipeline")
    return Template(function)


def _read_names(function: Callable[..., Any], template_name: str) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        field = f"{template_name}.{parameter.name}"
        if parameter.kind not in _KINDS:
            raise DefinitionError(
                f"{parameter} is no argument with a name of its own", field=field, remedy="name each argument"
            )
    return [parameter.name for parameter in parameters]
