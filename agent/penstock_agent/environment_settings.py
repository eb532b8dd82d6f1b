"""The settings of the environments that the agent builds for steps."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings


class EnvironmentSettings(BaseSettings):
    environments_dir: Path | None = Field(
        default=None,
        description="for the environments of steps; agents of a machine may share it; unset: in the data folder",
    )
    environments_build_timeout: float = Field(
        default=600.0, ge=1, le=86_400, description="seconds that the build of an environment may take"
    )
    environments_builds: int = Field(default=2, ge=1, le=64, description="environments that are built at once")
    environments_count: int = Field(default=32, ge=0, le=10_000, description="environments that are kept")
    environments_bytes: int = Field(default=10 * 2**30, ge=0, description="of the environments that are kept")
    environments_python_downloads: bool = Field(
        default=False, description="uv may download an interpreter that a step asks for and the machine does not have"
    )
