"""The agent's own secrets: variables and files, and what is told when one cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock_agent.secrets.sources import BadSecret, OwnSecrets


def test_a_variable_goes_before_a_file(tmp_path: Path) -> None:
    (tmp_path / "db.main").write_text("from a file\n")
    own = OwnSecrets(tmp_path, {"PENSTOCK_SECRET_DB_MAIN": "from a variable", "DB_MAIN": "not that one"})
    assert own.get("db.main") == "from a variable"
    assert OwnSecrets(tmp_path, {}).get("db.main") == "from a file"
    assert OwnSecrets(None, {}).get("db.main") is None
    assert own.get("other") is None


@pytest.mark.parametrize(
    ("written", "value"),
    [("one\n", "one"), ("one\r\n", "one"), ("one", "one"), ("one\ntwo\n", "one\ntwo\n"), ("\n", ""), ("", "")],
)
def test_the_line_break_of_a_single_line_is_no_part_of_it(tmp_path: Path, written: str, value: str) -> None:
    (tmp_path / "db").write_bytes(written.encode())
    assert OwnSecrets(tmp_path, {}).get("db") == value


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    own = OwnSecrets(tmp_path, {})
    assert own.get("db") is None
    (tmp_path / "db").write_text("first")
    assert own.get("db") == "first"
    (tmp_path / "db").write_text("second")
    assert own.get("db") == "second"


def test_what_is_no_text_or_no_file_is_named_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"canary\xff")
    (tmp_path / "folder").mkdir()
    own = OwnSecrets(tmp_path, {})
    with pytest.raises(BadSecret, match=r"'bytes'.*base64") as raised:
        own.get("bytes")
    assert "canary" not in str(raised.value)
    with pytest.raises(BadSecret, match="'folder'"):
        own.get("folder")
