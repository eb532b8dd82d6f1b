"""The part of CEL (the Common Expression Language) that conditions are written in.

The reader and the evaluation are our own; the Python libraries were tried and did not hold what a coordinator needs
that takes expressions from strangers:

- the grammar of cel-python reads texts by a regular expression that backtracks: 36 backslashes in a row keep it busy
  for 5 s, each further one for longer; it also takes `"a\\"` for a complete text;
- it evaluates at 100 µs per operation, refuses to compare whole numbers with fractions (all numbers here are JSON)
  and to compare anything with null;
- common-expression-language does not let us walk what it parsed, so names, kinds and cost cannot be checked.

From source to answer: `tokens` → `syntax` (a tree) → `names` (what each name is; unknown ones are refused) → `kinds`
and `cost` (what can be refused before a run) → `evaluation` (closures with a budget).
"""
