"""The pipelines that are measured. Every step computes fibo(10) and writes one line into the log that BENCHMARK_LOG
names, so that starts and ends of all steps are known on one clock, whatever process ran them."""

from __future__ import annotations

import os
import time
from typing import Any

from penstock import pipeline, step, unmapped


def fibo(n: int) -> int:
    return n if n <= 1 else fibo(n - 1) + fibo(n - 2)


def work(position: int) -> None:
    begin = time.time()
    fibo(10)
    end = time.time()
    log = os.open(os.environ["BENCHMARK_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(log, f"{position} {begin:.6f} {end:.6f}\n".encode())
    os.close(log)


@step
def advance(value: int, position: int) -> int:
    work(position)
    return value + 1


@step
def part(value: int, item: int) -> int:
    work(item)
    return value + item


@step
def join(values: list[int]) -> int:
    work(-1)
    return sum(value for value in values)


@step
def add(left: int, middle: int, right: int) -> int:
    work(4)
    return left + middle + right


@pipeline
def chain40(start: int = 0) -> Any:
    value: Any = start
    for position in range(40):
        value = advance.options(name=f"s{position}")(value, position)
    return value


@pipeline
def fan1000(items: list[int]) -> Any:
    first = advance(0, -2)
    return join(part.map(unmapped(first), items))


@pipeline
def diamond() -> Any:
    top = advance.options(name="top")(0, 0)
    sides = [advance.options(name=f"side{number}")(top, number) for number in (1, 2, 3)]
    return add(*sides)


@pipeline
def single() -> Any:
    return advance(0, 0)


@step
def nothing(position: int) -> int:
    return position


@pipeline
def mapped(items: list[int]) -> Any:
    return nothing.map(items)


@step
def paced(value: int, run: int, position: int) -> int:
    """Takes a quarter of a second and nearly no CPU time, so that many of them can be under way at once."""
    begin = time.time()
    time.sleep(0.25)
    log = os.open(os.environ["BENCHMARK_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.write(log, f"{run * 1000 + position} {begin:.6f} {time.time():.6f}\n".encode())
    os.close(log)
    return value + 1


@pipeline
def paced_chain(run: int) -> Any:
    value: Any = 0
    for position in range(120):
        value = paced.options(name=f"s{position}")(value, run, position)
    return value


@pipeline
def unserved(items: list[int]) -> Any:
    return nothing.options(queue="nobody-serves-this").map(items)
