"""The name that a data folder keeps for its coordinator."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock_coordinator.identity import CannotStart, identity


def test_the_name_is_that_of_the_folder(tmp_path: Path) -> None:
    with identity(tmp_path) as first:
        pass
    with identity(tmp_path) as second:
        assert second == first
    (tmp_path / "coordinator-id").write_text("coordinator-1\n")
    with identity(tmp_path) as named:
        assert named == "coordinator-1"


@pytest.mark.parametrize("damaged", [b"", b"\n", b"\xc3\x28", b"two names", b"x" * 129])
def test_a_damaged_name_is_told_with_what_to_do(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "coordinator-id").write_bytes(damaged)
    with pytest.raises(CannotStart, match="coordinator-id holds no name of a coordinator: restore it"):
        identity(tmp_path).__enter__()
    (tmp_path / "coordinator-id").write_text("coordinator-1")
    with identity(tmp_path) as name:
        assert name == "coordinator-1"


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match="let this user write there, or set PENSTOCK_DATA_DIR"):
        identity(tmp_path / "file").__enter__()
