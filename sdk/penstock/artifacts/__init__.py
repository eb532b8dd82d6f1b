"""Artifacts: files, folders and values that steps make, kept in the artifact store by their digest."""

from penstock.artifacts.artifact import Artifact
from penstock.artifacts.codecs import Codec, register_codec

__all__ = ["Artifact", "Codec", "register_codec"]
