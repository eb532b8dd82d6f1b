"""What counts for the value of a step: the key under which the cache keeps it.

The form is for ever: another one is another FORM, so that what was kept before is not found instead of being mistaken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from penstock_coordinator.core.plan.cel.errors import ConditionError
from penstock_coordinator.core.plan.model import CommandAction, FunctionAction, Json, Plan, Step
from penstock_coordinator.core.plan.values import InvalidJson, parse

FORM = "penstock-cache-1"
ARTIFACT = "$artifact"
_WHAT_COUNTS = ("codec", "digest", "kind")
"""Of a reference to a value: what its reader gets does not hang on more."""
_WHAT_COUNTS_OF_FILES = (*_WHAT_COUNTS, "media_type", "metadata", "name")
"""Who gets a file or a folder can read these too."""


class NoKey(Exception):
    """There is none for this step run, and why, for people."""


def cache_key(plan: Plan, step: Step, parameters: Mapping[str, Json], inputs: Mapping[str, bytes]) -> bytes:
    """32 bytes, equal for equal work. `inputs` are JSON by name. Takes time by their size. Raises `NoKey`."""
    policy = step.cache
    assert policy is not None
    environment = plan.lines[step.line].environment
    said = [FORM, _code(plan, step), environment, step.env, policy.version, _counts(step, parameters, inputs)]
    if step.secrets:
        # Their names: their values are not for the coordinator to know.
        said.append([[use.name, use.env, use.file] for use in step.secrets])
    return hashlib.sha256(_canonical(said)).digest()


def _code(plan: Plan, step: Step) -> Json:
    action = step.action
    if isinstance(action, FunctionAction):
        code = action.code_digest or plan.bundle_digest
        return ["function", action.module, action.qualname, code]
    assert isinstance(action, CommandAction)
    outputs = [[each.name, each.stdout, each.file, each.json] for each in action.outputs]
    said: list[Json] = ["command", action.argv, action.shell, outputs, action.success_exit_codes, plan.bundle_digest]
    kept = [each.name for each in action.outputs if each.artifact]
    if kept or action.input_files:
        said.append([kept, action.input_files])
    return said


def _counts(step: Step, parameters: Mapping[str, Json], inputs: Mapping[str, bytes]) -> Json:
    policy = step.cache
    assert policy is not None
    if policy.key is not None:
        try:
            return ["key", policy.key if isinstance(policy.key, str) else policy.key.evaluate(dict(parameters))]
        except ConditionError as error:
            raise NoKey(f"the key_expression of its cache policy makes no key of the parameters: {error}") from None
    # A command finds all parameters in its environment, and what it runs may read any of them.
    seen = parameters if isinstance(step.action, CommandAction) else {}
    return [
        "inputs",
        {name: _plain(parse_input(name, value)) for name, value in inputs.items() if name not in policy.ignore},
        {name: value for name, value in seen.items() if name not in policy.ignore},
    ]


def parse_input(name: str, value: bytes) -> Json:
    """Raises `NoKey`."""
    try:
        return parse(value)
    except InvalidJson as error:
        raise NoKey(f"the input {name!r} is {error}") from None


def _plain(value: Json) -> Json:
    """With references to artifacts cut down to what counts of them. No recursion: values may be nested deeply."""
    holder = [value]
    left: list[tuple[Json, Json]] = [(holder, 0)]
    while left:
        container, place = left.pop()
        found = container[place]
        if isinstance(found, dict):
            reference = artifact_in(found)
            if reference is not None:
                counting = _WHAT_COUNTS if reference.get("kind") == "value" else _WHAT_COUNTS_OF_FILES
                container[place] = {ARTIFACT: {name: reference.get(name) for name in counting}}
                continue
            left.extend((found, name) for name in found)
        elif isinstance(found, list):
            left.extend((found, at) for at in range(len(found)))
    return holder[0]


def artifact_in(value: dict[str, Json]) -> dict[str, Json] | None:
    """What is said of the artifact, if the object is a reference to one."""
    if len(value) != 1 or ARTIFACT not in value:
        return None
    said = value[ARTIFACT]
    return said if isinstance(said, dict) and isinstance(said.get("digest"), str) else None


def artifacts_in(output: bytes) -> tuple[str, ...]:
    """The digests of the artifacts that a JSON text refers to, sorted. Quick if there are none."""
    if ARTIFACT.encode() not in output:
        return ()
    try:
        return tuple(sorted(set(_digests(parse(output)))))
    except InvalidJson:
        return ()


def _digests(value: Json) -> Iterable[str]:
    left = [value]
    while left:
        found = left.pop()
        if isinstance(found, dict):
            reference = artifact_in(found)
            if reference is not None:
                yield reference["digest"]
            else:
                left.extend(found.values())
        elif isinstance(found, list):
            left.extend(found)


def _canonical(value: Json) -> bytes:
    try:
        text = json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    except RecursionError:
        raise NoKey("its inputs are nested too deeply") from None
    return text.encode("ascii")
