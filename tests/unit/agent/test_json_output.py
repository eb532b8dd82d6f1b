"""What a step may return."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import uuid
from typing import Any

import pydantic
import pytest

from penstock_agent.executors.channel import FunctionWork, Task
from penstock_agent.executors.worker.encoding import OutputEncoder
from penstock_agent.executors.worker.json_output import Unserialisable


def to_json(value: object) -> bytes:
    """As the worker of an agent whose coordinator has no artifact store."""
    task = Task(1, 0, FunctionWork("m", "f"), "run", "pipeline", "step", [], 1, "key", {}, b"", {}, 1 << 20)
    encoder = OutputEncoder("/nowhere", "/nowhere")
    encoder.begin(task)
    return encoder.encode(value)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Inner:
    when: datetime.datetime


@dataclasses.dataclass
class Outer:
    inner: Inner
    colour: Colour


class Model(pydantic.BaseModel):
    day: datetime.date
    many: set[int]


Point = collections.namedtuple("Point", "x y")
NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": (1, 2.5, "ä", True, None)}, {"a": [1, 2.5, "ä", True, None]}),
        ({1: 2}, {"1": 2}),
        (2**70, 2**70),
        (Point(1, 2), [1, 2]),
        (Outer(Inner(NOON), Colour.RED), {"inner": {"when": "2026-01-02T12:00:00+00:00"}, "colour": "red"}),
        (Model(day=datetime.date(2026, 1, 2), many={1}), {"day": "2026-01-02", "many": [1]}),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
    ],
)
def test_what_has_one_form_gets_it(value: Any, expected: Any) -> None:
    assert json.loads(to_json(value)) == expected


def test_nothing_is_nothing() -> None:
    assert to_json(None) == b""


def _endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def _deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "path", "remedy"),
    [
        ({1, 2}, "output", "sorted"),
        ({"a": [1, {"b": b"x"}]}, "output", "no artifact store"),
        ({"a": {"$artifact": {}}}, "output", "rename the key"),
        ({"a": float("inf")}, "output['a']", "finite"),
        ([object()], "output[0]", "return None"),
        ({(1, 2): 3}, "output", "keys"),
        ("\ud800", "output", "surrogates"),
        ({"a\ud800": 1}, "output (a key)", "surrogates"),
        ([Outer], "output[0]", "return None"),
        ({"a": Inner({1})}, "output['a']['when']", "sorted"),  # type: ignore[arg-type]  # as users do
        (_endless(), "output[0]", "tree"),
        (_deep(), "output[0]", "flatter"),
        ([3 + 4j], "output[0]", "return None"),
    ],
)
def test_the_rest_is_refused_with_its_place(value: Any, path: str, remedy: str) -> None:
    with pytest.raises(Unserialisable) as refused:
        to_json(value)
    assert str(refused.value).startswith(path)
    assert remedy in str(refused.value)
