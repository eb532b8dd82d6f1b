"""Page tokens: they survive being carried about, and nothing else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.v1 import run_service_pb2 as pb
from penstock_coordinator.api.errors import CallError
from penstock_coordinator.api.paging import PageTokens, page_size

ALL = pb.ListRunsRequest()
ONE = pb.ListRunsRequest(pipeline="p", labels={"b": "1", "a": "2"})


@given(st.tuples(st.integers(0, 2**31), st.integers(-1, 2**31)))
def test_a_cursor_comes_back(cursor: tuple[int, int]) -> None:
    tokens = PageTokens(ALL, tuple[int, int])
    assert tokens.read(tokens.write(cursor)) == cursor


def test_no_token_is_the_first_page() -> None:
    assert PageTokens(ALL, bytes).read("") is None


def test_a_token_outlives_the_process_and_a_change_of_page_size() -> None:
    token = PageTokens(ONE, bytes).write(b"cursor")
    again = pb.ListRunsRequest(pipeline="p", labels={"a": "2", "b": "1"}, page_size=7, page_token=token)
    assert PageTokens(again, bytes).read(token) == b"cursor"


def test_a_token_is_bound_to_its_filters() -> None:
    token = PageTokens(ONE, bytes).write(b"cursor")
    with pytest.raises(CallError):
        PageTokens(ALL, bytes).read(token)


def test_a_token_is_bound_to_its_method() -> None:
    token = PageTokens(pb.ListStepRunsRequest(), tuple[int, int]).write((1, 2))
    with pytest.raises(CallError):
        PageTokens(pb.ListRunsRequest(), tuple[int, int]).read(token)


def test_a_cursor_of_another_type_is_refused() -> None:
    token = PageTokens(ALL, str).write("text")
    with pytest.raises(CallError):
        PageTokens(ALL, int).read(token)


@given(st.text(min_size=1, max_size=50) | st.binary(min_size=1).map(lambda data: base64.b64encode(data).decode()))
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(CallError) as caught:
        PageTokens(ALL, bytes).read(token)
    assert [each.field for each in caught.value.violations] == ["page_token"]


@pytest.mark.parametrize(("asked", "size"), [(0, 50), (1, 1), (1_000, 1_000)])
def test_page_sizes(asked: int, size: int) -> None:
    assert page_size(asked) == size


@pytest.mark.parametrize("asked", [-1, 1_001, 2**31 - 1])
def test_page_sizes_out_of_bounds(asked: int) -> None:
    with pytest.raises(CallError):
        page_size(asked)
