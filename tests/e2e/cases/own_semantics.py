"""Cases of our own: what the public ones leave open, and what the design decides."""

from __future__ import annotations

from tests.e2e.cases.case_words import Case
from tests.e2e.cases.own_flow_cases import CLEANUP, FAILURES
from tests.e2e.cases.own_limit_cases import CANCELLING, IDEMPOTENCY, RETRIES, TIMEOUTS
from tests.e2e.cases.own_scatter_cases import SCATTER
from tests.e2e.cases.own_value_cases import CONDITIONS

OWN_CASES: dict[str, Case] = {
    f"{area}: {name}": case
    for area, cases in {
        "failure": FAILURES,
        "cleanup": CLEANUP,
        "condition": CONDITIONS,
        "scatter": SCATTER,
        "retry": RETRIES,
        "timeout": TIMEOUTS,
        "cancel": CANCELLING,
        "idempotency": IDEMPOTENCY,
    }.items()
    for name, case in cases.items()
}
