"""What the tests of one folder share. It ends with the last of them: a system that nobody asks any more still beats,
looks and cleans up, and slows down what comes after it."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def shared(asking: pytest.FixtureRequest, key: pytest.StashKey[T], start: Callable[[], AbstractContextManager[T]]) -> T:
    """For a fixture of a module: what was started for the folder of the test, or is now. It is left when a test of
    another folder follows, and started again should one of this folder come once more."""
    folder: pytest.Dir | None = asking.node.getparent(pytest.Dir)
    assert folder is not None
    if key not in folder.stash:
        stack = ExitStack()
        folder.stash[key] = stack.enter_context(start())

        def end() -> None:
            del folder.stash[key]
            stack.close()

        folder.addfinalizer(end)
    return folder.stash[key]
