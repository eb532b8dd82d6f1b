"""How large pipelines, parameters and runs may be. At a limit is accepted, one past it is refused with its name."""

from __future__ import annotations

from dataclasses import dataclass

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes are of UTF-8 or of the wire; spans are microseconds."""

    spec_bytes: int = 32 << 20
    steps: int = 100_000
    edges: int = 1_000_000
    """Entries of depends_on, inputs from steps and maps over steps, in all."""
    parameters: int = 1_000
    parameters_bytes: int = 1 << 20
    """The values of all parameters of a run, as JSON."""
    name_length: int = 128
    """Of names of pipelines, steps, parameters, outputs, queues and resources. What is stored, and agents, know no
    longer ones."""
    description_bytes: int = 16 << 10
    labels: int = 64
    label_bytes: int = 256
    inputs: int = 1_000
    """Of one step."""
    value_bytes: int = 256 << 10
    """One constant: of an input, a default, a list to map over."""
    constants_bytes: int = 16 << 20
    """All constants of a pipeline."""
    nesting: int = 28
    """Lists and objects inside of each other. Protobuf reads messages up to a depth of 100, an object takes three of
    it, and answers wrap a specification in more messages than requests do."""
    path: int = 32
    """Members of one path."""
    path_member_bytes: int = 256
    map_items: int = 10_000
    """Of a constant list."""
    map_lists: int = 16
    """That one step is mapped over."""
    map_levels: int = 32
    """Of maps that are nested in each other."""
    condition_bytes: int = 4 << 10
    conditions_bytes: int = 8 << 20
    """All conditions of a pipeline."""
    argv: int = 1_000
    command_bytes: int = 96 << 10
    """argv or the script: what an operating system passes to a process is bounded."""
    outputs: int = 100
    """Of one command."""
    file_bytes: int = 1_024
    exit_codes: int = 256
    env: int = 500
    """Variables, and the defaults' count apart."""
    env_bytes: int = 64 << 10
    """Names and values of one step's variables."""
    resources: int = 32
    """Custom ones of one step."""
    resource_amount: float = 1e15
    retry_attempts: int = 1_000
    retry_errors: int = 100
    """Of `retry_on`, and of `never_retry_on`."""
    error_name_bytes: int = 256
    concurrency: int = 100_000
    """Of a key, and of `max_active_runs`."""
    span: int = 366 * _DAY
    """Of timeouts and waits."""
    shortest_timeout: int = 1_000
    stop_grace: int = 3_600 * _SECOND
    priority: int = 1_000
    """Of a run, and of a step; as much below 0."""
    least_weight: float = 0.01
    most_weight: float = 100.0
    function_bytes: int = 512
    """Of a module's name, of a qualified name, and of the name of a template."""
    message_bytes: int = 40 << 20
    """One message of gRPC, in both directions. A specification of 100,000 steps has 6 to 10 MB. To carry much more
    takes longer than a refusal may."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How large a run may become. What is there already when a limit is lowered stays."""

    items: int = 100_000
    """Of one mapped step, on all its levels together."""
    inputs_bytes: int = 32 << 20
    """Of the inputs of one attempt as JSON in all, and of one output that is read for them. They travel as one
    message."""
    output_bytes: int = 1 << 20
    """Of the output of the run as JSON."""
    sub_pipeline_depth: int = 16
    """Runs of sub-pipelines inside of each other."""
    losses: int = 10
    """Accepted leases that a step run may lose in one generation, where its retry policy gives no number: with the
    last of them it fails."""


DEFAULT_RUN_LIMITS = RunLimits()
RUN_SETTINGS = {
    "items": "max_items_of_step",
    "inputs_bytes": "max_inputs_size",
    "output_bytes": "max_run_output_size",
    "sub_pipeline_depth": "max_sub_pipeline_depth",
    "losses": "max_losses",
}
"""The settings of `RunLimits`."""

RAISABLE = (
    "steps",
    "edges",
    "spec_bytes",
    "parameters",
    "labels",
    "inputs",
    "constants_bytes",
    "map_items",
    "condition_bytes",
    "conditions_bytes",
    "env",
    "env_bytes",
    "message_bytes",
)
"""Limits that an operator may raise by a setting, and lower."""
LOWERABLE = ("parameters_bytes", "value_bytes", "nesting", "name_length", "map_levels")
"""Limits that an operator may lower only: something else holds no more than the default."""


def setting_of(limit: str) -> str:
    """The name of the setting for a limit in `RAISABLE` or `LOWERABLE`: `max_steps`, `max_spec_size`."""
    size = limit.removesuffix("_bytes")
    return f"max_{size}_size" if size != limit else f"max_{limit}"


def or_raise(limit: str) -> str:
    """The end of a remedy: which setting the operator may raise."""
    if limit not in RAISABLE:
        raise ValueError(f"no setting raises {limit}")
    return f", or have the operator raise PENSTOCK_{setting_of(limit).upper()}"
