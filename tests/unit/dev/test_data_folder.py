"""One cluster per data folder."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from penstock.dev.data_folder import DataFolder
from penstock.dev.errors import DataFolderBusyError, DevClusterError


async def test_folder_is_for_its_owner_and_for_no_repository(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "some" / "data")
    await folder.take()
    try:
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert "*" in (folder.path / ".gitignore").read_text().splitlines()
    finally:
        folder.release()


async def test_second_cluster_is_told_the_process_id_of_the_first(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path), DataFolder(tmp_path)
    await first.take()
    first.write_state({"pid": os.getpid()})
    try:
        with pytest.raises(DataFolderBusyError, match=str(os.getpid())) as caught:
            await second.take()
        assert caught.value.pid == os.getpid()
        assert "--data" in caught.value.remedy
    finally:
        first.release()
    await second.take()
    second.release()


async def test_processes_of_a_cluster_that_is_gone_are_waited_for(tmp_path: Path) -> None:
    ending, fresh = DataFolder(tmp_path), DataFolder(tmp_path)
    await ending.take()
    ending.write_state({"pid": await dead_pid()})
    taking = asyncio.create_task(fresh.take())
    done, _ = await asyncio.wait([taking], timeout=0.1)
    assert not done
    ending.release()
    await asyncio.wait_for(taking, 60)
    fresh.release()


async def test_state_is_gone_with_the_cluster(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    await folder.take()
    folder.write_state({"address": "127.0.0.1:1"})
    assert folder.read_state() == {"address": "127.0.0.1:1"}
    folder.release()
    assert folder.read_state() == {}


async def test_folder_that_is_a_file_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DevClusterError, match="--data"):
        await DataFolder(tmp_path / "file").take()


async def dead_pid() -> int:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    return process.pid
