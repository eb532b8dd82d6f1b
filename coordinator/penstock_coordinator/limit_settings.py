"""Settings of how large pipelines and runs may be."""

from __future__ import annotations

from pydantic import BaseModel, ByteSize, Field

from penstock_coordinator.setting_kinds import KIB, MIB, size_of


class LimitSettings(BaseModel):
    """A part of the coordinator's settings."""

    # The defaults are those of `Limits`: what may be large in a pipeline.
    max_steps: int = Field(default=100_000, ge=1, le=500_000, description="steps of a pipeline; 1 to 500,000")
    max_edges: int = Field(
        default=1_000_000,
        ge=1,
        le=5_000_000,
        description="dependencies and inputs of a pipeline, in all; 1 to 5,000,000",
    )
    max_spec_size: ByteSize = Field(
        default=size_of(32, MIB), ge=KIB, le=63 * MIB, description="of a specification; 1KiB to 63MiB"
    )
    max_parameters: int = Field(default=1_000, ge=1, le=10_000, description="parameters of a pipeline; 1 to 10,000")
    max_parameters_size: ByteSize = Field(
        default=size_of(1, MIB), ge=KIB, le=MIB, description="of a run's parameters as JSON; 1KiB to 1MiB"
    )
    max_labels: int = Field(default=64, ge=1, le=256, description="labels of a pipeline, a step, a run; 1 to 256")
    max_inputs: int = Field(default=1_000, ge=1, le=10_000, description="inputs of a step; 1 to 10,000")
    max_map_items: int = Field(
        default=10_000, ge=1, le=100_000, description="items of a constant list to map over; 1 to 100,000"
    )
    max_value_size: ByteSize = Field(
        default=size_of(256, KIB), ge=KIB, le=256 * KIB, description="of one constant; 1KiB to 256KiB"
    )
    max_constants_size: ByteSize = Field(
        default=size_of(16, MIB), ge=KIB, le=48 * MIB, description="of all constants of a pipeline; 1KiB to 48MiB"
    )
    max_name_length: int = Field(
        default=128, ge=1, le=128, description="characters of names of pipelines, steps and others; 1 to 128"
    )
    max_map_levels: int = Field(default=32, ge=1, le=32, description="levels of nested maps; 1 to 32")
    max_nesting: int = Field(default=28, ge=1, le=28, description="lists and objects inside of each other; 1 to 28")
    max_condition_size: ByteSize = Field(
        default=size_of(4, KIB), ge=64, le=16 * KIB, description="of one condition; 64B to 16KiB"
    )
    max_conditions_size: ByteSize = Field(
        default=size_of(8, MIB), ge=KIB, le=32 * MIB, description="of all conditions of a pipeline; 1KiB to 32MiB"
    )
    max_env: int = Field(default=500, ge=1, le=5_000, description="environment variables of a step; 1 to 5,000")
    max_env_size: ByteSize = Field(
        default=size_of(64, KIB),
        ge=KIB,
        le=256 * KIB,
        description="of a step's environment variables; 1KiB to 256KiB",
    )
    max_message_size: ByteSize = Field(
        default=size_of(40, MIB), ge=MIB, le=64 * MIB, description="of one message of gRPC; 1MiB to 64MiB"
    )

    # The defaults are those of `RunLimits`: how large a run may become.
    max_items_of_step: int = Field(
        default=100_000, ge=1, le=500_000, description="items of a mapped step, on all levels together; 1 to 500,000"
    )
    max_inputs_size: ByteSize = Field(
        default=size_of(32, MIB), ge=KIB, le=32 * MIB, description="of the inputs of one attempt; 1KiB to 32MiB"
    )
    max_run_output_size: ByteSize = Field(
        default=size_of(1, MIB), ge=KIB, le=4 * MIB, description="of the output of a run; 1KiB to 4MiB"
    )
    max_sub_pipeline_depth: int = Field(
        default=16, ge=1, le=64, description="runs of sub-pipelines inside of each other; 1 to 64"
    )
    max_losses: int = Field(
        default=10,
        ge=1,
        le=1_000,
        description="agents that may be lost while they run one step before it fails, where its retry policy does not"
        " say; 1 to 1,000",
    )
    max_watchers: int = Field(
        default=5_000, ge=1, le=9_000, description="who follow events or logs of runs, in all; 1 to 9,000"
    )
    max_watchers_of_run: int = Field(
        default=1_000, ge=1, le=9_000, description="who follow events or logs of one run; 1 to 9,000"
    )
