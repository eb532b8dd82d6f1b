"""Secrets on the agent: where their values come from, and how they are kept out of everything that is told of a step."""
