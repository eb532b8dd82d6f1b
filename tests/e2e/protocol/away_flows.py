"""Steps that write down when they begin and when they end. Programs, so that no bundle is needed."""

from __future__ import annotations

from pathlib import Path

from penstock import Pipeline, command, pipeline


def steps_that_take(ledger: Path, *seconds: float, gate: Path | None = None) -> Pipeline:
    """One step for each span of time, named `step0` and so on, all at once. With a gate the spans begin when that file
    is there."""

    @pipeline(name="steps_that_take")
    def made() -> None:
        for number, span in enumerate(seconds):
            waits = f"until [ -e {gate} ]; do sleep 0.05; done; " if gate is not None else ""
            begin, end = _note(ledger, "begin", number), _note(ledger, "end", number)
            command(f"step{number}", shell=f"{begin}; {waits}sleep {span:g}; {end}")

    return made


def _note(ledger: Path, word: str, number: int) -> str:
    return f'echo {word} {number} "$PENSTOCK_ATTEMPT" "$(cut -d " " -f 1 /proc/uptime)" >> {ledger}'
