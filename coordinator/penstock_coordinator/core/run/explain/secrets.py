"""Secrets that a step names and the coordinator does not keep."""

from __future__ import annotations

import re
from collections.abc import Iterator

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.plan.secret_names import NamedSecret
from penstock_coordinator.core.run.explain.situations import Outside, Reason

_NO_LETTER = re.compile(r"[^A-Z0-9]")


def missing_secrets(step: Step, outside: Outside) -> Iterator[Reason]:
    """Of a step run that is not at rest and not under way: one for each."""
    for name in dict.fromkeys(use.name for use in step.secrets):
        if outside.lacks_secret(name):
            yield Reason("Secret", _missing("It names", name, "its attempt fails"), {"secret": name})


def missing_secret(named: NamedSecret) -> str:
    """Of a pipeline that is submitted: what is going to happen to its steps, and the remedy."""
    names = [f'"{step}"' for step in named.steps]
    if named.others:
        names.append(f"{named.others:,} more")
    if len(names) == 1:
        return _missing(f"The step {names[0]} names", named.name, "its attempts fail")
    steps = f"{', '.join(names[:-1])} and {names[-1]}"
    return _missing(f"The steps {steps} name", named.name, "their attempts fail")


def _missing(who_names: str, name: str, what_happens: str) -> str:
    variable = "PENSTOCK_SECRET_" + _NO_LETTER.sub("_", name.upper())
    return (
        f'{who_names} the secret "{name}", which the coordinator does not keep: {what_happens} unless the agent'
        f" has it of its own ({variable}, or a file {name} in PENSTOCK_AGENT_SECRETS_DIR)."
        f" `penstock secrets set {name}` gives it to the coordinator."
    )
