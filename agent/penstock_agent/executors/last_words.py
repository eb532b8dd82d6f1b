"""What a process said last on standard error, as a part of the message of its failure."""

from __future__ import annotations

LONGEST_LINE = 200
"""Characters of the last line that stand beside the exit code: where only one line is shown, it is that one."""


def last_words(said: str) -> str:
    """To be put after "exit code 3": the last line that says something, and below it all lines if there are more."""
    lines = [line.rstrip() for line in said.splitlines() if line.strip()]
    if not lines:
        return ""
    last = lines[-1].strip()
    if len(lines) == 1 and len(last) <= LONGEST_LINE:
        return f": {last}"
    shown = last if len(last) <= LONGEST_LINE else f"{last[:LONGEST_LINE]}…"
    return f": {shown}\nits last lines on standard error:\n" + "\n".join(lines)
