"""The pipelines of the schedules: small, and together of every kind of step and wait."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import ParseDict

from penstock.v1.pipeline_pb2 import PipelineSpec

_QUICK_RETRY = {"max_attempts": 3, "initial_backoff": "0.2s", "max_backoff": "2s"}


def _step(name: str, *after: str, **fields: Any) -> dict[str, Any]:
    action = {} if "pipeline" in fields else {"command": {"argv": ["true"], "outputs": [_output(name)]}}
    return {"name": name, "depends_on": list(after), **action, **fields}


def _output(name: str) -> dict[str, Any]:
    kept = "rows" if name.startswith("list") else "text"
    return {"name": kept, "stdout": True, "format": "OUTPUT_FORMAT_JSON" if kept == "rows" else "OUTPUT_FORMAT_TEXT"}


def _from(step: str, output: str = "text") -> dict[str, Any]:
    return {"step": {"step": step, "path": [output]}}


_SPECS: dict[str, dict[str, Any]] = {
    "chain": {
        "steps": [
            _step("a", retry=_QUICK_RETRY),
            _step("b", "a", inputs={"given": _from("a")}, retry=_QUICK_RETRY),
            _step("c", "b", inputs={"given": _from("a")}),
        ]
    },
    "diamond": {
        "steps": [
            _step("a", retry=_QUICK_RETRY),
            _step("left", "a"),
            _step("right", "a", allow_failure=True),
            _step("z", "left", "right", trigger_rule="TRIGGER_RULE_ALL_DONE", inputs={"given": _from("a")}),
            _step("tidy", cleanup=True),
        ],
        "fail_fast": True,
    },
    "mapped": {
        "steps": [
            _step("list", retry=_QUICK_RETRY),
            _step("item", map={"step": {"step": "list", "path": ["rows"]}, "max_parallel": 2}, retry=_QUICK_RETRY),
            _step("after", "item", trigger_rule="TRIGGER_RULE_ALL_DONE"),
        ],
        "max_parallel": 3,
    },
    "wide": {
        "steps": [
            _step("list"),
            _step("item", map={"parameter": "numbers"}, retry=_QUICK_RETRY),
            *(_step(f"side{number}", resources={"cpu": 2.5}) for number in range(3)),
            _step("after", "item", *(f"side{number}" for number in range(3)), trigger_rule="TRIGGER_RULE_ALL_DONE"),
        ],
        "parameters": [{"name": "numbers", "type": "PARAMETER_TYPE_LIST", "default": [1, 2, 3, 4, 5, 6, 7]}],
    },
    "shared": {
        "steps": [
            _step("one", concurrency={"key": "pot", "limit": 1}, retry=_QUICK_RETRY),
            _step("two", "one", concurrency={"key": "pot", "limit": 1, "policy": "CONCURRENCY_POLICY_CANCEL_OLDEST"}),
            _step("three"),
        ]
    },
    "single": {
        "steps": [_step("a"), _step("b", "a")],
        "max_active_runs": 1,
    },
    "replacing": {
        "steps": [_step("a", retry=_QUICK_RETRY), _step("b", "a")],
        "concurrency": {"key": "seat", "limit": 1, "policy": "CONCURRENCY_POLICY_CANCEL_OLDEST"},
    },
    "timed": {
        "steps": [
            _step("a", timeouts={"attempt": "5s", "queued": "120s"}, retry=_QUICK_RETRY),
            _step("b", "a", timeouts={"overall": "60s"}, allow_failure=True),
        ],
        "timeout": "200s",
        "stop_grace": "2s",
    },
    "below": {"steps": [_step("a", retry=_QUICK_RETRY), _step("b", "a")]},
    "above": {
        "steps": [
            _step("a"),
            _step("child", "a", pipeline={"name": "below"}, retry=_QUICK_RETRY),
            _step("b", "child"),
        ]
    },
}

NAMES = tuple(_SPECS)


def specifications() -> list[PipelineSpec]:
    """What is above comes after what is below."""
    return [ParseDict({"name": name, **fields}, PipelineSpec()) for name, fields in _SPECS.items()]
