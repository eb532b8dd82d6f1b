"""The values that flow between steps: JSON as bytes on the outside, plain Python values inside.

Whole numbers keep all their digits. NaN and infinities are no JSON and are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import NoReturn

from penstock_coordinator.core.plan.limits import DEFAULT_RUN_LIMITS, RunLimits
from penstock_coordinator.core.plan.model import (
    FromItem,
    FromParameter,
    FromStep,
    FromUndone,
    FromValue,
    InputSource,
    Json,
    Path,
    Plan,
    Step,
)
from penstock_coordinator.core.plan.naming import quoted
from penstock_coordinator.core.plan.paths import NoSuchPath, follow
from penstock_coordinator.core.plan.references import BadReference, Reference, follow_through

__all__ = [
    "InvalidJson",
    "NoSuchPath",
    "UnresolvableInput",
    "check_size",
    "dump",
    "dump_again",
    "extract",
    "follow",
    "inputs_of",
    "keep",
    "length_in",
    "length_of",
    "parse",
    "rebuild",
]

NULL = b"null"
_ITEM = -1


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


_decode = json.JSONDecoder(parse_constant=_no_number).decode
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class InvalidJson(ValueError):
    """The bytes are no JSON."""


class UnresolvableInput(Exception):
    """An input of a step cannot be had: the step fails with the reason "Input" and this message."""


def parse(data: bytes) -> Json:
    """Raises `InvalidJson`, also for NaN and for values nested too deeply to be read."""
    try:
        return _decode(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"not valid JSON: {str(error)[:200]}") from None


def dump(value: Json) -> bytes:
    """Compact ASCII. Members keep their order. Raises `ValueError` for NaN and infinities."""
    return _encode(value).encode("ascii")


def check_size(what: str, size: int, limits: RunLimits) -> None:
    """Raises `UnresolvableInput` past the limit on inputs."""
    if size > limits.inputs_bytes:
        raise UnresolvableInput(
            f"{what} more than the {limits.inputs_bytes:,} bytes of PENSTOCK_MAX_INPUTS_SIZE, the most that one attempt"
            " gets: write large values to files or a store, and return their place"
        )


def extract(paths: Sequence[Path], output: bytes) -> tuple[bytes, ...]:
    """The parts of an output at the paths, as JSON; empty bytes where a path leads nowhere. Raises `InvalidJson`."""
    if not paths:
        return ()
    if len(paths) == 1 and not paths[0]:
        return (output,)
    value = parse(output)
    return tuple(_part(path, value) for path in paths)


def _part(path: Path, value: Json) -> bytes:
    try:
        return dump_again(follow(path, value))
    except NoSuchPath:
        return b""


def dump_again(value: Json) -> bytes:
    """What was parsed, as JSON. Raises `InvalidJson` for a number that was too large for a double."""
    try:
        return dump(value)
    except (ValueError, RecursionError) as error:
        raise InvalidJson(f"not valid JSON: {str(error)[:200]}") from None


def keep(step: Step, output: bytes) -> tuple[bytes, ...]:
    """What a run keeps of an output of the step: the parts at `kept_paths`, then for each of `kept_lengths` what
    `length_in` reads. Raises `InvalidJson`."""
    if not step.kept_lengths:
        return extract(step.kept_paths, output)
    value = parse(output)
    return (
        *(_part(path, value) for path in step.kept_paths),
        *(dump(_length(path, value)) for path in step.kept_lengths),
    )


def _length(path: Path, value: Json) -> int | str:
    try:
        found = follow(path, value)
    except NoSuchPath as error:
        return str(error)
    return length_of(found)


def length_of(found: Json) -> int | str:
    """A text that says what is there instead of a list."""
    return len(found) if isinstance(found, list) else f"it is {kind_of(found)}, not a list"


def length_in(kept: bytes) -> int | str:
    """How long a kept list is; a text that says what is there instead."""
    found: int | str = json.loads(kept)
    return found


def kind_of(value: Json) -> str:
    """A JSON value's kind, for people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    return {int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}[type(value)]


def rebuild(paths: Sequence[Path], kept: Sequence[bytes]) -> Json:
    """What `extract` or `keep` kept, nested as in the output: `follow` finds at each of the paths what was there, and
    nothing where nothing was. Positions of lists become members of objects, which `follow` reads alike."""
    whole: dict[str, Json] = {}
    for path, part in zip(paths, kept, strict=False):
        if not part:
            continue
        if not path:
            return parse(part)
        inner = whole
        for member in path[:-1]:
            inner = inner.setdefault(member, {})
        inner[path[-1]] = parse(part)
    return whole


def _stays(reference: Reference) -> Json:
    raise UnresolvableInput(f"the value {reference.digest} is not at hand")


def inputs_of(
    plan: Plan,
    step: Step,
    parameters: dict[str, Json],
    item: Callable[[], bytes],
    outputs: Callable[[int], bytes],
    limits: RunLimits = DEFAULT_RUN_LIMITS,
    undone: Callable[[], bytes] = lambda: NULL,
    load: Callable[[Reference], Json] = _stays,
) -> dict[str, bytes]:
    """The inputs of one attempt as JSON, by name. `item` gives the step run's item as JSON, `outputs` the output of a
    step, null if it did not complete; `undone` the output of the step run that this one undoes, whose item is then
    meant. `load` gives what was spilled, where a path leads into it; what is asked for as a whole stays a reference.

    A path into an output that is null (the step was skipped, failed, or gave nothing) gives null, and so does one
    into the item of a mapped step that did not complete. Raises `UnresolvableInput` for any other path that leads
    nowhere and for more bytes than the limit in all, and what `item` and `outputs` raise.
    """
    parsed: dict[int, Json] = {}

    def resolve(name: str, source: InputSource) -> bytes:
        match source:
            case FromValue(data):
                return data
            case FromParameter(parameter):
                return dump(parameters[parameter])
            case FromItem(()):
                return item()
            case FromItem(path):
                if _ITEM not in parsed:
                    parsed[_ITEM] = parse(item())
                return dump_again(_at(name, "the item", path, parsed[_ITEM], load))
            case FromUndone(()):
                return undone()
            case FromUndone(path):
                output = parse(undone())
                return (
                    NULL if output is None else dump_again(_at(name, "the output that is undone", path, output, load))
                )
            case FromStep(number, ()):
                return outputs(number)
            case FromStep(number, path):
                if number not in parsed:
                    parsed[number] = parse(outputs(number))
                return _from_output(name, plan.steps[number], path, parsed[number], load)

    def checked(name: str, source: InputSource) -> bytes:
        try:
            return resolve(name, source)
        except InvalidJson as error:
            raise UnresolvableInput(f"the input {quoted(name)} reads a value that is {error}") from None
        except BadReference as error:
            raise UnresolvableInput(f"the input {quoted(name)}: {error}") from None

    inputs: dict[str, bytes] = {}
    size = 0
    for name, source in step.inputs:
        inputs[name] = checked(name, source)
        size += len(inputs[name])
        check_size("the inputs have", size, limits)
    return inputs


def _from_output(name: str, upstream: Step, path: Path, output: Json, load: Callable[[Reference], Json]) -> bytes:
    if output is None:
        return NULL
    if any(_is_null(path[:level], output) for level in range(1, upstream.depth + 1)):
        return NULL
    return dump_again(_at(name, f"the output of the step {quoted(upstream.name)}", path, output, load))


def _is_null(path: Path, value: Json) -> bool:
    try:
        return follow(path, value) is None
    except NoSuchPath:
        return False


def _at(name: str, of: str, path: Path, value: Json, load: Callable[[Reference], Json]) -> Json:
    try:
        return follow_through(path, value, load)
    except NoSuchPath as error:
        shown = quoted(".".join(path))
        raise UnresolvableInput(f"the input {quoted(name)} reads {shown} of {of}, but {error}") from None
