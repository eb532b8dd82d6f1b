"""Which archives may be unpacked: a corpus of those that must not."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from tests.unit.archives.hostile_archives import FINE, HOSTILE, TOO_LARGE, trailing_bomb

from penstock.bundle.archive import build_bundle
from penstock_coordinator.api.bundle_archive import ArchiveLimits, HostileArchive, TooLarge, check_archive

LIMITS = ArchiveLimits(packed_bytes=64 << 20, unpacked_bytes=8 << 20, files=1_000)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_with_a_reason(name: str) -> None:
    packed = HOSTILE[name].pack()
    begun = time.process_time()
    with pytest.raises(HostileArchive) as caught:
        check_archive(packed, LIMITS)
    assert time.process_time() - begun < 20
    message = str(caught.value)
    assert 10 < len(message) < 400
    assert message.isprintable()
    assert message.isascii()


@pytest.mark.parametrize("name", TOO_LARGE)
def test_a_large_archive_is_refused_by_the_limit(name: str) -> None:
    with pytest.raises(TooLarge, match="more than"):
        check_archive(TOO_LARGE[name].pack(), LIMITS)


@pytest.mark.parametrize("name", FINE)
def test_an_honest_archive_passes(name: str) -> None:
    check_archive(FINE[name](), LIMITS)


def test_a_bundle_of_the_sdk_passes(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "steps.py").write_text("x = 1\n")
    check_archive(build_bundle(tmp_path).data, LIMITS)


def test_a_bomb_takes_no_memory() -> None:
    packed = trailing_bomb(32 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            check_archive(packed, LIMITS)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20
