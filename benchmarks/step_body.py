"""What every measured step does, whatever system runs it. Needs nothing but Python."""

from __future__ import annotations

import os
import time

LOG_VARIABLE = "BENCHMARK_LOG"
"""Names the file that steps write into: so all begins and ends are known on one clock, whatever process ran them."""


def fibo(n: int) -> int:
    return n if n <= 1 else fibo(n - 1) + fibo(n - 2)


def work(position: int) -> None:
    """Compute fibo(10), and add one line to the log."""
    begin = time.time()
    fibo(10)
    write(position, begin, time.time())


def write(position: int, begin: float, end: float) -> None:
    log = os.open(os.environ[LOG_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(log, f"{position} {begin:.6f} {end:.6f}\n".encode())
    os.close(log)
