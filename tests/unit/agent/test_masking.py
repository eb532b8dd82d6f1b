"""Secrets are found however they are written, cut or split, and nothing else is."""

from __future__ import annotations

import base64
import gzip
import random

import pytest
from tests.e2e.secrets.telling.secret_flows import encodings

from penstock_agent.executors.channel import Finished, GivenSecret
from penstock_agent.executors.worker.capture import LONGEST_LINE
from penstock_agent.secrets.masking import MASK, Masker

VALUES = [
    "hunter2!",
    "p@ss/w+rd=%",
    'kept\'C4nary "of" the/coordinator+ü',
    "ßüé-日本語-🔑",
    "back\\slash\ttab",
    "1234",
    "A" * 5_000,
]


@pytest.mark.parametrize("value", VALUES)
def test_every_encoding_is_masked(value: str) -> None:
    masker = Masker([value])
    for name, text in encodings(value).items():
        said = f"before {text} after"
        masked = masker.text(said)
        assert "***" in masked, name
        assert text not in masked, name
        assert masked.startswith("before "), name
        assert masked.endswith(" after"), name


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("before", [b"", b"u", b"us", b"use", b"user:"])
@pytest.mark.parametrize("after", [b"", b"x", b"xy"])
def test_it_is_found_wherever_it_begins_in_what_is_encoded(value: str, before: bytes, after: bytes) -> None:
    masker = Masker([value])
    data = before + value.encode() + after
    for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.b32encode, lambda data: data.hex().encode()):
        assert masker.finds(b"x" + encode(data) + b"y")


def test_what_holds_no_secret_is_as_it_was() -> None:
    masker = Masker(["hunter2!"])
    text = "hunter2 is no secret, nor is hunter3! or \udc80"
    assert masker.text(text) is text
    data = b"\x00\xff hunter"
    assert masker.mask(data) == data
    assert Masker([]).text("hunter2!") == "hunter2!"


def test_two_that_overlap_are_one_mask() -> None:
    masker = Masker(["abcdef", "defghi"])
    assert masker.text("xabcdefghiy abcdef") == "x***y ***"


def test_the_lines_of_a_long_secret_are_masked_alone() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\nab\n-----END KEY-----\n"
    masker = Masker([key])
    assert masker.text("line: kqhkiG9w0BAQEF") == "line: ***"
    assert masker.text("-----BEGIN KEY----- ab") == "-----BEGIN KEY----- ab"
    assert not masker.finds(b"ab")


def test_what_is_compressed_is_not_found() -> None:
    """As docs/secrets.md says."""
    assert not Masker(["hunter2!" * 20]).finds(gzip.compress(b"hunter2!" * 20))


def test_a_long_line_is_never_cut_through_a_secret() -> None:
    chance = random.Random(6)
    secret = "hunter2-hunter2-hunter2"
    masker = Masker([secret])
    for _ in range(300):
        most = chance.randrange(1, 80)
        line = b"".join(chance.choice([b"x" * chance.randrange(30), secret.encode()]) for _ in range(20))
        rest, pieces = bytearray(line), []
        while cut := masker.cut(rest, most):
            assert cut > 0
            pieces.append(rest[:cut])
            rest = rest[cut:]
        assert len(rest) <= most + masker.longest
        masked = b"".join(masker.mask(piece) for piece in (*pieces, rest))
        assert secret.encode() not in masked
        assert masked.replace(MASK, b"") == line.replace(secret.encode(), b"")


def test_a_secret_is_found_at_the_end_of_a_longest_line() -> None:
    masker = Masker(["hunter2!"])
    line = b"x" * (LONGEST_LINE - 3) + b"hunter2!" + b"y" * masker.longest
    assert masker.cut(line, LONGEST_LINE) == LONGEST_LINE - 3


def test_a_given_secret_is_printed_without_its_value() -> None:
    given = GivenSecret("db", "hunter2!", "DB", "")
    assert "hunter2" not in f"{given!r} {[given]} {Finished(1)}"
