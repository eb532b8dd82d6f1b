"""What can go wrong with a development cluster."""

from __future__ import annotations

from penstock.errors import PenstockError


class DevClusterError(PenstockError):
    """The development cluster cannot start, or cannot go on."""


class DataFolderBusyError(DevClusterError):
    """Another cluster runs on the data folder. `pid` is its process id, 0 if it is not known."""

    def __init__(self, message: str, *, remedy: str, pid: int) -> None:
        super().__init__(message, remedy=remedy)
        self.pid = pid


class PortBusyError(DevClusterError):
    """A port that was asked for is taken."""


class ChildFailedError(DevClusterError):
    """A process of the cluster ends again and again, or did not become ready."""
