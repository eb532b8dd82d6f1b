"""The settings of this process's own log."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from penstock_coordinator.log_levels import spelled


class LogSettings(BaseModel):
    log_level: Annotated[str, AfterValidator(spelled)] = Field(
        default="info",
        description="the least of this process's own log messages that are written: debug, info, warning or error, and"
        " others for single loggers: info,penstock_coordinator.runtime=debug",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        default="auto", description="json: a line each; console: for people; auto: console on a terminal, else json"
    )
