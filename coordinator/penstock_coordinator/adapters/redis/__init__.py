"""Adapters of ports to Redis (or Valkey). Imported when there is one: the client takes its time and memory."""

from __future__ import annotations

from penstock_coordinator.adapters.redis.hot_state import RedisHotState

__all__ = ["RedisHotState"]
