"""Log files of child processes: bounded, and readable while they are written."""

from __future__ import annotations

import os
from pathlib import Path

from penstock.dev.child_log import ChildLog


def write(log: ChildLog, text: str) -> None:
    fd = log.open()
    os.write(fd, text.encode())
    os.close(fd)


def test_new_lines_are_whole_and_given_once(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "child.log")
    assert log.new_lines() == []
    write(log, "one\ntwo\nthr")
    assert log.new_lines() == ["one", "two"]
    assert log.new_lines() == []
    write(log, "ee\n")
    assert log.new_lines() == ["three"]


def test_lines_of_a_former_start_are_not_new(tmp_path: Path) -> None:
    write(ChildLog(tmp_path / "child.log"), "old\n")
    log = ChildLog(tmp_path / "child.log")
    write(log, "new\n")
    assert log.new_lines() == ["new"]
    assert log.last_lines(10) == ["old", "new"]
    assert log.last_lines(1) == ["new"]


def test_rotation_bounds_the_file_and_the_writer_goes_on(tmp_path: Path) -> None:
    log = ChildLog(tmp_path / "child.log", max_bytes=100)
    writer = log.open()
    try:
        os.write(writer, b"x" * 99 + b"\n")
        log.rotate()
        assert log.path.stat().st_size == 100
        os.write(writer, b"more\n")
        log.rotate()
        assert log.path.stat().st_size == 0
        assert (tmp_path / "child.log.1").stat().st_size == 105
        os.write(writer, b"after\n")
        assert log.last_lines(5) == ["after"]
        assert log.new_lines() == ["after"]
    finally:
        os.close(writer)
