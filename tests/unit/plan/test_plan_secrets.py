"""Which secrets a pipeline names, as whoever submits it is told."""

from __future__ import annotations

from tests.unit.plan.specs import spec_of

from penstock_coordinator.core.plan.compile import compile_plan
from penstock_coordinator.core.plan.secret_names import NamedSecret, named_secrets
from penstock_coordinator.core.run.explain.secrets import missing_secret


def test_the_secrets_of_a_pipeline_are_those_that_its_plan_has() -> None:
    spec = spec_of(
        {
            "name": "p",
            "defaults": {"secrets": [{"name": "shared"}]},
            "steps": [
                {"name": "own", "command": {"argv": ["true"]}, "secrets": [{"name": "one"}, {"name": "shared"}]},
                *({"name": f"s{number}", "command": {"argv": ["true"]}} for number in range(4)),
                {"name": "sub", "pipeline": {"name": "q"}},
            ],
        }
    )
    assert named_secrets(spec) == (
        NamedSecret("one", ("own",), 0),
        NamedSecret("shared", ("own", "s0", "s1"), 2),
    )
    plan = compile_plan(spec, "d")
    assert {use.name for step in plan.steps for use in step.secrets} == {"one", "shared"}


def test_who_names_it_is_told_in_few_words() -> None:
    assert missing_secret(NamedSecret("k", ("a",), 0)).startswith('The step "a" names the secret "k", which')
    assert missing_secret(NamedSecret("k", ("a", "b", "c"), 1200)).startswith(
        'The steps "a", "b", "c" and 1,200 more name the secret "k", which'
    )
