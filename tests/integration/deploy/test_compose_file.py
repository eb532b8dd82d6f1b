"""docker-compose.yml, .env.example and the Dockerfiles. `make check` holds them against their schema and hadolint."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.e2e.compose_without_docker.definition import (
    FILE,
    ROOT,
    Refused,
    Service,
    read_definition,
    read_variables,
    rendered,
)
from tests.e2e.compose_without_docker.image import read_image

from penstock_agent.settings import AgentSettings
from penstock_coordinator.settings import Settings

TEXT = FILE.read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
VARIABLES = {name: value or "chosen" for name, value in read_variables(EXAMPLE).items()}
SECRETS = [name for name, value in read_variables(EXAMPLE).items() if not value]
DOCKERFILES = sorted((ROOT / "deploy/docker").glob("*.Dockerfile"))


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    return read_definition(VARIABLES)


@pytest.fixture(scope="module")
def lasting(services: dict[str, Service]) -> list[Service]:
    """Those that do not end by themselves."""
    return [each for each in services.values() if each.raw["restart"] != "no"]


def test_docker_compose_takes_it_and_everything_is_there(services: dict[str, Service]) -> None:
    assert set(services) == {
        *("postgres", "redis", "minio", "bucket", "migrate", "coordinator-1", "coordinator-2"),
        *("agent-1", "agent-2", "agent-3", "jaeger", "prometheus", "alertmanager", "grafana", "seed"),
    }


@pytest.mark.parametrize("name", SECRETS)
def test_no_password_and_no_key_has_a_default(name: str) -> None:
    with pytest.raises(Refused, match=rf"\$\{{{name}:\?write one into \.env"):
        rendered({other: value for other, value in VARIABLES.items() if other != name})


def test_each_variable_is_told_of_in_the_example_and_each_one_told_of_is_used() -> None:
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", TEXT))
    told = set(read_variables(EXAMPLE)) | set(re.findall(r"\b([A-Z][A-Z0-9_]+)=", EXAMPLE))
    assert used | {"COMPOSE_PROJECT_NAME"} == told
    defaults = dict(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    for name, default in defaults.items():
        assert f"{name}={default}" in EXAMPLE


def test_images_are_pinned_by_a_tag_of_a_version(services: dict[str, Service]) -> None:
    for service in services.values():
        _, _, tag = service.image.partition(":")
        assert re.search(r"\d", tag), service.image


def test_every_port_is_one_of_the_chosen_address(services: dict[str, Service]) -> None:
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.published), service.name
    assert not services["postgres"].published
    assert not services["redis"].published


def test_every_service_has_limits_and_can_gain_no_rights(services: dict[str, Service]) -> None:
    for service in services.values():
        assert {"mem_limit", "cpus", "pids_limit", "restart", "logging"} <= set(service.raw), service.name
        assert service.raw["security_opt"] == ["no-new-privileges:true"]


def test_who_waits_for_health_waits_for_one_that_tells_it(services: dict[str, Service]) -> None:
    for service in services.values():
        for other, condition in service.depends_on.items():
            if condition == "service_healthy":
                awaited = services[other]
                assert awaited.healthcheck or read_image(ROOT / awaited.dockerfile).healthcheck, other
            if condition == "service_completed_successfully":
                assert services[other].raw["restart"] == "no"


def test_the_schema_is_there_before_a_coordinator_and_coordinators_before_agents(services: dict[str, Service]) -> None:
    for name in ("coordinator-1", "coordinator-2"):
        assert services[name].depends_on["migrate"] == "service_completed_successfully"
        assert services[name].depends_on["bucket"] == "service_completed_successfully"
        assert "--no-migrate" in services[name].command
        assert services["agent-1"].depends_on[name] == "service_healthy"


def test_what_lasts_is_told_to_be_healthy_or_not(lasting: list[Service]) -> None:
    for service in lasting:
        assert service.healthcheck or read_image(ROOT / service.dockerfile).healthcheck, service.name


def test_no_two_share_a_volume_and_what_is_mounted_is_there(services: dict[str, Service]) -> None:
    volumes = [mount.source for service in services.values() for mount in service.mounts if mount.is_volume]
    assert len(volumes) == len(set(volumes))
    for service in services.values():
        for mount in service.mounts:
            assert mount.is_volume or Path(mount.source).exists(), mount


def test_every_setting_that_is_given_is_one(services: dict[str, Service]) -> None:
    of_coordinators = {f"PENSTOCK_{name.upper()}" for name in Settings.model_fields}
    of_agents = {f"PENSTOCK_AGENT_{name.upper()}" for name in AgentSettings.model_fields}
    for service in services.values():
        given = {name for name in service.environment if name.startswith("PENSTOCK_")}
        if "coordinator" in service.image:
            assert given <= of_coordinators, service.name
        else:
            assert given <= of_agents | {"PENSTOCK_ADDRESS", "PENSTOCK_CONTAINER_ENGINE"}, service.name


def test_steps_do_not_reach_databases(services: dict[str, Service]) -> None:
    for name in ("agent-1", "agent-2", "agent-3", "seed"):
        assert "stores" not in services[name].raw["networks"]
    for name in ("postgres", "redis"):
        assert list(services[name].raw["networks"]) == ["stores"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_images_run_as_nobody_of_note_behind_a_first_process(dockerfile: Path) -> None:
    image = read_image(dockerfile)
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", image.base)
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", image.user)
    assert image.entrypoint == ["tini", "--", "penstock"]
    assert image.command
    assert image.healthcheck[:2] == ["python", "/usr/local/lib/penstock/probe.py"]
    assert "constraints.txt" in dockerfile.read_text(encoding="utf-8")
