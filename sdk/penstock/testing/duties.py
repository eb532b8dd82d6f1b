"""What a coordinator of the simulation does once it is committed: one function for each kind of command."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock_coordinator.core.run.commands import (
    AcknowledgeResult,
    AckStatus,
    AskCache,
    AwaitLease,
    CallBackLease,
    CancelChild,
    CloseRun,
    Command,
    ContinueRun,
    EndReservation,
    GrantLeases,
    KeepReservation,
    PauseChild,
    ResumeChild,
    StartChild,
    StopAttempt,
)
from penstock_coordinator.core.run.messages import Continue
from penstock_coordinator.runtime.actor import Mail

if TYPE_CHECKING:
    from penstock.testing.coordinator import Coordinator
    from penstock_coordinator.runtime.actor import Actor


def acknowledge(coordinator: Coordinator, actor: Actor, command: AcknowledgeResult) -> None:
    key = (actor.run_id, command.step, command.item)
    coordinator.fleet.leasing.end(key, command.token)
    session, status = coordinator.fleet.session(command.session), int(command.status)
    if command.status is AckStatus.COMMITTED:
        coordinator.fleet.settled(command.result_id)
    if session is not None:
        if command.status is AckStatus.STALE:
            status = coordinator.fleet.status_of_late(command.result_id)
        session.acknowledge(key, command.token, command.result_id, status)


def go_on(coordinator: Coordinator, actor: Actor, _: Command) -> None:
    actor.post(Mail(Continue(coordinator.clock.now())))


def grant(coordinator: Coordinator, actor: Actor, command: GrantLeases) -> None:
    coordinator.fleet.grant(actor, command)


def stop(coordinator: Coordinator, actor: Actor, command: StopAttempt) -> None:
    coordinator.fleet.stop(actor, command)


def call_back(coordinator: Coordinator, actor: Actor, command: CallBackLease) -> None:
    coordinator.fleet.call_back(actor, command)


def await_lease(coordinator: Coordinator, actor: Actor, command: AwaitLease) -> None:
    coordinator.fleet.await_lease(actor, command)


def steer(coordinator: Coordinator, actor: Actor, command: StartChild | CancelChild | PauseChild | ResumeChild) -> None:
    coordinator.children.execute(actor.run_id, command)


def ask_cache(coordinator: Coordinator, actor: Actor, command: AskCache) -> None:
    coordinator.caching.ask(actor, command)


def keep_reservation(coordinator: Coordinator, actor: Actor, command: KeepReservation) -> None:
    coordinator.caching.keep(actor, command)


def end_reservation(coordinator: Coordinator, actor: Actor, command: EndReservation) -> None:
    coordinator.caching.end(actor, command)


def close(coordinator: Coordinator, actor: Actor, _: Command) -> None:
    if actor.run.at_rest:
        coordinator.give_up(actor)


DUTIES: dict[type, Callable[[Coordinator, Actor, Any], None]] = {
    GrantLeases: grant,
    AcknowledgeResult: acknowledge,
    StopAttempt: stop,
    CallBackLease: call_back,
    StartChild: steer,
    CancelChild: steer,
    PauseChild: steer,
    ResumeChild: steer,
    AskCache: ask_cache,
    KeepReservation: keep_reservation,
    EndReservation: end_reservation,
    ContinueRun: go_on,
    CloseRun: close,
    AwaitLease: await_lease,
}
