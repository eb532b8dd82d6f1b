"""Settings of several coordinators on one database: which of them owns the runs, and how the others reach it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field

from penstock_coordinator.setting_kinds import Span


def _reached_at(given: str) -> str:
    host, colon, port = given.strip().rpartition(":")
    if given and (not colon or not host or "/" in given or not port.isdecimal() or not 0 < int(port) < 65_536):
        raise ValueError("is no host:port: write for example coordinator-1.internal:7400")
    return given.strip()


class OwnershipSettings(BaseModel):
    advertised_address: Annotated[str, AfterValidator(_reached_at)] = Field(
        default="",
        description="host:port at which agents, users and other coordinators reach gRPC; unset: where it listens",
    )
    ownership_lease: Span = Field(
        default=timedelta(seconds=10),
        ge=timedelta(milliseconds=500),
        le=timedelta(minutes=10),
        description="after so long without a renewal (each third of it) another coordinator takes over; 500ms to 10m",
    )
    join: Literal["never", "auto"] = Field(
        default="never",
        description="whether one that follows joins the head as a member, and owns free runs too: never or auto",
    )
