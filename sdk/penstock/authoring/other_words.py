"""What other systems call the things that steps and pipelines have under other names, for the text of an error."""

from __future__ import annotations

_CALL = "call it in the body of a @pipeline: it runs when a run of that pipeline does"
_OPTIONS = "use options"
_START = "start a run of it with Client().start(...) or `penstock run FILE`"

OF_STEPS = dict.fromkeys(("apply_async", "delay", "remote", "run", "s", "send", "si", "submit"), _CALL) | dict.fromkeys(
    ("override", "with_options"), _OPTIONS
)
OF_PIPELINES = dict.fromkeys(
    ("apply_async", "delay", "deploy", "execute_in_process", "remote", "run", "serve", "start", "submit"), _START
) | dict.fromkeys(("override", "with_options"), _OPTIONS)


def unknown_member(what: object, name: str, words: dict[str, str]) -> AttributeError:
    """For `__getattr__`. The remedy stands in the text, as for every error of a definition."""
    remedy = words.get(name)
    text = f"{type(what).__name__!r} object has no attribute {name!r}"
    return AttributeError(f"{text} ({remedy})" if remedy else text, name=name, obj=what)
