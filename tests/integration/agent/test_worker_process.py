"""One worker process, as the agent sees it."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from penstock_agent.executors.worker_process import Equipment, WorkerProcess

PATIENCE = 60.0


def started(folder: Path) -> WorkerProcess:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    return WorkerProcess(1, Equipment(folder / "worker", str(folder), folder, environment, "mark", 10_000, 1 << 20))


def test_a_stop_of_a_process_that_has_just_died_is_no_error(tmp_path: Path) -> None:
    process = started(tmp_path)
    try:
        os.kill(process.pid, signal.SIGKILL)
        assert select.select([process.exited], [], [], 30.0)[0]
        process.signal_stop(7)
        assert process.stopped
    finally:
        process.process.wait()
        process.close()


def test_output_that_a_process_has_had_no_time_to_read_is_not_thrown_away(tmp_path: Path) -> None:
    process = started(tmp_path)
    try:
        assert select.select([process.results], [], [], PATIENCE)[0], "it is ready"
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        with Path(f"/proc/{process.pid}/fd/1").open("wb", buffering=0) as out:
            os.set_blocking(out.fileno(), False)
            count = 0
            while out.write(b"y" * 99 + b"\n"):
                count += 1
        assert [process.relieve() for _ in range(3)] == [0, 0, 0]
        os.kill(process.pid, signal.SIGCONT)
        heard = 0
        while heard < count:
            assert select.select([process.logs], [], [], PATIENCE)[0]
            heard += sum(len(batch.lines) for batch in process.read_logs() or [])
    finally:
        process.process.kill()
        process.process.wait()
        process.close()
