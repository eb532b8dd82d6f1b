"""The system of the tests of artifacts, with either store."""

from __future__ import annotations

from tests.e2e.artifacts.conftest import cluster, store_url

__all__ = ["cluster", "store_url"]
