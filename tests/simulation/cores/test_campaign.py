"""Several processes that play."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.cores.__main__ import outputs_of

MUCH = 1 << 20
"""More than a pipe takes."""
WAITS = "import sys; open(sys.argv[1]).read()"
TELLS_MUCH = f"import sys; sys.stdout.write('x' * {MUCH}); sys.stdout.flush(); open(sys.argv[1], 'w').close()"


def test_nobody_waits_to_be_read(tmp_path: Path) -> None:
    """The first ends only when the second has told everything."""
    told = str(tmp_path / "told")
    os.mkfifo(told)
    workers = [
        subprocess.Popen([sys.executable, "-c", program, told], stdout=subprocess.PIPE, text=True)
        for program in (WAITS, TELLS_MUCH)
    ]
    try:
        assert [len(output) for output in outputs_of(workers)] == [0, MUCH]
    finally:
        for worker in workers:
            worker.kill()
