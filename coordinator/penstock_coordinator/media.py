"""By what coordinators tell each other what they have to do: what the settings say, opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock_coordinator.adapters.memory.hot_state import MemoryBoard, MemoryPost
from penstock_coordinator.adapters.postgres.hot_state import PostgresHotState
from penstock_coordinator.adapters.system import SystemClock
from penstock_coordinator.identity import CannotStart
from penstock_coordinator.runtime.board_failover import Medium

if TYPE_CHECKING:
    from penstock_coordinator.adapters.redis import RedisHotState
    from penstock_coordinator.settings import Settings


@dataclass(frozen=True, slots=True)
class Media:
    """None of them is connected to before it is used."""

    memory: Medium
    postgres: Medium
    redis: Medium | None
    _postgres: PostgresHotState
    _redis: RedisHotState | None

    async def aclose(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()
        await self._postgres.aclose()


async def open_media(settings: Settings, coordinator_id: str) -> Media:
    """Raises `CannotStart`."""
    clock = SystemClock()
    memory = Medium("memory", MemoryBoard(clock), MemoryPost(clock))
    postgres = await PostgresHotState.open(settings.database_url.get_secret_value(), coordinator_id)
    redis = _open_redis(settings, coordinator_id)
    return Media(
        memory,
        Medium("postgresql", postgres.board, postgres.post),
        None if redis is None else Medium("redis", redis.board, redis.post, redis.probe),
        postgres,
        redis,
    )


def _open_redis(settings: Settings, coordinator_id: str) -> RedisHotState | None:
    """Its client takes time and memory, so it is imported where it is used."""
    if settings.redis_url is None:
        return None
    try:
        from penstock_coordinator.adapters.redis import RedisHotState
    except ModuleNotFoundError as error:
        raise CannotStart(f"PENSTOCK_REDIS_URL is set, and its client is not installed ({error.name})") from None
    return RedisHotState(settings.redis_url.get_secret_value(), settings.redis_namespace, coordinator_id)
