"""The environments of one agent, if it can make any."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from penstock_agent.environment_settings import EnvironmentSettings
from penstock_agent.environments.builds import BuildLimits, Environments
from penstock_agent.environments.shelf import Shelf
from penstock_agent.environments.uv import Uv, find_uv


def open_environments(
    settings: EnvironmentSettings, folder: Path, env: Mapping[str, str], mark: str, in_use: Callable[[], set[str]]
) -> Environments:
    """`folder` is where they are unless the settings say another. Raises `NoUv`, and OSError for the folder."""
    uv = Uv(find_uv(), env, mark, downloads_python=settings.environments_python_downloads)
    limits = BuildLimits(
        settings.environments_builds,
        settings.environments_build_timeout,
        settings.environments_count,
        settings.environments_bytes,
    )
    return Environments(Shelf(settings.environments_dir or folder), uv, limits, in_use)
