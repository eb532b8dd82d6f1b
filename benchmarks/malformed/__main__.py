"""What healthy callers notice of 10,000 malformed frames and 2,000 garbage connections: `make malformed`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys

from benchmarks.malformed.trial import Trial, broken_promises, run_trial


def main() -> None:
    parser = argparse.ArgumentParser(description="Send what is no message, and see who minds.")
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**9))
    given = parser.parse_args()
    trial = Trial(given.frames, given.connections, given.seconds, given.seed)
    sys.stderr.write(f"seed {trial.seed}\n")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    figures = asyncio.run(run_trial(trial))
    sys.stdout.write(json.dumps({"workload": "malformed", **figures}) + "\n")
    broken = broken_promises(trial, figures)
    if broken:
        sys.exit("; ".join(broken))


if __name__ == "__main__":
    main()
