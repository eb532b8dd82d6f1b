"""The part of CEL (the Common Expression Language) that conditions are written in.

The reader, the checks and the evaluation are our own. No library for Python shows what it parsed, so names, kinds and
cost could not be checked; and none holds what a coordinator needs that evaluates other people's expressions over other
people's values: a bound on time and memory, the same answer each time, exact whole numbers. docs/adr/0007 has what was
measured. A test asks CEL's own evaluator the same questions.

From source to answer: `tokens` → `syntax` (a tree) → `names` (what each name is; unknown ones are refused) → `kinds`
and `cost` (what can be refused before a run) → `evaluation` (closures with a budget).
"""
