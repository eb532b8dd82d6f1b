"""How much a pipeline matters to those who promise its runs something: its label `slo_tier`."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LABEL = "slo_tier"


class SloTier(enum.IntEnum):
    """The numbers are positions in lists of counts, those that matter most first; they are stored nowhere."""

    CRITICAL = 0
    DEFAULT = 1
    NON_CRITICAL = 2

    @property
    def label(self) -> str:
        """As people write it."""
        return self.name.lower().replace("_", "-")


TIERS = {tier.label: tier for tier in SloTier}
"""By what people write."""


def tier_of(labels: Mapping[str, str]) -> SloTier:
    """Of a pipeline with these labels. Without the label, or with a value of before there were tiers: the default."""
    return TIERS.get(labels.get(LABEL, ""), SloTier.DEFAULT)
