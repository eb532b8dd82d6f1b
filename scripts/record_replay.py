"""Record what this build writes, for later builds to read: journals, and the streams of agents.

    python scripts/record_replay.py journals 0.2.0
    python scripts/record_replay.py streams 0.2.0

Run it on the build that a release is made of, and commit what it writes: tests/replay/journals/<release> and
tests/replay/streams/<release>. Recordings are never made again with a later build. See tests/replay/README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.replay.chronicles import JOURNALS, load  # noqa: E402
from tests.replay.features import features_of  # noqa: E402
from tests.replay.stories import STORIES as SESSIONS  # noqa: E402
from tests.replay.stories import record  # noqa: E402
from tests.replay.tapes import STREAMS, save  # noqa: E402

STORIES = "tests/integration/runtime"
UNFIT = ("test_janitor.py", "test_recovering_many.py")
"""They remove or damage journals."""
LARGEST = 40_000
"""Bytes of a chronicle that is kept."""
OFTEN = 3
"""So many chronicles show each feature, if there are as many."""


def record_journals(release: str) -> None:
    folder = JOURNALS / release
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as kept:
        _play_stories(Path(kept), release)
        found = {path: features_of(load(path)) for path in sorted(Path(kept).glob("*.json")) if _is_small(path)}
        for path in _chosen(found):
            (folder / path.name).write_bytes(path.read_bytes())
    sizes = [path.stat().st_size for path in folder.iterdir()]
    print(f"{folder.relative_to(ROOT)}: {len(sizes)} chronicles, {sum(sizes) // 1024} KiB")


def _play_stories(kept: Path, release: str) -> None:
    ignored = [f"--ignore={STORIES}/{name}" for name in UNFIT]
    options = ["-p", "tests.replay.keeping", "--keep-journals", str(kept), "--keep-build", release]
    subprocess.run([sys.executable, "-m", "pytest", "-q", *options, *ignored, STORIES], cwd=ROOT, check=True)


def _is_small(path: Path) -> bool:
    return path.stat().st_size <= LARGEST


def _chosen(found: dict[Path, frozenset[str]]) -> list[Path]:
    """Few that show every feature often enough: each time the one that shows most of what is missing by its size."""
    missing = {
        feature: min(OFTEN, sum(feature in shown for shown in found.values()))
        for feature in set().union(*found.values())
    }
    chosen: list[Path] = []
    while any(missing.values()):
        best = max(
            (path for path in found if path not in chosen),
            key=lambda path: sum(missing[feature] > 0 for feature in found[path]) / (2_000 + path.stat().st_size),
        )
        chosen.append(best)
        for feature in found[best]:
            missing[feature] = max(missing[feature] - 1, 0)
    return chosen


async def record_streams(release: str) -> None:
    folder = STREAMS / release
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as data:
        for story in SESSIONS:
            tape = await record(story, release, Path(data))
            save(tape, folder)
            print(f"{tape.story}: {len(tape.lines)} lines")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["journals", "streams"])
    parser.add_argument("release", help="the name of the folder, such as 0.2.0")
    chosen = parser.parse_args()
    if chosen.what == "journals":
        record_journals(chosen.release)
    else:
        asyncio.run(record_streams(chosen.release))


if __name__ == "__main__":
    main()
