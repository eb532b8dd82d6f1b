"""The least that an orchestrator of Penstock's shape has to do, with no product around it: the yardstick.

One coordinator, one agent, one stream of batches between them. A result is committed in PostgreSQL, as a row of the
step and a row of the event, before the step after it is leased; all that is waiting is committed at once. The
submission of a run is committed too. There are no limits, retries, heartbeats or queues, and the workloads are started
from inside. It is plain asyncio, a task per run and per step: what anybody would write who wants no more than this.

The agent runs steps in its own event loop (`inline`: what the machine allows at most) or in two warm processes, one
step to a message (`processes`: what it allows if the code of users stays out of the agent's loop).

    python -m benchmarks.bare_loop --dsn postgresql://... processes < names-of-workloads

answers each line of its standard input with a line of JSON.
"""
