"""The client of a coordinator, asynchronous and blocking."""
