"""Named queries from the .sql files beside this module.

A file is a list of queries, each under a line ``-- name: its_name``; other comment lines belong to the query. One that
is the same for several tables is there once, under ``-- name: count of events=run_events attempts``: it has ``{table}``
for each of them, and the queries are called ``count_events`` and ``count_attempts``.
"""

from __future__ import annotations

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+(?: of .+)?)\s*$", re.MULTILINE)


def load(file: str) -> dict[str, str]:
    """The queries of ``sql/<file>.sql`` by name. Raises `ValueError` if a name is there twice."""
    text = resources.files(__package__).joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    queries = [
        each for head, query in zip(parts[::2], parts[1::2], strict=True) for each in _queries(head, query.strip())
    ]
    if len({name for name, _ in queries}) != len(queries):
        raise ValueError(f"{file}.sql names a query twice")
    return dict(queries)


def _queries(head: str, query: str) -> list[tuple[str, str]]:
    name, _, tables = head.partition(" of ")
    if not tables:
        return [(name, query)]
    words = [(word, table or word) for word, _, table in (each.partition("=") for each in tables.split())]
    return [(f"{name}_{word}", query.replace("{table}", table)) for word, table in words]
