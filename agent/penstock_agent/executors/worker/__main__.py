"""`python -m penstock_agent.executors.worker SETUP`"""

from penstock_agent.executors.worker.loop import main

main()
