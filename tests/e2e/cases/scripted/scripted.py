"""Steps that do what a script says, and write down when they did. Shipped to the agents as a bundle.

A script that says something unknown ends the step with `UnknownScript`, which no case expects.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

from penstock import context


class UnknownScript(BaseException):
    """Not an Exception, so that no script takes it for the failure that it asks for."""


class ScriptedError(Exception):
    """What `fail` raises."""


class OtherError(ScriptedError):
    """For retry policies that choose."""


ERRORS: dict[str, type[Exception]] = {
    each.__name__: each for each in (ScriptedError, OtherError, ValueError, KeyError, LookupError, TypeError, OSError)
}


class Scene:
    """What one attempt can refer to: parameters, outputs of other steps, its item."""

    def __init__(self, script: dict[str, Any], ledger: str, item: Any, inputs: dict[str, Any]) -> None:
        self.ledger = ledger
        self.parameters = {name: inputs[key] for name, key in script["parameters"].items()}
        self.outputs = {name: inputs[key] for name, key in script["outputs"].items()}
        self.item = item


def perform(script: dict[str, Any], ledger: str, item: Any = None, **inputs: Any) -> Any:
    write(ledger, "start")
    try:
        return act(script["do"], Scene(script, ledger, item, inputs))
    finally:
        write(ledger, "end")


def write(ledger: str, what: str) -> None:
    """One line, in one append: lines of several processes do not mix."""
    here = context.current()
    line = [here.run_id, here.step, here.item, here.attempt, what, time.monotonic_ns()]
    descriptor = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(descriptor, json.dumps(line).encode() + b"\n")
    finally:
        os.close(descriptor)


def act(do: Any, scene: Scene) -> Any:
    match do:
        case "ok":
            return None
        case "fail":
            raise ScriptedError("as the script says")
        case {"fail": str(name), **rest} if not rest and name in ERRORS:
            raise ERRORS[name]("as the script says")
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
            return None
        case {"outcomes": [*outcomes], **rest} if not rest and outcomes:
            return act(outcomes[min(context.current().attempt, len(outcomes)) - 1], scene)
        case {"sleep_s": int() | float() as seconds, **rest} if rest.keys() <= {"then"}:
            threading.Event().wait(seconds)
            return act(rest.get("then", "ok"), scene)
        case {"sleep_s": {"item": True}, **rest} if rest.keys() <= {"then"}:
            threading.Event().wait(scene.item)
            return act(rest.get("then", "ok"), scene)
        case {"wait_for": [*names], **rest} if rest.keys() <= {"then"}:
            wait_for(names, scene.ledger)
            return act(rest.get("then", "ok"), scene)
        case {"meet": [*names], "then": then, **rest} if not rest:
            meet(names, scene.ledger)
            return act(then, scene)
        case {"by_item": dict(choices), **rest} if not rest:
            return act(choices.get(json.dumps(scene.item), choices.get("else", "ok")), scene)
        case {"output": said, **rest} if not rest:
            return value_of(said, scene)
    raise UnknownScript(f"nobody taught the steps to do {do!r}")


def wait_for(names: list[str], ledger: str) -> None:
    """Until all of them have ended; ends the step if they do not, because they wait for it."""
    pause = threading.Event()
    for _ in range(6_000):
        ended = those_that_said("end", ledger)
        if ended.issuperset(names):
            return
        pause.wait(0.01)
    raise ScriptedError(f"of {names} only {ended} have ended")


def meet(names: list[str], ledger: str) -> None:
    """Until all of them have begun. If they do not for long, because they wait for this one's end, it goes on."""
    pause = threading.Event()
    for _ in range(2_000):
        if those_that_said("start", ledger).issuperset(names):
            return
        pause.wait(0.01)


def those_that_said(word: str, ledger: str) -> set[str]:
    """The steps and items of this run."""
    run_id = context.current().run_id
    with Path(ledger).open() as lines:
        said = [json.loads(line) for line in lines]
    return {
        step if item is None else f"{step}[{item}]"
        for run, step, item, _, what, _ in said
        if (run, what) == (run_id, word)
    }


def value_of(said: Any, scene: Scene) -> Any:
    match said:
        case {"format": str(text), **rest} if not rest:
            return re.sub(r"\{([^{}]*)\}", lambda found: text_of(named(found[1], scene)), text)
        case {"pick": str(method), "from": [*sources], **rest} if not rest:
            return picked(method, [source_of(each, scene) for each in sources])
        case {"len": str(step), **rest} if not rest:
            return len(scene.outputs[step])
        case {"sum": str(step), **rest} if not rest:
            return sum(each for each in scene.outputs[step] if each is not None)
        case {"json": str(text), **rest} if not rest:
            return json.loads(text)
        case {"const": value, **rest} if not rest:
            return value
        case {"param": str(name), **rest} if not rest:
            return scene.parameters[name]
        case {"from": str(step), **rest} if not rest:
            return scene.outputs[step]
        case {"item": True, **rest} if not rest:
            return scene.item
        case dict() if said.keys() & {"format", "pick", "from", "len", "sum", "json", "const", "param", "item"}:
            raise UnknownScript(f"nobody taught the steps to put out {said!r}")
    return said


def source_of(source: Any, scene: Scene) -> Any:
    return scene.outputs[source] if isinstance(source, str) else value_of(source, scene)


def picked(method: str, values: list[Any]) -> Any:
    there = [each for each in values if each is not None]
    if method == "all_non_null":
        return there
    if method not in ("first_non_null", "the_only_non_null"):
        raise UnknownScript(f"nobody taught the steps to pick {method!r}")
    if not there or (method == "the_only_non_null" and len(there) > 1):
        raise ScriptedError(f"{method}: there are {len(there)} values that are not null")
    return there[0]


def named(name: str, scene: Scene) -> Any:
    kind, _, rest = name.partition(":")
    if kind == "param":
        return scene.parameters[rest]
    if kind in ("output", "step"):
        return scene.outputs[rest]
    if name == "item":
        return scene.item
    if name == "attempt":
        return context.current().attempt
    raise UnknownScript(f"nobody taught the steps to put {name!r} into a text")


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def carry(ledger: str, seconds: float, size: int, sizes: dict[str, int], **upstream: str) -> str:
    """A node of a graph: it takes what its upstream put out, and puts out a text of the given size."""
    write(ledger, "start")
    try:
        found = {name: len(text) for name, text in upstream.items()}
        if found != sizes:
            raise ValueError(f"the inputs have the sizes {found}, not {sizes}")
        threading.Event().wait(seconds)
        return "x" * size
    finally:
        write(ledger, "end")
