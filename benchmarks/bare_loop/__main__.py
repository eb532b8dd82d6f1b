"""See the package."""

from __future__ import annotations

import argparse

import uvloop

from benchmarks.bare_loop.agent import MODES
from benchmarks.bare_loop.coordinator import running_bare_loop
from benchmarks.contestants import answer_lines


async def main(dsn: str, mode: str) -> None:
    async with running_bare_loop(dsn, mode) as subject:
        await answer_lines(subject)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bare_loop")
    parser.add_argument("mode", choices=list(MODES))
    parser.add_argument("--dsn", required=True, help="a database; the schema bare_loop_MODE in it is made anew")
    options = parser.parse_args()
    uvloop.run(main(options.dsn, options.mode))
