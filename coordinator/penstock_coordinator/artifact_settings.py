"""Settings of artifacts: where they are kept, how large they may be, and for how long."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ByteSize, Field
from pydantic_settings import NoDecode

from penstock_coordinator.setting_kinds import GIB, KIB, LONGEST, MIB, KeptFor, Span, size_of, span


def _store(given: str) -> str:
    if not given:
        return given
    parts = urlsplit(given)
    local = parts.scheme == "file" and not parts.netloc and parts.path.startswith("/") and not parts.query
    if not local and not (parts.scheme == "s3" and parts.netloc and "@" not in parts.netloc):
        raise ValueError(
            "is no place for artifacts: write file:///folder or s3://bucket/prefix?endpoint=https://host:port&region=name,"
            " and give credentials as AWS names them (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    return given


def _base(given: str) -> str:
    parts = urlsplit(given)
    if given and not (parts.scheme in ("http", "https") and parts.netloc and not parts.query):
        raise ValueError("is no URL: write for example http://coordinator.internal:7480")
    return given.rstrip("/")


def _spans(given: object) -> object:
    if not isinstance(given, str):
        return given
    spans: dict[str, object] = {}
    for part in given.split(",") if given.strip() else []:
        name, equals, text = part.strip().partition("=")
        if not equals or not name or name in spans:
            raise ValueError(f"{part.strip()!r} is no pipeline with a span: write for example train=90d,etl=2d")
        spans[name] = span(text)
    return spans


SpansOfPipelines = Annotated[dict[str, timedelta], NoDecode, BeforeValidator(_spans)]


class ArtifactSettings(BaseModel):
    """A part of the coordinator's settings."""

    artifacts_url: Annotated[str, AfterValidator(_store)] = Field(
        default="",
        description="where artifacts are kept: file:///folder, or s3://bucket/prefix?endpoint=URL&region=NAME;"
        " empty: the folder `artifacts` of the data folder",
    )
    http_url: Annotated[str, AfterValidator(_base)] = Field(
        default="",
        description="how agents and users reach the HTTP port for the artifacts of a local store: http://host:port;"
        " empty: where it listens",
    )
    max_artifact_size: ByteSize = Field(
        default=size_of(100, GIB), ge=KIB, le=5 * 1024 * GIB, description="of one artifact; 1KiB to 5120GiB"
    )
    artifact_part_size: ByteSize = Field(
        default=size_of(16, MIB), ge=5 * MIB, le=GIB, description="of the parts that uploads are cut into; 5MiB to 1GiB"
    )
    artifact_retention: KeptFor = Field(
        default=timedelta(0),
        ge=timedelta(0),
        le=LONGEST,
        description="how long an artifact is kept after it was made; 1s to 3650d, 0s: as long as its run",
    )
    artifact_retention_of: SpansOfPipelines = Field(
        default_factory=dict,
        description="the same for single pipelines: train=90d,etl=2d",
    )
    artifacts_kept: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="newest artifacts of each name of a step of a pipeline that are kept; 0: all",
    )
    artifact_grace: Span = Field(
        default=timedelta(days=1),
        ge=timedelta(hours=1),
        le=timedelta(days=30),
        description="how long bytes stay that are no artifact, or none any more; 1h to 30d",
    )
