"""What requests and results say of artifacts, in the core's form."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from penstock_coordinator.api.errors import invalid, shown
from penstock_coordinator.api.fields import name_of, run_id_of, text_of
from penstock_coordinator.core.plan.references import (
    KINDS,
    MOST_METADATA_BYTES,
    MOST_NAME_BYTES,
    BadReference,
    is_digest,
    is_media_type,
    is_word,
    problems_of_name,
)
from penstock_coordinator.core.run.events import MadeArtifact
from penstock_coordinator.ports import ArtifactFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.agent.v1 import agent_service_pb2 as wire
    from penstock.v1 import artifact_service_pb2 as pb
    from penstock_coordinator.ports import RunId

MOST_OF_RESULT = 1_000
LARGEST_SIZE = 2**62
_ID = re.compile(r"([0-9a-fA-F-]{36}):([1-9][0-9]{0,17}):(0|[1-9][0-9]{0,5})")


def made_artifacts(artifacts: Sequence[wire.OutputArtifact]) -> tuple[MadeArtifact, ...]:
    """Of a result. Raises `BadReference`."""
    if len(artifacts) > MOST_OF_RESULT:
        raise BadReference(f"{len(artifacts):,} artifacts, and {MOST_OF_RESULT:,} is the limit: use folders")
    return tuple(_made(each, f"artifacts[{number}]") for number, each in enumerate(artifacts))


def _made(given: wire.OutputArtifact, field: str) -> MadeArtifact:
    if (problem := problems_of_name(given.name)) is not None:
        raise BadReference(f"{field}.name: {problem}")
    if not is_digest(given.digest):
        raise BadReference(f'{field}.digest: must be "sha256:" and 64 hex digits in lower case')
    if not 0 <= given.size_bytes <= LARGEST_SIZE:
        raise BadReference(f"{field}.size_bytes: must be 0 or more")
    if given.kind not in KINDS:
        raise BadReference(f"{field}.kind: must be value, file or dir")
    if given.codec and not is_word(given.codec):
        raise BadReference(f"{field}.codec: must be a name of letters, digits, dots and dashes")
    if not is_media_type(given.media_type):
        raise BadReference(f"{field}.media_type: must be at most 255 printable ASCII characters")
    return MadeArtifact(
        given.name,
        given.digest,
        given.size_bytes,
        given.media_type,
        given.kind,
        given.codec,
        _metadata(given.metadata, field),
    )


def _metadata(given: bytes, field: str) -> bytes:
    if len(given) > MOST_METADATA_BYTES:
        raise BadReference(f"{field}.metadata: has {len(given):,} bytes, and {MOST_METADATA_BYTES:,} is the limit")
    if not given:
        return b""
    try:
        if isinstance(json.loads(given.decode()), dict):
            return given
    except (ValueError, RecursionError):
        pass
    raise BadReference(f"{field}.metadata: must be a JSON object in UTF-8")


# --- of requests


def digest_of(text: str, field: str) -> str:
    if not is_digest(text):
        raise invalid(field, f'{shown(text)} is no digest: it is "sha256:" and 64 hex digits in lower case')
    return text


def artifact_id_of(text: str) -> tuple[RunId, int, int] | str:
    """An id; or a digest."""
    if not text:
        raise invalid("id", "is required: an id or a digest, as `penstock artifacts list` (List) gives them")
    if is_digest(text):
        return text
    found = _ID.fullmatch(text)
    if found is None:
        raise invalid(
            "id",
            f"{shown(text)} is neither the id of an artifact nor a digest: `penstock artifacts list` (List) shows them",
        )
    return run_id_of(found[1], "id"), int(found[2]), int(found[3])


def artifact_filter(chosen: pb.ArtifactSelection, field: str) -> ArtifactFilter:
    return ArtifactFilter(
        run_id=run_id_of(chosen.run_id, f"{field}.run_id") if chosen.run_id else None,
        step=name_of(chosen.step, f"{field}.step", "a step") if chosen.step else "",
        digest=digest_of(chosen.digest, f"{field}.digest") if chosen.digest else "",
        pipeline=name_of(chosen.pipeline, f"{field}.pipeline", "a pipeline") if chosen.pipeline else "",
        name=text_of(chosen.name, f"{field}.name", MOST_NAME_BYTES),
    )
