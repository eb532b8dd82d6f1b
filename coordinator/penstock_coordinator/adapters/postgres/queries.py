"""Named queries from the .sql files beside this module.

A file is a list of queries, each under a line ``-- name: its_name``; other comment lines belong to the query.
"""

from __future__ import annotations

import re
from importlib import resources

_NAME = re.compile(r"^-- name: (\w+)\s*$", re.MULTILINE)


def load(file: str) -> dict[str, str]:
    """The queries of ``sql/<file>.sql`` by name. Raises `ValueError` if a name is there twice."""
    text = resources.files(__package__).joinpath("sql", f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    names, queries = parts[::2], [query.strip() for query in parts[1::2]]
    if len(set(names)) != len(names):
        raise ValueError(f"{file}.sql names a query twice")
    return dict(zip(names, queries, strict=True))
