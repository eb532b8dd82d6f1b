"""The code digest of a step: what the function is and what of the bundle's code it reaches, found without running it.

A run that is retried with a new version keeps the completed steps whose code did not change. So the digest must change
whenever code that the function may run changes, and should stay when other code changes, in the same file or elsewhere.
Where the two cannot be told apart it changes. How it is decided:

- A module is a list of top-level statements. A function reaches the statement that defines it, the statements that
  define the names which those mention, and so on, through the imports between modules of the bundle.
- Importing a module runs it. Statements that stand there for their effect (a call, a loop, an assignment into
  something) are reached with every function of the module, and of modules that import it. A decorated definition, or
  an assignment of a call, is reached if what it calls leads to a variable that is reached: it may have been registered
  there.
- A module that is used as a value counts as a whole. Code that finds code or files of the bundle by other means than
  names (`importlib`, `eval`, `__file__`, `sys.modules`, ...) reaches the whole bundle.
- Comments, formatting, the order of functions and the arguments of `@step` (which are in the specification) do not
  count; docstrings do, for code can read them. Installed packages and Python itself are not covered.
"""

from penstock.code_digest.digest import BundleCode, set_code_digests

__all__ = ["BundleCode", "set_code_digests"]
