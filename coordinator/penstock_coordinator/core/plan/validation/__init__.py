"""What can be wrong with a pipeline, one module per concern. `core.plan.validate` runs them all."""
