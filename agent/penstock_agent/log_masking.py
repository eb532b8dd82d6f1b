"""What no line of a process's own log may tell: passwords in addresses, and the secrets that the process was given.

Libraries put addresses into their errors, and what they cannot read into their warnings. Coordinator and agent have
this file each, word for word: neither imports the other's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus, unquote

MASK = "********"
SHORTEST = 12
"""Characters of what is looked for wherever it stands: a shorter one may be a word that lines have by right, as the
password `penstock` is. In an address it is masked all the same."""
_SCHEME = r"[a-z][a-z0-9+.-]{0,31}://"
"""Bounded: it is looked for from each letter of a line."""
_GIVEN = r"(?P<password>(?:\\[^\s/]|[^\s/\"\\])+|[^\s@/]+)(?=@)"
"""Up to the last @, as whoever did not escape one meant it."""
_ADDRESS = re.compile(rf"(?P<before>{_SCHEME}[^\s:/@]*:){_GIVEN}", re.IGNORECASE)
_TOKEN = re.compile(r"(?P<before>https?://)(?P<password>[\w.~%+=-]+)(?=@)", re.IGNORECASE)
_QUERY = re.compile(r"(?P<before>[?&](?:ssl)?password=)(?P<password>(?:\\\S|[^\s&#\"\\])+)", re.IGNORECASE)
_PASSWORDS = (_ADDRESS, _TOKEN, _QUERY)
_NAMED = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PENSTOCK_API_KEY", "PENSTOCK_SECRETS_KEY", "PGPASSWORD")
_OF_USERS = "PENSTOCK_SECRET_"
_HEADERS = re.compile(r"OTEL_EXPORTER_OTLP_(?:[A-Z]+_)?HEADERS")
_TENANT = "x-scope-orgid"
"""A header that is no secret, and may well be a word of ordinary lines."""


class Hidden:
    """What this process hides."""

    words: re.Pattern[str] | None = None


def hide(secrets: Iterable[str]) -> None:
    """From now on none of these is told, as it is or in the spellings that lines have; in place of former ones."""
    spelled = {each for secret in secrets if len(secret) >= SHORTEST for each in _spellings(secret)}
    words = "|".join(map(re.escape, sorted(spelled, key=len, reverse=True)))
    Hidden.words = re.compile(words) if words else None


def masked(text: str) -> str:
    """The same without secrets in it. It stays JSON if it is."""
    if "://" in text:
        for pattern in _PASSWORDS:
            text = pattern.sub(rf"\g<before>{MASK}", text)
    return text if Hidden.words is None else Hidden.words.sub(_mask, text)


def _mask(found: re.Match[str]) -> str:
    """Digits may be a number of JSON, or a part of one, and that they stay."""
    word = found[0]
    return "9" * len(word) if word.isascii() and word.isdigit() else MASK


def secrets_of(environment: Mapping[str, str]) -> Iterator[str]:
    """Those that Penstock, and the libraries that it goes by, find in the environment."""
    for name, value in environment.items():
        if name in _NAMED or name.startswith(_OF_USERS):
            yield value
        elif _HEADERS.fullmatch(name):
            yield from secrets_of_headers(value)
        else:
            yield from passwords_in(value)


def secrets_of_headers(given: str) -> Iterator[str]:
    """Of `name=value,name=value`. What is no header as it should be is one all the same, to whoever wrote it."""
    for header in given.split(","):
        name, equals, value = header.strip().partition("=")
        if name.strip().lower() == _TENANT:
            continue
        yield unquote(value) if equals else name
        yield value
        yield from unquote(value).split()


def passwords_in(text: str) -> Iterator[str]:
    """Of the addresses in it."""
    for pattern in _PASSWORDS if "://" in text else ():
        for found in pattern.finditer(text):
            yield found["password"]
            yield unquote(found["password"])


def _spellings(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret), quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1])
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
