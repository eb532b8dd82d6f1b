"""Who has what of the agent's resources. Pure.

A coordinator gives no more leases than fit together; but an attempt that it has given up still lives here until it is
dead. So what an attempt asks for is taken here before it starts, and is free again when nothing of it runs any more.
Whoever does not fit waits, and those who ask after it wait behind it: else a large one would wait for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from penstock_agent.core.leases import Handle

GPU = "gpu"
_HAIR = 1e-9
"""Thirds of a core add up to a core."""


@dataclass(frozen=True, slots=True)
class Share:
    """What an attempt has got."""

    wants: Mapping[str, float]
    parts: tuple[tuple[str, float], ...] = ()
    """Devices, each with how much of it."""

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(device for device, _ in self.parts)


class Stock:
    """Of one agent."""

    def __init__(self, has: Mapping[str, float], devices: Sequence[str] = ()) -> None:
        self._has = dict(has)
        self._free = dict(has)
        self._devices = dict.fromkeys(devices, 1.0)
        """What is free of each."""
        self._shares: dict[Handle, Share] = {}
        self._waiting: dict[Handle, Mapping[str, float]] = {}

    def missing(self, wants: Mapping[str, float]) -> list[tuple[str, float, float]]:
        """(name, wanted, had) of all that the agent has never enough of."""
        return [
            (name, amount, self._has.get(name, 0.0))
            for name, amount in wants.items()
            if amount > self._has.get(name, 0.0) + _HAIR
        ]

    def ask(self, handle: Handle, wants: Mapping[str, float]) -> Share | None:
        """None: it waits, and `release` or `withdraw` of another one tells when it is served."""
        share = None if self._waiting else self._take(handle, wants)
        if share is None:
            self._waiting[handle] = wants
        return share

    def release(self, handle: Handle) -> list[tuple[Handle, Share]]:
        """What it had is free, if it had anything. Those that are served by that, in the order in which they asked."""
        share = self._shares.pop(handle, None)
        if share is None:
            return []
        for name, amount in share.wants.items():
            self._free[name] = min(self._free[name] + amount, self._has[name])
        for device, amount in share.parts:
            self._devices[device] = min(self._devices[device] + amount, 1.0)
        return self._serve()

    def withdraw(self, handle: Handle) -> list[tuple[Handle, Share]]:
        """It waits no more. Those that are served by that."""
        return [] if self._waiting.pop(handle, None) is None else self._serve()

    @property
    def waiting(self) -> list[Handle]:
        return list(self._waiting)

    def _serve(self) -> list[tuple[Handle, Share]]:
        served: list[tuple[Handle, Share]] = []
        for handle, wants in list(self._waiting.items()):
            share = self._take(handle, wants)
            if share is None:
                break
            del self._waiting[handle]
            served.append((handle, share))
        return served

    def _take(self, handle: Handle, wants: Mapping[str, float]) -> Share | None:
        if any(amount > self._free.get(name, 0.0) + _HAIR for name, amount in wants.items() if amount > 0):
            return None
        parts = self._choose(wants.get(GPU, 0.0))
        if parts is None:
            return None
        held = {name: amount for name, amount in wants.items() if amount > 0}
        for name, amount in held.items():
            self._free[name] -= amount
        for device, amount in parts:
            self._devices[device] -= amount
        share = self._shares[handle] = Share(held, parts)
        return share

    def _choose(self, amount: float) -> tuple[tuple[str, float], ...] | None:
        """Whole devices, and for what is left the fullest one that has it: so that others stay whole."""
        whole, rest = int(amount + _HAIR), amount - int(amount + _HAIR)
        idle = [device for device, free in self._devices.items() if free > 1 - _HAIR]
        if len(idle) < whole:
            return None
        parts = [(device, 1.0) for device in idle[:whole]]
        if rest > _HAIR:
            taken = set(idle[:whole])
            fitting = [(free, d) for d, free in self._devices.items() if d not in taken and free + _HAIR >= rest]
            if not fitting:
                return None
            parts.append((min(fitting, key=lambda each: each[0])[1], rest))
        return tuple(parts)
