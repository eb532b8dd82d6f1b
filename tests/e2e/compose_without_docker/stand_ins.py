"""What is run in place of the images of others: the same programs out of packages, or others of the same protocol."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import redis.asyncio
from tests.debian import program
from tests.e2e.compose_without_docker.definition import Service
from tests.e2e.compose_without_docker.places import Places
from tests.e2e.compose_without_docker.processes import answers, running
from tests.receiver import receiving
from tests.seaweed import running_seaweed
from tests.valkey import server_program

from penstock.dev.postgres import EmbeddedPostgres

Healthy = Callable[[], Awaitable[bool]]
StandIn = Callable[[Service, Places], AbstractAsyncContextManager[Healthy]]

NOT_STARTED = {
    "bucket": "what stands for MinIO makes the bucket and the user itself, as it starts",
    "grafana": "it is in no package; its dashboards have tests of their own",
}


def stand_in(service: Service) -> StandIn:
    """By the name of the image, whatever its tag."""
    return _BY_IMAGE[service.image.rpartition(":")[0]]


@asynccontextmanager
async def _postgres(service: Service, places: Places) -> AsyncIterator[Healthy]:
    """PostgreSQL out of a wheel, with the options of the command and the password of the environment."""
    options = dict(word.split("=", 1) for word in service.command if "=" in word)
    folder = places.volume("postgres-data")
    (folder / "password").write_text(service.environment["POSTGRES_PASSWORD"])
    port = places.port("postgres", 5432)
    async with EmbeddedPostgres(folder, port=port, settings={**options, "fsync": "off"}):
        yield _at_once


@asynccontextmanager
async def _redis(service: Service, places: Places) -> AsyncIterator[Healthy]:
    """Valkey, under the name of Redis: so the command stays as it is. It says no port: that is the image's."""
    port = places.port("redis", 6379)
    programs = places.folder / "programs"
    programs.mkdir()
    named = programs / "redis-server"
    named.write_text(f'#!/bin/sh\nexec {server_program()} --port {port} --bind 127.0.0.1 "$@"\n')
    named.chmod(0o755)
    environment = {**service.environment, "PATH": f"{programs}:{os.environ['PATH']}"}

    async def healthy() -> bool:
        password = service.environment["REDISCLI_AUTH"]
        async with redis.asyncio.Redis(port=port, password=password, socket_timeout=5) as client:
            try:
                return bool(await client.ping())
            except (redis.RedisError, OSError):
                return False

    async with running(service.name, service.command, environment, places.folder):
        yield healthy


@asynccontextmanager
async def _minio(_service: Service, places: Places) -> AsyncIterator[Healthy]:
    """SeaweedFS, which chooses its ports itself."""
    keys = places.services["coordinator-1"].environment
    server = running_seaweed(places.volume("minio-data"), keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"])
    endpoint = (await asyncio.to_thread(server.__enter__)).endpoint
    try:
        places.found("minio", 9000, int(endpoint.rpartition(":")[2]))
        yield _at_once
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)


@asynccontextmanager
async def _jaeger(service: Service, places: Places) -> AsyncIterator[Healthy]:
    """A receiver of OTLP in this process."""
    with receiving(places.address(service.name, 4317)) as receiver:
        places.spans.append(receiver)
        yield _at_once


def _of_debian(name: str) -> StandIn:
    @asynccontextmanager
    async def started(service: Service, places: Places) -> AsyncIterator[Healthy]:
        places.mount(service)
        _hurry(service, places)
        command = [places.translate(service, word) for word in service.command]
        found = await asyncio.to_thread(program, name)

        async def healthy() -> bool:
            assert service.healthcheck[:2] == ["CMD", "wget"]
            return await answers(places.translate(service, service.healthcheck[-1]))

        async with running(service.name, [found, *command], {"PATH": os.environ["PATH"]}, places.folder):
            yield healthy

    return started


def _hurry(service: Service, places: Places) -> None:
    """Prometheus asks every second where its file says 15, so that nobody has to wait for what is there."""
    for file in places.mounted(service).rglob("prometheus.yml"):
        file.write_text(re.sub(r"(_interval: )\w+", r"\g<1>1s", file.read_text()))


async def _at_once() -> bool:
    return True


_BY_IMAGE: dict[str, StandIn] = {
    "postgres": _postgres,
    "redis": _redis,
    "minio/minio": _minio,
    "jaegertracing/jaeger": _jaeger,
    "prom/prometheus": _of_debian("prometheus"),
    "prom/alertmanager": _of_debian("alertmanager"),
}
