"""Where things of containers are on this machine: names of services are loopback ports, volumes are folders."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.e2e.compose_without_docker.definition import ROOT, Mount, Service
from tests.receiver import Receiver

from penstock.dev.ports import take_port


class Places:
    """Of one system, below one folder. What was asked for once stays the same."""

    def __init__(self, folder: Path, services: Mapping[str, Service]) -> None:
        self.folder = folder
        self.services = services
        self._names = "|".join(re.escape(name) for name in sorted(services, key=len, reverse=True))
        self.spans: list[Receiver] = []
        """Of what stands for Jaeger."""
        self._ports: dict[tuple[str, int], int] = {}

    def port(self, service: str, port: int) -> int:
        """Of the loopback address, for a port of a container."""
        if (service, port) not in self._ports:
            self._ports[service, port] = take_port(0, "")
        return self._ports[service, port]

    def found(self, service: str, port: int, chosen: int) -> None:
        """What listens there has chosen for itself."""
        self._ports[service, port] = chosen

    def address(self, service: str, port: int) -> str:
        return f"127.0.0.1:{self.port(service, port)}"

    def volume(self, name: str) -> Path:
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def mounted(self, service: Service) -> Path:
        """Has what the service finds in the checkout, by its paths in the container."""
        return self.folder / "mounted" / service.name

    def mount(self, service: Service) -> None:
        """Copies it there, with names of services and paths translated in configuration."""
        for mount in service.mounts:
            if not mount.is_volume:
                self._copy(service, Path(mount.source), self._place_of(service, mount))

    def translate(self, service: Service, text: str, of_the_image: Mapping[str, str] | None = None) -> str:
        """What a container of this service is told, as it is true here. `of_the_image`: files of the checkout by their
        paths in the image."""
        paths = {mount.target: str(self._place_of(service, mount)) for mount in service.mounts}
        paths |= {path: str(ROOT / source) for path, source in (of_the_image or {}).items()}

        def instead(match: re.Match[str]) -> str:
            if path := match["path"]:
                return paths[path]
            return self.address(match["name"] or service.name, int(match["port"]))

        return self._pattern(paths).sub(instead, text)

    def _pattern(self, paths: Iterable[str]) -> re.Pattern[str]:
        known = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True)) or "(?!)"
        address = rf"(?:(?P<name>{self._names})|0\.0\.0\.0|127\.0\.0\.1):(?P<port>\d+)\b"
        return re.compile(rf"(?<![\w.-]){address}|(?<![\w.])(?P<path>{known})(?![\w.-])")

    def _place_of(self, service: Service, mount: Mount) -> Path:
        return self.volume(mount.source) if mount.is_volume else self.mounted(service) / mount.target.lstrip("/")

    def _copy(self, service: Service, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
        for file in target.rglob("*.yml") if target.is_dir() else [target]:
            if file.suffix == ".yml":
                file.write_text(self.translate(service, file.read_text(encoding="utf-8")), encoding="utf-8")
