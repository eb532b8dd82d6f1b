"""See the package."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.contestants import ContestantError, child_contestant
from benchmarks.peers.catalogue import PEERS, SERVICE_VARIABLE
from benchmarks.peers.environments import PeerEnvironmentError, environment
from benchmarks.peers.services import running_service
from benchmarks.report import Report
from benchmarks.step_body import LOG_VARIABLE
from benchmarks.turns import take_turns
from penstock.errors import PenstockError

PATIENCE_SECONDS = 200.0
CHECKOUT = Path(__file__).parents[2]


async def measure(name: str, repeat: int, report: Report) -> None:
    peer = PEERS[name]
    installed = await environment(name, peer.requirements)
    with tempfile.TemporaryDirectory(prefix="penstock-peer-") as folder:
        async with running_service(peer.service) as service:
            command = [str(installed / "bin" / "python"), "-m", f"benchmarks.peers.{name}_peer"]
            settings = {
                SERVICE_VARIABLE: service,
                LOG_VARIABLE: str(Path(folder) / "steps.log"),
                "PYTHONPATH": str(CHECKOUT),
            }
            async with child_contestant(name, command, settings) as contestant:
                for workload in peer.workloads:
                    async with asyncio.timeout(PATIENCE_SECONDS * repeat):
                        results = await take_turns(workload, {name: contestant}, repeat, unmeasured=0)
                    for result in results:
                        report.add(result.line())


async def measure_all(names: list[str], repeat: int, report: Report) -> list[str]:
    """What could not be measured, and why; the others go on."""
    failures = []
    for name in names:
        try:
            await measure(name, repeat, report)
        except (PeerEnvironmentError, ContestantError, PenstockError, TimeoutError) as error:
            failures.append(f"{name}: {type(error).__name__} {error}".rstrip())
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="What others do.")
    parser.add_argument("peers", nargs="*", choices=[*PEERS, []], metavar="PEER", help=f"of {', '.join(PEERS)} (all)")
    parser.add_argument("--repeat", type=int, default=3, help="times that each workload is done (3)")
    parser.add_argument("--results", type=Path, help="a file that the lines of JSON are appended to as well")
    options = parser.parse_args()
    failures = asyncio.run(measure_all(options.peers or list(PEERS), options.repeat, Report(options.results)))
    for failure in failures:
        sys.stderr.write(f"not measured: {failure}\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
