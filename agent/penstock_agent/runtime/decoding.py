"""What a coordinator says, in the words of the core. Nothing here decides."""

from __future__ import annotations

from penstock.agent.v1 import agent_service_pb2 as wire
from penstock_agent.containers.orders import CONTAINER, Image
from penstock_agent.core import inputs as said
from penstock_agent.core.leases import Grant
from penstock_agent.core.links import Peer
from penstock_agent.environments.order import PythonOrder
from penstock_agent.executors.channel import CommandWork, FunctionWork, OutputSource
from penstock_agent.executors.warm import WorkerKind
from penstock_agent.runtime.wire import TaskKind, UnknownTask, Work, lease_key, microseconds

DEFAULT_STOP_GRACE = 10_000_000
"""When neither the task nor the coordinator says anything."""


class Decoder:
    """Of one stream: its table of tasks ends with it."""

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.stop_grace = DEFAULT_STOP_GRACE
        self._tasks: dict[int, TaskKind | UnknownTask] = {}

    def decode(self, message: wire.CoordinatorMessage) -> said.Input | None:
        """None: a word that this version does not know. ValueError: the message contradicts the protocol."""
        body = message.WhichOneof("body")
        stream = self.stream
        match body:
            case "lease_grants":
                return self._grants(message.lease_grants)
            case "result_acks":
                acks = [(lease_key(ack.lease), ack.lease.token, ack.result_id) for ack in message.result_acks.acks]
                return said.ResultsAcked(stream, acks)
            case "heartbeat_ack":
                ack = message.heartbeat_ack
                revoked = [(lease_key(ref), ref.token) for ref in ack.revoked]
                return said.HeartbeatAcked(stream, ack.basis_seq, microseconds(ack.ttl), revoked, ack.echo)
            case "lease_verdicts":
                return self._verdicts(message.lease_verdicts)
            case "cancel":
                return said.CancelOrdered(
                    stream,
                    [
                        (lease_key(each.lease), each.lease.token, each.reason, microseconds(each.grace))
                        for each in message.cancel.leases
                    ],
                )
            case "return_leases":
                return said.ReturnOrdered(stream, [(lease_key(ref), ref.token) for ref in message.return_leases.leases])
            case _:
                return self._of_session(message, body)

    def _of_session(self, message: wire.CoordinatorMessage, body: str | None) -> said.Input | None:
        stream = self.stream
        match body:
            case "welcome":
                return self._welcome(message.welcome)
            case "pause":
                return said.Paused(stream, message.pause.reason)
            case "resume":
                return said.Resumed(stream)
            case "drain":
                return said.DrainOrdered(stream, microseconds(message.drain.deadline), message.drain.reason)
            case "goaway":
                after = microseconds(message.goaway.reconnect_after)
                return said.GoawayOrdered(stream, message.goaway.reason, after, message.goaway.message)
            case "redirect":
                return said.Redirected(stream, message.redirect.address)
            case "peers":
                peers = [Peer(each.coordinator_id, each.address, each.epoch) for each in message.peers.members]
                return said.PeersNamed(stream, peers)
            case "moved":
                return said.RunsMoved(stream, list(message.moved.run_ids))
            case _:
                return None

    def _welcome(self, welcome: wire.Welcome) -> said.Welcomed:
        if welcome.HasField("stop_grace"):
            self.stop_grace = microseconds(welcome.stop_grace)
        return said.Welcomed(
            stream=self.stream,
            session_epoch=welcome.session_epoch,
            coordinator_id=welcome.coordinator_id,
            coordinator_epoch=welcome.coordinator_epoch,
            heartbeat_interval=microseconds(welcome.heartbeat_interval) or 5_000_000,
            lease_ttl=microseconds(welcome.lease_ttl),
            resend_interval=microseconds(welcome.result_resend_interval) or 5_000_000,
            basis_seq=welcome.basis_seq,
            head_epoch=welcome.head_epoch,
        )

    def _verdicts(self, verdicts: wire.LeaseVerdicts) -> said.Judged:
        known = {int(verdict) for verdict in said.Verdict}
        return said.Judged(
            self.stream,
            [
                (lease_key(each.lease), each.lease.token, said.Verdict(each.verdict), microseconds(each.ttl))
                for each in verdicts.verdicts
                if each.verdict in known
            ],
            verdicts.basis_seq,
        )

    def _grants(self, grants: wire.LeaseGrants) -> said.Granted:
        return said.Granted(
            self.stream, [self._grant(grant) for grant in grants.grants], grants.basis_seq, microseconds(grants.ttl)
        )

    def _grant(self, grant: wire.LeaseGrant) -> Grant:
        if grant.HasField("task_spec"):
            self._tasks[grant.task] = _task_kind(grant.task_spec)
        kind = self._tasks.get(grant.task)
        if kind is None:
            raise ValueError(f"task {grant.task} was never named in this session")
        ref = grant.lease
        key = (ref.run_id, ref.step, ref.item)
        if isinstance(kind, UnknownTask):
            refusal = ("unsupported_task", str(kind))
            return Grant(grant.grant_seq, key, ref.token, grant.attempt, None, 0, None, refusal)
        return Grant(
            grant_seq=grant.grant_seq,
            key=key,
            token=ref.token,
            attempt=grant.attempt,
            timeout=kind.timeout,
            stop_grace=self.stop_grace if kind.stop_grace is None else kind.stop_grace,
            work=Work(grant, ref, kind, dict(grant.inputs)),
        )


def _task_kind(spec: wire.TaskSpec) -> TaskKind | UnknownTask:
    """A coordinator that knows more kinds of tasks loses the lease, and not the stream."""
    try:
        return task_kind(spec)
    except UnknownTask as error:
        return error


def task_kind(spec: wire.TaskSpec) -> TaskKind:
    """Raises `UnknownTask`."""
    env = dict(spec.env)
    secrets = tuple((each.name, each.env, each.file) for each in spec.secrets)
    action: FunctionWork | CommandWork
    match spec.WhichOneof("action"):
        case "function":
            digest = spec.function.bundle_digest
            action = FunctionWork(spec.function.module, spec.function.qualname)
            kind = WorkerKind(False, digest, spec.environment_digest, tuple(sorted(env.items())), secrets=secrets)
        case "command":
            command = spec.command
            digest = command.bundle_digest
            action = _command_work(command, env)
            kind = WorkerKind(True, "", spec.environment_digest, (), secrets=secrets)
        case _:
            raise UnknownTask("this agent does not know this kind of task: it is of a newer release")
    environment = _environment(spec)
    image = _image(spec)
    if image is not None:
        # The process of this machine only asks the engine: it has nothing of the attempt's own.
        kind = WorkerKind(True, kind.bundle_digest, "", (), secrets=secrets, container=True)
    return TaskKind(
        kind=kind,
        action=action,
        bundle_digest=digest,
        timeout=microseconds(spec.attempt_timeout) if spec.HasField("attempt_timeout") else None,
        stop_grace=microseconds(spec.stop_grace) if spec.HasField("stop_grace") else None,
        resources={name: amount for name, amount in spec.resources.items() if amount > 0},
        allow_pickle=spec.allow_pickle,
        secrets=tuple(spec.secrets),
        environment=environment,
        env=env,
        image=image,
    )


def _environment(spec: wire.TaskSpec) -> PythonOrder | None:
    """Raises `UnknownTask`."""
    if not spec.environment_digest or spec.environment.WhichOneof("kind") == CONTAINER:
        return None
    if spec.environment.WhichOneof("kind") != "python":
        raise UnknownTask("this agent does not know this kind of environment: it is of another release")
    python = spec.environment.python
    return PythonOrder(spec.environment_digest, tuple(python.requirements), python.lock, python.pylock, python.python)


def _image(spec: wire.TaskSpec) -> Image | None:
    if spec.environment.WhichOneof("kind") != CONTAINER:
        return None
    return Image(spec.environment.container.image, spec.environment.container.pull or "missing")


def _command_work(command: wire.CommandTask, env: dict[str, str]) -> CommandWork:
    outputs = [OutputSource(each.name, each.stdout, each.file, each.json, each.artifact) for each in command.outputs]
    return CommandWork(
        argv=list(command.argv),
        shell=command.shell,
        outputs=outputs,
        success_exit_codes=list(command.success_exit_codes),
        bundle_dir="",
        env=env,
        input_files=dict(command.input_files),
    )
