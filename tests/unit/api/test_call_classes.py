"""Each method of each service has a class, which says who answers it."""

from __future__ import annotations

from penstock_coordinator.api.call_classes import CLASSES, CallClass
from penstock_coordinator.api.server import DESCRIBED

METHODS = {f"/{service.full_name}/{method.name}": method for service in DESCRIBED for method in service.methods}


def test_no_method_is_without_a_class_and_no_class_without_a_method() -> None:
    assert CLASSES.keys() == METHODS.keys()


def test_calls_about_one_run_name_it_and_are_no_streams_of_requests() -> None:
    for path, call_class in CLASSES.items():
        if call_class is CallClass.RUN:
            assert {"run_id", "id"}.intersection(METHODS[path].input_type.fields_by_name), path
            assert not METHODS[path].client_streaming, path


def test_what_agents_ask_is_of_their_leases() -> None:
    for path, call_class in CLASSES.items():
        assert (call_class is CallClass.AGENT) == path.startswith("/penstock.agent."), path
