"""The name of a pipeline version: the digest of its content."""

from __future__ import annotations

import hashlib

from penstock.v1.pipeline_pb2 import PipelineSpec


def digest_of(spec: PipelineSpec) -> str:
    """Hex SHA-256 of the specification's deterministic serialisation: fields by number, maps by key.

    Equal specifications have equal digests, however they were written down (JSON, YAML, another order of a map's
    entries, numbers encoded at length); what this release does not know of is no part of it. Protobuf promises this
    encoding within one release of its library only. A canonical form of our own costs 50 times as much for a large
    pipeline, so the encoding is pinned by a test instead: a specification with every field in it has a digest on
    record. Should a library ever encode differently, the same content becomes a new version, and nothing else breaks.
    """
    known = PipelineSpec()
    known.CopyFrom(spec)
    known.DiscardUnknownFields()
    return hashlib.sha256(known.SerializeToString(deterministic=True)).hexdigest()
