"""The inputs of an attempt as values: references to artifacts become what they stand for.

The agent has put the bytes on this machine before; `Task.files` says where.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from penstock_agent.executors.channel import Task
from penstock_agent.executors.references import JSON_CODEC, KEY
from penstock_agent.executors.worker import library


class BadInput(Exception):
    """An input cannot be given to the step."""


def values(task: Task) -> dict[str, object]:
    """Of a function: artifacts as objects of the SDK. Raises what the codecs raise, and `NoLibrary`."""

    def restore(said: dict[str, Any]) -> object:
        path = task.files.get(str(said.get("digest")))
        return library.load().restore(said, path, task.step, task.allow_pickle)

    return {name: _decode(data, task, restore) for name, data in task.inputs.items()}


def value_with_paths(data: bytes, task: Task) -> object:
    """Of a command: in place of an artifact the path of its file or folder."""
    if not task.files:
        return json.loads(data)
    return _decode(data, task, lambda said: _path(said, task))


def put(data: bytes, task: Task, target: Path) -> None:
    """The value, or the file or folder of the artifact, to this path, which does not exist. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    said = _only_reference(data) if task.files else None
    if said is None or _is_json(said):
        value = value_with_paths(data, task)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        target.write_bytes(text.encode("utf-8", "surrogatepass"))
        return
    source = _path(said, task)
    if Path(source).is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=_link)
    else:
        _link(source, str(target))


def _decode(data: bytes, task: Task, restore: Callable[[dict[str, Any]], object]) -> object:
    def look(members: dict[str, Any]) -> object:
        said = members.get(KEY)
        if not isinstance(said, dict):
            return members
        if _is_json(said):
            return decode(Path(_path(said, task)).read_bytes())
        return restore(said)

    def decode(document: bytes) -> object:
        return json.loads(document.decode("utf-8", "surrogatepass"), object_hook=look)

    return decode(data)


def _is_json(said: dict[str, Any]) -> bool:
    return said.get("kind") == "value" and said.get("codec") == JSON_CODEC


def _only_reference(data: bytes) -> dict[str, Any] | None:
    value = json.loads(data)
    said = value.get(KEY) if isinstance(value, dict) else None
    return said if isinstance(said, dict) else None


def _path(said: dict[str, Any], task: Task) -> str:
    path = task.files.get(str(said.get("digest")))
    if path is None:
        raise BadInput(f"the artifact {said.get('digest')} of an input is not on this machine")
    return path


def _link(source: str, target: str) -> str:
    """The same bytes without a copy, where the file system has that."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target
