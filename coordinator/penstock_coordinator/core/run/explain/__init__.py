"""Why step runs are not running: every condition that is not met, and for what is at rest how it came to it.

Pure, like the rules: what the run itself does not know (agents, limits, other runs) comes with `Outside`. A reason is a
whole sentence for people, with the same as values for programs.
"""

from penstock_coordinator.core.run.explain.step_runs import explain, explain_open, explain_run

__all__ = ["explain", "explain_open", "explain_run"]
