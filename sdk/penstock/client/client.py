"""`Client`: every call that a coordinator answers, for asyncio."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from penstock.authoring.pipelines import Pipeline
from penstock.client.artifacts import Artifacts
from penstock.client.bulk import BulkJobs
from penstock.client.cache import Cache
from penstock.client.cost_calls import CostCalls
from penstock.client.dead_letters import DeadLetters
from penstock.client.handles import RunHandle
from penstock.client.identity import caller_name, new_request_id
from penstock.client.logs import LogPosition
from penstock.client.pipeline_calls import PipelineCalls, refuse_template
from penstock.client.places import Place, place_numbers
from penstock.client.requests import start_request
from penstock.client.waiting import RestWaits
from penstock.client.watching import watch_events
from penstock.errors import (
    ParameterError,
    RunCancelledError,
    RunFailedError,
    StepNotCompletedError,
    WaitTimeoutError,
)
from penstock.json_values import Json
from penstock.tracing import current_context
from penstock.v1 import (
    agent_admin_service_pb2,
    agent_admin_service_pb2_grpc,
    artifact_service_pb2_grpc,
    bulk_service_pb2_grpc,
    cache_service_pb2_grpc,
    coordinator_service_pb2,
    coordinator_service_pb2_grpc,
    dead_letter_service_pb2_grpc,
    janitor_service_pb2,
    janitor_service_pb2_grpc,
    run_pb2,
    run_service_pb2,
    run_service_pb2_grpc,
    secret_service_pb2,
)
from penstock.v1.secret_service_pb2_grpc import SecretServiceStub


class Client(CostCalls, PipelineCalls):
    """A client of a coordinator, or of several on one database. Use it in one event loop, best as
    ``async with Client() as client:``.

    The address comes from the argument, else from PENSTOCK_ADDRESS, else from the configuration file, else it
    is 127.0.0.1:7400; the API key likewise. Of several coordinators, host:port,host:port, calls go to the one that
    owns the runs, and to the next when it does not answer. Each call takes at most `deadline` seconds with all of
    its tries: a call that may not have arrived is made again with the same request id, so nothing happens twice, for
    at most `retry_for` seconds. Streams bridge breaks of up to `patience` seconds. Errors are those of
    `penstock.errors`.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        api_key: str | None = None,
        deadline: float = 60.0,
        retry_for: float = 60.0,
        patience: float = 300.0,
    ) -> None:
        super().__init__(address, api_key=api_key, deadline=deadline, retry_for=retry_for, patience=patience)
        self._waits = RestWaits(self._caller, self._wait_call, patience)

    async def close(self) -> None:
        """Ends what is under way. A later call opens a new channel."""
        self._waits.close()
        await super().close()

    def _runs(self) -> run_service_pb2_grpc.RunServiceStub:
        return self._stub(run_service_pb2_grpc.RunServiceStub)

    @property
    def bulk(self) -> BulkJobs:
        """Cancels and retries of many runs."""
        stub = self._stub(bulk_service_pb2_grpc.BulkServiceStub)
        return BulkJobs(stub, self._call, self._pages)

    @property
    def dead_letters(self) -> DeadLetters:
        """What failed for good."""
        letters = self._stub(dead_letter_service_pb2_grpc.DeadLetterServiceStub)
        bulk = self._stub(bulk_service_pb2_grpc.BulkServiceStub)
        return DeadLetters(letters, bulk, self._call, self._pages)

    @property
    def cache(self) -> Cache:
        """The values that steps are answered from."""
        return Cache(self._stub(cache_service_pb2_grpc.CacheServiceStub), self._call, self._pages)

    @property
    def artifacts(self) -> Artifacts:
        """What steps made that was too large to be inline, files and folders."""
        return Artifacts(self._stub(artifact_service_pb2_grpc.ArtifactServiceStub), self._call, self._pages)

    def _agents(self) -> agent_admin_service_pb2_grpc.AgentAdminServiceStub:
        return self._stub(agent_admin_service_pb2_grpc.AgentAdminServiceStub)

    # Runs

    async def start(
        self,
        pipeline: str | Pipeline,
        parameters: Mapping[str, Any] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        version: int = 0,
        trace_context: Mapping[str, str] | None = None,
        priority: int | None = None,
        weight: float | None = None,
        run_key: str = "",
        run_key_conflict: str = "",
        run_key_reuse: str = "",
        cache: str = "",
    ) -> RunHandle:
        """Starts a run; it is durable when this returns. The same request id gives the same run.

        At most one live run of a pipeline has a `run_key`. If one has it, AlreadyExistsError is raised (its metadata
        holds the "run_id"), or with `run_key_conflict="use_existing"` that run is the answer, and the handle's
        `existing` is True. Of a key whose newest run is at rest there is a new run, unless `run_key_reuse` is
        "after_failure" and that run is COMPLETED, or it is "reject".

        `cache` is "use" (as is none), "off" (no step is answered from the cache, and none fills it) or "refresh" (all
        is computed anew, and fills it).

        `priority` (-1,000 to 1,000) and `weight` (0.01 to 100) are the pipeline's if they are not given. A Python
        pipeline is created first, with those that it calls, and the version that comes of it is the one that runs.
        What the coordinator warns of (secrets that it does not keep) is logged by "penstock.client.connection".

        The run is part of the trace that the W3C headers `trace_context` name; of that of the caller's span without
        them, if the program has loaded OpenTelemetry.
        """
        refuse_template(pipeline)
        if isinstance(pipeline, Pipeline):
            version = (await self.create_pipeline(pipeline)).number
        request = start_request(
            pipeline if isinstance(pipeline, str) else pipeline.name,
            parameters or {},
            labels=labels or {},
            request_id=request_id or new_request_id(),
            version=version,
            trace_context=current_context() if trace_context is None else trace_context,
            priority=priority,
            weight=weight,
            run_key=run_key,
            run_key_conflict=run_key_conflict,
            run_key_reuse=run_key_reuse,
            cache=cache,
        )
        response: run_service_pb2.StartRunResponse = await self._call(self._runs().Start, request)
        self._warn(response.warnings)
        return RunHandle(self, response.run.id, existing=response.existing)

    async def start_many(
        self,
        pipeline: str | Pipeline,
        parameter_sets: Iterable[Mapping[str, Any]],
        *,
        labels: Mapping[str, str] | None = None,
        request_ids: Sequence[str] | None = None,
        version: int = 0,
        priority: int | None = None,
        weight: float | None = None,
    ) -> list[RunHandle]:
        """Starts up to 1,000 runs, all or none of them; handles come in the order of the parameter sets."""
        refuse_template(pipeline)
        if isinstance(pipeline, Pipeline):
            version = (await self.create_pipeline(pipeline)).number
        sets = list(parameter_sets)
        ids = [new_request_id() for _ in sets] if request_ids is None else list(request_ids)
        if len(ids) != len(sets):
            raise ParameterError(
                f"there are {len(ids)} request ids for {len(sets)} runs", field="request_ids", remedy="give one each"
            )
        name = pipeline if isinstance(pipeline, str) else pipeline.name
        context = current_context()
        request = run_service_pb2.StartManyRunsRequest(
            requests=[
                start_request(
                    name,
                    parameters,
                    labels=labels or {},
                    request_id=request_id,
                    version=version,
                    trace_context=context,
                    priority=priority,
                    weight=weight,
                )
                for parameters, request_id in zip(sets, ids, strict=True)
            ]
        )
        response: run_service_pb2.StartManyRunsResponse = await self._call(self._runs().StartMany, request)
        self._warn(response.warnings)
        return [RunHandle(self, run_id) for run_id in response.run_ids]

    def run(self, run_id: str) -> RunHandle:
        """A handle for a run by its id. Asks nothing."""
        return RunHandle(self, run_id)

    async def get_run(self, run_id: str, *, at_event: int = 0) -> run_pb2.Run:
        """The run as it is; with `at_event` as it was after that event."""
        request = run_service_pb2.GetRunRequest(run_id=run_id, at_event=at_event)
        response: run_service_pb2.GetRunResponse = await self._call(self._runs().Get, request)
        return response.run

    async def list_runs(
        self,
        *,
        pipeline: str = "",
        states: Sequence[run_pb2.RunState.ValueType] = (),
        labels: Mapping[str, str] | None = None,
        run_key: str = "",
        parent_run_id: str = "",
        top_level: bool = False,
        limit: int | None = None,
    ) -> AsyncIterator[run_pb2.Run]:
        """Runs without parameters, newest first; pages are fetched as they are needed.

        `parent_run_id`: only those that are steps of that run; `top_level`: only those that are steps of none.
        """
        request = run_service_pb2.ListRunsRequest(
            pipeline=pipeline,
            states=states,
            labels=labels or {},
            run_key=run_key,
            parent_run_id=parent_run_id,
            top_level=top_level,
        )
        left = limit
        if left is not None:
            request.page_size = min(max(left, 1), 1_000)
        async for page in self._pages(self._runs().List, request):
            for run in page.runs:
                if left is not None:
                    if left <= 0:
                        return
                    left -= 1
                yield run

    def watch(self, run_id: str, from_event: int = 1) -> AsyncIterator[run_service_pb2.Event]:
        """Every event of the run from the one asked for, in order and once, until the run is at rest.

        Connects again by itself and goes on after the last event.
        """
        return watch_events(self._caller, self._watch_call, self.get_run, run_id, from_event, self.patience)

    def _watch_call(self, request: run_service_pb2.WatchRunRequest) -> Any:
        return self._runs().Watch(request, metadata=self._metadata)

    async def wait(self, run_id: str, timeout: float | None = None, *, raise_on_failure: bool = False) -> run_pb2.Run:
        """The run at rest. WaitTimeoutError after `timeout` seconds; the run goes on then.

        With `raise_on_failure` a run that is not COMPLETED raises RunFailedError or RunCancelledError. Waits that
        begin together, as in `asyncio.gather`, share one call: wait for thousands of runs like this.
        """
        try:
            async with asyncio.timeout(timeout):
                run = await self._waits.wait(run_id)
        except TimeoutError:
            raise WaitTimeoutError(
                f"the run {run_id} was not at rest after {timeout} s", remedy="wait again: it goes on"
            ) from None
        if raise_on_failure and run.state != run_pb2.RUN_STATE_COMPLETED:
            raise _ended_badly(run)
        return run

    async def output(self, run_id: str, timeout: float | None = None) -> Json:
        """What the run gave, once it is at rest: the output that its pipeline names, else None.

        Raises RunFailedError or RunCancelledError if it is not COMPLETED, and WaitTimeoutError after `timeout` seconds.
        """
        run = await self.wait(run_id, timeout, raise_on_failure=True)
        output: Json = json.loads(run.output_json) if run.output_json else None
        return output

    def _wait_call(self, request: run_service_pb2.WaitManyRunsRequest) -> Any:
        return self._runs().WaitMany(request, metadata=self._metadata)

    async def cancel(
        self, run_id: str, *, now: bool = False, reason: str = "", request_id: str | None = None
    ) -> run_pb2.Run:
        """Cancels politely (cleanup steps run), or `now` (they do not). A run at rest is left as it is."""
        request = run_service_pb2.CancelRunRequest(
            run_id=run_id,
            mode=run_service_pb2.CANCEL_MODE_NOW if now else run_service_pb2.CANCEL_MODE_POLITE,
            reason=reason,
            requested_by=caller_name(),
            request_id=request_id or new_request_id(),
        )
        response: run_service_pb2.CancelRunResponse = await self._call(self._runs().Cancel, request)
        return response.run

    async def pause(
        self, run_id: str, *, reason: str = "", requested_by: str | None = None, request_id: str | None = None
    ) -> run_pb2.Run:
        """Nothing of the run starts from now on; what runs goes on and counts. Twice is as once."""
        request = run_service_pb2.PauseRunRequest(
            run_id=run_id,
            reason=reason,
            requested_by=caller_name() if requested_by is None else requested_by,
            request_id=request_id or new_request_id(),
        )
        response: run_service_pb2.PauseRunResponse = await self._call(self._runs().Pause, request)
        return response.run

    async def resume(
        self, run_id: str, *, requested_by: str | None = None, request_id: str | None = None
    ) -> run_pb2.Run:
        """The run goes on. One that is not paused is left as it is."""
        request = run_service_pb2.ResumeRunRequest(
            run_id=run_id,
            requested_by=caller_name() if requested_by is None else requested_by,
            request_id=request_id or new_request_id(),
        )
        response: run_service_pb2.ResumeRunResponse = await self._call(self._runs().Resume, request)
        return response.run

    async def retry(
        self,
        run_id: str,
        *,
        version_number: int = 0,
        newest_version: bool = False,
        reason: str = "",
        requested_by: str | None = None,
        request_id: str | None = None,
    ) -> run_service_pb2.RetryRunResponse:
        """A new generation of a run at rest: what failed or was cancelled, and what that kept from running, runs again;
        what is COMPLETED stays. With another version of the pipeline it stays if its code, its inputs and all before it
        did not change. Raises `FailedPreconditionError` if the run is not at rest, if nothing is to run, or if the
        run's parameters do not fit that version."""
        request = run_service_pb2.RetryRunRequest(
            run_id=run_id,
            version_number=version_number,
            newest_version=newest_version,
            reason=reason,
            requested_by=caller_name() if requested_by is None else requested_by,
            request_id=request_id or new_request_id(),
        )
        response: run_service_pb2.RetryRunResponse = await self._call(self._runs().Retry, request)
        return response

    async def rollback(
        self,
        run_id: str,
        *,
        version_number: int = 0,
        newest_version: bool = False,
        reason: str = "",
        requested_by: str | None = None,
        request_id: str | None = None,
    ) -> run_service_pb2.RollbackRunResponse:
        """A new generation of a run at rest in which what is COMPLETED is undone by its `compensate` steps, the latest
        first; the run comes to rest ROLLED_BACK, at once if there is nothing to undo. Of a run whose rollback failed or
        was cancelled, what is left of it; another version may have other `compensate` steps. Raises
        `FailedPreconditionError` if the run is not at rest, or ROLLED_BACK with nothing left to undo, or if the
        version has no `compensate` for what the run's own would undo."""
        request = run_service_pb2.RollbackRunRequest(
            run_id=run_id,
            version_number=version_number,
            newest_version=newest_version,
            reason=reason,
            requested_by=caller_name() if requested_by is None else requested_by,
            request_id=request_id or new_request_id(),
        )
        response: run_service_pb2.RollbackRunResponse = await self._call(self._runs().Rollback, request)
        return response

    async def rerun(
        self,
        run_id: str,
        step: str,
        item: Place = None,
        *,
        reason: str = "",
        requested_by: str | None = None,
        request_id: str | None = None,
    ) -> run_service_pb2.RerunStepResponse:
        """A new generation in which a step, or one item of it, runs again with everything that comes after it. Raises
        `FailedPreconditionError` if some of that is under way."""
        request = run_service_pb2.RerunStepRequest(
            run_id=run_id,
            step=step,
            item=place_numbers(item),
            reason=reason,
            requested_by=caller_name() if requested_by is None else requested_by,
            request_id=request_id or new_request_id(),
        )
        response: run_service_pb2.RerunStepResponse = await self._call(self._runs().RerunStep, request)
        return response

    # Step runs

    async def list_step_runs(
        self,
        run_id: str,
        *,
        step: str = "",
        states: Sequence[run_pb2.StepRunState.ValueType] = (),
        at_event: int = 0,
    ) -> AsyncIterator[run_pb2.StepRun]:
        """The steps as wholes, or the items of the mapped step `step`, in order; large outputs are left out. With
        `at_event` as they were after that event."""
        request = run_service_pb2.ListStepRunsRequest(
            run_id=run_id, step=step, states=states, page_size=1_000, at_event=at_event
        )
        async for page in self._pages(self._runs().ListStepRuns, request):
            for step_run in page.step_runs:
                yield step_run

    async def get_step_run(
        self, run_id: str, step: str, item: Place = None, *, at_event: int = 0
    ) -> run_service_pb2.GetStepRunResponse:
        """A step run with its attempts, oldest first; with `at_event` as it was after that event."""
        place = place_numbers(item)
        request = run_service_pb2.GetStepRunRequest(run_id=run_id, step=step, item=place, at_event=at_event)
        response: run_service_pb2.GetStepRunResponse = await self._call(self._runs().GetStepRun, request)
        return response

    async def explain(self, run_id: str, step: str = "", item: Place = None) -> run_service_pb2.ExplainRunResponse:
        """Why a step run, or every one that is not at rest (up to 1,000), is not running: all that it waits for."""
        request = run_service_pb2.ExplainRunRequest(run_id=run_id, step=step, item=place_numbers(item))
        response: run_service_pb2.ExplainRunResponse = await self._call(self._runs().Explain, request)
        return response

    async def diff_runs(self, run_id: str, other_run_id: str) -> run_service_pb2.DiffRunsResponse:
        """What is different between two runs, also of different pipelines: steps are matched by name."""
        request = run_service_pb2.DiffRunsRequest(run_id=run_id, other_run_id=other_run_id)
        response: run_service_pb2.DiffRunsResponse = await self._call(self._runs().Diff, request)
        return response

    async def result(self, run_id: str, step: str, item: Place = None, *, allow_pickle: bool = False) -> Any:
        """The output of a step run, also while the run goes on; of a mapped step the list of its outputs.

        Values that are in the artifact store are read from there and decoded (DataFrames, arrays, bytes, …): up to
        1 GiB together, with the libraries and codecs that are here. Files and folders are references
        (`client.artifacts`), and so are pickles, unless you trust them to run code here: `allow_pickle`.

        StepNotCompletedError while it is not COMPLETED; ArtifactError if a stored value cannot be had or decoded.
        """
        step_run = (await self.get_step_run(run_id, step, item)).step_run
        if step_run.state == run_pb2.STEP_RUN_STATE_COMPLETED:
            output = json.loads(step_run.output_json or "null")
            return await self.artifacts.value_of(output, allow_pickle=allow_pickle)
        state = run_pb2.StepRunState.Name(step_run.state).removeprefix("STEP_RUN_STATE_")
        why = f": {step_run.failure.message}" if step_run.HasField("failure") else ""
        raise StepNotCompletedError(
            f"{step_run.display_name or step} is {state}{why}",
            state=state,
            failure=step_run.failure if step_run.HasField("failure") else None,
        )

    async def logs(
        self,
        run_id: str,
        step: str = "",
        item: Place = None,
        *,
        attempt: int = 0,
        follow: bool = False,
        tail: int = 0,
        since: datetime | None = None,
        contains: str = "",
        ignore_case: bool = False,
        after_position: int = 0,
        on_stop: Callable[[int, int], None] | None = None,
    ) -> AsyncIterator[run_service_pb2.LogLine]:
        """Lines of one step run, or of the whole run, each once; `tail`: only the last so many of those there;
        `since`: received then or later; `contains`: with this text in them.

        With `follow` until the step run or run is at rest, over breaks of the connection. A search through a very long
        log stops on its way: then `on_stop` hears how many lines were looked at, and the `after_position` from which
        another call goes on.
        """
        request = run_service_pb2.TailLogsRequest(
            run_id=run_id,
            step=step,
            item=place_numbers(item),
            attempt=attempt,
            follow=follow,
            tail_lines=tail,
            contains=contains,
            ignore_case=ignore_case,
            after_position=after_position,
        )
        if since is not None:
            request.since.FromDatetime(since)
        position = LogPosition(request)

        def open_call() -> Any:
            return self._runs().TailLogs(position.request(), metadata=self._metadata)

        async for message in self._caller.stream(open_call, self.patience):
            for line in position.lines(message):
                yield line
            if message.stopped_after_lines and on_stop is not None:
                on_stop(message.stopped_after_lines, message.position)

    # Agents

    async def list_agents(self) -> AsyncIterator[agent_admin_service_pb2.Agent]:
        """The agents that are, or lately were, connected, ordered by id."""
        request = agent_admin_service_pb2.ListAgentsRequest()
        async for page in self._pages(self._agents().List, request):
            for agent in page.agents:
                yield agent

    async def get_agent(self, agent_id: str) -> agent_admin_service_pb2.Agent:
        request = agent_admin_service_pb2.GetAgentRequest(agent_id=agent_id)
        response: agent_admin_service_pb2.GetAgentResponse = await self._call(self._agents().Get, request)
        return response.agent

    async def drain_agent(
        self, agent_id: str, deadline: float | None = None, *, request_id: str | None = None
    ) -> agent_admin_service_pb2.Agent:
        """Asks the agent to take no new work and leave; after `deadline` seconds (None: 300) it stops the rest."""
        request = agent_admin_service_pb2.DrainAgentRequest(
            agent_id=agent_id, request_id=request_id or new_request_id()
        )
        if deadline is not None:
            request.deadline.FromNanoseconds(round(deadline * 10**9))
        response: agent_admin_service_pb2.DrainAgentResponse = await self._call(self._agents().Drain, request)
        return response.agent

    async def pause_agent(self, agent_id: str) -> agent_admin_service_pb2.Agent:
        """The agent gets nothing new until `resume_agent`, also after reconnects and restarts; what it runs goes on.
        Raises NotFoundError if it was never connected."""
        request = agent_admin_service_pb2.PauseAgentRequest(agent_id=agent_id)
        response: agent_admin_service_pb2.PauseAgentResponse = await self._call(self._agents().Pause, request)
        return response.agent

    async def resume_agent(self, agent_id: str) -> agent_admin_service_pb2.Agent:
        """Lets work come to the agent again. Raises NotFoundError if it was never connected."""
        request = agent_admin_service_pb2.ResumeAgentRequest(agent_id=agent_id)
        response: agent_admin_service_pb2.ResumeAgentResponse = await self._call(self._agents().Resume, request)
        return response.agent

    # The coordinator

    async def health(self) -> coordinator_service_pb2.CoordinatorHealth:
        """How it and its database fare: whether it is ready, how much it has to do, and what it refused."""
        stub = self._stub(coordinator_service_pb2_grpc.CoordinatorServiceStub)
        request = coordinator_service_pb2.GetHealthRequest()
        response: coordinator_service_pb2.GetHealthResponse = await self._call(stub.GetHealth, request)
        return response.health

    async def list_coordinators(self) -> list[coordinator_service_pb2.Coordinator]:
        """Those on the same database by id, as the one that answers sees them."""
        stub = self._stub(coordinator_service_pb2_grpc.CoordinatorServiceStub)
        request = coordinator_service_pb2.ListCoordinatorsRequest()
        response: coordinator_service_pb2.ListCoordinatorsResponse = await self._call(stub.ListCoordinators, request)
        return list(response.coordinators)

    async def hand_over(self, coordinator_id: str) -> None:
        """Make that coordinator the owner of the runs. Returns when the former owner has released them; steps go on
        meanwhile. Idempotent.

        Raises `NotFoundError` if it does not follow, `FailedPreconditionError` if it has not read the runs in time;
        then nothing has changed."""
        stub = self._stub(coordinator_service_pb2_grpc.CoordinatorServiceStub)
        request = coordinator_service_pb2.HandOverRequest(coordinator_id=coordinator_id)
        await self._call(stub.HandOver, request)

    async def list_queues(self) -> list[coordinator_service_pb2.QueueDemand]:
        """What waits for agents and runs on them, by queue, as coordinators published it a moment ago."""
        stub = self._stub(coordinator_service_pb2_grpc.CoordinatorServiceStub)
        request = coordinator_service_pb2.ListQueuesRequest()
        response: coordinator_service_pb2.ListQueuesResponse = await self._call(stub.ListQueues, request)
        return list(response.queues)

    # Secrets

    def _secrets(self) -> SecretServiceStub:
        return self._stub(SecretServiceStub)

    async def set_secret(self, name: str, value: str) -> secret_service_pb2.Secret:
        """Makes the secret, or gives it another value. Raises PreconditionError if the coordinator has no key."""
        request = secret_service_pb2.SetSecretRequest(name=name, value=value)
        response: secret_service_pb2.SetSecretResponse = await self._call(self._secrets().Set, request)
        return response.secret

    async def list_secrets(self) -> AsyncIterator[secret_service_pb2.Secret]:
        """By name, without their values: nobody gets those but the steps that name them."""
        async for page in self._pages(self._secrets().List, secret_service_pb2.ListSecretsRequest()):
            for secret in page.secrets:
                yield secret

    async def delete_secret(self, name: str) -> None:
        """Raises NotFoundError."""
        await self._call(self._secrets().Delete, secret_service_pb2.DeleteSecretRequest(name=name))

    async def rotate_secrets(self) -> int:
        """Encrypts again, with the coordinator's newest key, what an older one has encrypted; how many they were."""
        request = secret_service_pb2.RotateSecretsRequest()
        response: secret_service_pb2.RotateSecretsResponse = await self._call(self._secrets().Rotate, request)
        return response.rotated

    # What is old

    async def run_janitor(
        self, *, dry_run: bool = False, timeout: float = 3_600.0
    ) -> janitor_service_pb2.JanitorReport:
        """Removes what is kept no longer, as the coordinator does by itself now and then, and tells what went. With
        `dry_run` only counts it. After `timeout` seconds what is left is for the next pass."""
        stub = janitor_service_pb2_grpc.JanitorServiceStub(self._open())
        request = janitor_service_pb2.RunJanitorRequest(dry_run=dry_run)

        def attempt(remaining: float) -> Awaitable[janitor_service_pb2.RunJanitorResponse]:
            call: Awaitable[Any] = stub.Run(request, timeout=remaining, metadata=self._metadata)
            return call

        return (await self._caller.call(attempt, max(timeout - self._caller.deadline, 0))).report


def _ended_badly(run: run_pb2.Run) -> RunFailedError:
    state = run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_")
    kind = RunCancelledError if run.state == run_pb2.RUN_STATE_CANCELLED else RunFailedError
    return kind(f"the run {run.id} is {state}" + (f": {run.reason}" if run.reason else ""), run)
