"""Traces: which trace a run belongs to, whether it is sampled, and the spans that its journal tells of."""
