"""Penstock: a durable DAG orchestrator for data and ML pipelines."""
