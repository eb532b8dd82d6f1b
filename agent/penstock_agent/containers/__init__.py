"""Steps that name a container image: the engine that runs them, and how it is asked."""
