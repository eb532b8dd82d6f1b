"""What `penstock dev` tells to type next."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.dev.command import first_commands


def test_the_example_is_named_only_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert first_commands("127.0.0.1:7400") == ["penstock list"]
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "chain.py").write_text("")
    assert first_commands("127.0.0.1:7400") == ["penstock run examples/chain.py -p n=7", "penstock list"]
    assert first_commands("127.0.0.1:9")[0] == "export PENSTOCK_ADDRESS=127.0.0.1:9"
