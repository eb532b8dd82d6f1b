"""The smallest pipeline: add 5, times 2, minus 10 on a whole number.

penstock run examples/chain.py -p n=7
penstock get RUN add
"""

from penstock import pipeline, step


@step
def add(number: int, amount: int) -> int:
    return number + amount


@step
def multiply(number: int, factor: int) -> int:
    return number * factor


@step
def subtract(number: int, amount: int) -> int:
    return number - amount


@pipeline
def chain(n: int) -> int:
    """Add 5, times 2, minus 10."""
    return subtract(multiply(add(n, 5), 2), 10)
