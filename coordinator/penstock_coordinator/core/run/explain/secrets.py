"""Secrets that a step names and the coordinator does not keep."""

from __future__ import annotations

import re
from collections.abc import Iterator

from penstock_coordinator.core.plan.model import Step
from penstock_coordinator.core.run.explain.situations import Outside, Reason

_NO_LETTER = re.compile(r"[^A-Z0-9]")


def missing_secrets(step: Step, outside: Outside) -> Iterator[Reason]:
    """Of a step run that is not at rest and not under way: one for each."""
    for name in dict.fromkeys(use.name for use in step.secrets):
        if outside.lacks_secret(name):
            variable = "PENSTOCK_SECRET_" + _NO_LETTER.sub("_", name.upper())
            text = (
                f'It names the secret "{name}", which the coordinator does not keep: its attempt fails unless the agent'
                f" has it of its own ({variable}, or a file {name} in PENSTOCK_AGENT_SECRETS_DIR)."
                f" `penstock secrets set {name}` gives it to the coordinator."
            )
            yield Reason("Secret", text, {"secret": name})
