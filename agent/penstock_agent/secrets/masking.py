"""Finds secrets in what a step says, also as people and libraries write them: in base64, in a URL, in JSON...

Costs nothing where there are no secrets. What is compressed, encrypted, or cut into pieces by the step itself is not
found.
"""

from __future__ import annotations

import base64
import codecs
import html
import json
import quopri
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

MASK = b"***"
SHORTEST = 4
"""Bytes. What is shorter would be found everywhere."""
SHORTEST_LINE = 8
"""Bytes of a line of a secret that has several: each is printed alone."""


class Masker:
    """For the secrets of one attempt. Letters count as equal to their capitals."""

    def __init__(self, values: Iterable[str]) -> None:
        found = {form.lower() for value in values for form in _forms(value)}
        self._forms = sorted((form for form in found if len(form) >= SHORTEST), key=len, reverse=True)
        self.longest = len(self._forms[0]) if self._forms else 0

    def finds(self, data: bytes | bytearray) -> bool:
        lowered = data.lower()
        return any(form in lowered for form in self._forms)

    def mask(self, data: bytes | bytearray) -> bytes:
        """The same bytes if there is nothing to mask."""
        kept: list[bytes] = []
        end = 0
        for start, stop in self.spans(data):
            kept += (bytes(data[end:start]), MASK)
            end = stop
        return b"".join((*kept, data[end:])) if kept else bytes(data)

    def text(self, text: str) -> str:
        masked = self.mask(text.encode("utf-8", "surrogatepass"))
        return masked.decode("utf-8", "surrogatepass") if MASK in masked else text

    def cut(self, data: bytes | bytearray, most: int) -> int:
        """Where to cut so that about `most` bytes come before it, and no secret is cut through; 0: not yet, more has to
        come first."""
        if len(data) <= most + self.longest:
            return 0
        for start, stop in self.spans(data):
            if start < most < stop:
                return start or stop
        return most

    def spans(self, data: bytes | bytearray) -> list[tuple[int, int]]:
        """Where secrets stand, in order and apart."""
        lowered = data.lower()
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(span for form in self._forms for span in _places(lowered, form)):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
            else:
                merged.append((start, stop))
        return merged


def _places(data: bytes | bytearray, form: bytes) -> Iterator[tuple[int, int]]:
    start = data.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = data.find(form, start + 1)


# --- the forms of a value ---------------------------------------------------------------------------------------------


def _forms(value: str) -> Iterator[bytes]:
    data = value.encode("utf-8", "surrogatepass")
    yield data
    # Of other letters than those of ASCII the capitals are forms of their own.
    for form in (value.upper(), value.lower(), value[::-1]):
        yield form.encode("utf-8", "surrogatepass")
    yield from _escaped(value, data)
    yield from _per_byte(data)
    yield from _armoured(data)
    for line in value.splitlines():
        text = line.strip()
        if text != value and len(text.encode("utf-8", "surrogatepass")) >= SHORTEST_LINE and text[:5] != "-----":
            yield text.encode("utf-8", "surrogatepass")


def _escaped(value: str, data: bytes) -> Iterator[bytes]:
    """As a text stands in a text of some language."""
    texts = [
        json.dumps(value)[1:-1],
        json.dumps(json.dumps(value))[3:-3],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        ascii(value)[1:-1],
        repr(data)[2:-1],
        html.escape(value),
        html.escape(value, quote=False),
        value.replace("'", "'\"'\"'"),
        value.replace("'", "'\\''"),
        value.replace("'", "''"),
        quote(data, safe=""),
        quote(data),
        quote_plus(data),
        codecs.encode(value, "rot13"),
        "".join(f"&#{ord(each)};" for each in value),
        "".join(f"&#x{ord(each):x};" for each in value),
        "".join(f"\\u{ord(each):04x}" for each in value),
    ]
    for text in texts:
        yield text.encode("utf-8", "surrogatepass")
    yield quopri.encodestring(data).rstrip(b"\n")
    for coding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        yield value.encode(coding, "surrogatepass")


def _per_byte(data: bytes) -> Iterator[bytes]:
    """As numbers."""
    for separator in ("", " ", ":", "-", ", ", ","):
        yield separator.join(f"{each:02x}" for each in data).encode()
    for separator in (", ", ",", " "):
        yield separator.join(f"0x{each:02x}" for each in data).encode()
        yield separator.join(str(each) for each in data).encode()
    for prefix in ("\\x", "%", "="):
        yield "".join(f"{prefix}{each:02x}" for each in data).encode()
    yield "".join(f"\\{each:03o}" for each in data).encode()
    yield "".join(f"{each:08b}" for each in data).encode()


def _armoured(data: bytes) -> Iterator[bytes]:
    """In base64 and the like, wherever the value begins within what was encoded."""
    yield from _in_base64(data)
    for twice in (base64.b64encode(data), base64.urlsafe_b64encode(data), data.hex().encode()):
        yield from _in_base64(twice)
    yield from base64.encodebytes(data).splitlines()
    for offset in range(5):
        bits = 8 * offset
        encoded = base64.b32encode(bytes(offset) + data)
        yield encoded[-(-bits // 5) : 8 * (offset + len(data)) // 5]
    whole = len(data) // 4
    yield base64.b85encode(data)[: whole * 5]
    yield base64.a85encode(data[: whole * 4])


def _in_base64(data: bytes) -> Iterator[bytes]:
    for offset in range(3):
        padded = bytes(offset) + data
        # The characters that are made of the value's bits alone.
        first, last = -(-8 * offset // 6), 8 * len(padded) // 6
        yield base64.b64encode(padded)[first:last]
        yield base64.urlsafe_b64encode(padded)[first:last]
