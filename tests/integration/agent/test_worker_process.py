"""One worker process, as the agent sees it."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from penstock_agent.executors.worker_process import Equipment, WorkerProcess


def test_a_stop_of_a_process_that_has_just_died_is_no_error(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    process = WorkerProcess(1, Equipment(tmp_path / "worker", str(tmp_path), tmp_path, environment, "mark", 10, 1_000))
    try:
        os.kill(process.pid, signal.SIGKILL)
        assert select.select([process.exited], [], [], 30.0)[0]
        process.signal_stop(7)
        assert process.stopped
    finally:
        process.process.wait()
        process.close()
