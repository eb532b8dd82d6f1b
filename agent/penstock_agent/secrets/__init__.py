"""Secrets on the agent: where values come from, and how they are kept out of all that is told of a step."""
