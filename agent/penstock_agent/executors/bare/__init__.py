"""The worker in the Python of a step's environment, where nothing of the agent is installed."""
