"""Steps that tell their secrets in every way that they can think of."""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import penstock
from penstock import command, context, pipeline, step

KEPT = "canary-kept"
"""The name of the secret that the coordinator keeps."""
OWN = "canary-own"
"""The name of the one that the agent has."""


def encodings(value: str) -> dict[str, str]:
    data = value.encode()
    return {
        "plain": value,
        "in a word": f"password={value};",
        "reversed": value[::-1],
        "upper case": value.upper(),
        "base64": base64.b64encode(data).decode(),
        "base64 of a header": base64.b64encode(b"u:" + data).decode(),
        "base64 one byte on": base64.b64encode(b"u" + data + b":x").decode(),
        "base64 for URLs": base64.urlsafe_b64encode(b"user:" + data).decode(),
        "base64 twice": base64.b64encode(base64.b64encode(data)).decode(),
        "base32": base64.b32encode(data).decode(),
        "base85": base64.b85encode(data).decode(),
        "ascii85": base64.a85encode(data).decode(),
        "hex": data.hex(),
        "hex in capitals": data.hex().upper(),
        "hex with colons": data.hex(":"),
        "quoted for a URL": quote(value, safe=""),
        "quoted for a form": quote_plus(value),
        "every byte quoted": "".join(f"%{byte:02X}" for byte in data),
        "JSON": json.dumps(value),
        "JSON in JSON": json.dumps(json.dumps({"password": value})),
        "repr": repr(value),
        "repr of bytes": repr(data),
        "HTML": html.escape(value),
        "a list of numbers": str(list(data)),
        "escapes": "".join(f"\\x{byte:02x}" for byte in data),
        "Unicode escapes": "".join(f"\\u{ord(each):04x}" for each in value),
    }


def both() -> list[str]:
    return [penstock.secret(KEPT), penstock.secret(OWN)]


USED = {KEPT: {"env": "KEPT_SECRET", "file": "kept"}, OWN: "OWN_SECRET"}


@step(secrets=USED)
def prints() -> int:
    for value in both():
        for name, text in encodings(value).items():
            print(f"{name}: {text}")
            print(f"{name}: {text}", file=sys.stderr)
            logging.getLogger("told").warning("%s: %s", name, text)
        # Over two writes, and over the place where a long line is cut.
        os.write(1, value[:7].encode())
        os.write(1, value[7:].encode() + b"\n")
        os.write(1, b"x" * (16 * 1024 - 5) + value.encode() + b"y" * 100_000 + value.encode() + b"\n")
        os.write(1, value.encode())
    return len(both())


@step(secrets=USED)
def finds_them() -> list[bool]:
    """In the environment, in the file, and nowhere else."""
    kept, own = both()
    file = Path(os.environ["PENSTOCK_SECRETS_DIR"]) / "kept"
    return [
        os.environ["KEPT_SECRET"] == kept,
        os.environ["OWN_SECRET"] == own,
        file.read_text() == kept,
        file.stat().st_mode & 0o077 == 0,
        kept not in Path("/proc/self/environ").read_text(),
        not any(name.startswith("PENSTOCK_SECRET_") for name in os.environ),
    ]


@step
def names_none() -> list[str]:
    """What a step finds that names no secrets."""
    found = [name for name in ("KEPT_SECRET", "OWN_SECRET", "PENSTOCK_SECRETS_DIR") if name in os.environ]
    with suppress(penstock.errors.ContextError):
        found.append(penstock.secret(KEPT))
    return found


@step(secrets=USED, allow_failure=True)
def raises() -> None:
    every = [text for value in both() for text in encodings(value).values()]
    try:
        raise KeyError(both()[0])
    except KeyError as error:
        error.add_note(both()[1])
        raise RuntimeError(" ".join(every)) from error


@step(secrets=USED, allow_failure=True)
def raises_much() -> None:
    """So that what is told of it is cut through a secret."""
    raise RuntimeError(both()[0] * 1_000)


@step(secrets=USED)
def reports() -> None:
    for number, value in enumerate(both()):
        context.report_metadata(f"told-{number}", " ".join(encodings(value).values())[:4_000])
        context.report_metadata(value, "as a name")
        context.report_metric(value, 1.0)


@step(secrets=USED, allow_failure=True)
def returns() -> list[str]:
    return [text for value in both() for text in encodings(value).values()]


@step(secrets=USED, allow_failure=True)
def returns_much() -> list[str]:
    """So much that it becomes an artifact."""
    return ["x" * 1_500_000, *both()]


@step(secrets=USED, allow_failure=True)
def returns_each(item: int) -> Any:
    """In one encoding alone: inline, so large that it becomes an artifact, and as bytes, which always are one."""
    number, way = divmod(item, 3)
    text = [list(encodings(value).values())[number] for value in both()][item % 2]
    return {0: text, 1: {"rows": ["x" * 40_000, text]}, 2: b"\0" + text.encode() + b"\xff"}[way]


RETURNED = len(encodings("")) * 3


@step
def every_way() -> list[int]:
    return list(range(RETURNED))


@step(secrets=USED)
def gives_harmless() -> dict[str, Any]:
    """Names secrets and tells none: what it gives is stored."""
    return {"rows": ["y" * 40_000], "bytes": b"harmless", "length": len(both()[0])}


@step(secrets=USED, allow_failure=True)
def dies() -> None:
    os.write(2, both()[0].encode() + b"\n" + both()[1].encode())
    os._exit(7)


@step(secrets=["canary-nowhere"], allow_failure=True)
def has_none() -> None: ...


@pipeline
def canary() -> Any:
    shell = command(
        name="shell",
        shell="""echo "$KEPT_SECRET"; echo "$OWN_SECRET" >&2; base64 < $PENSTOCK_SECRETS_DIR/kept; exit 3""",
        secrets=USED,
        allow_failure=True,
    )
    fine = command(
        name="fine",
        shell='test "$KEPT_SECRET" = "$(cat $PENSTOCK_SECRETS_DIR/kept)"; test -n "$OWN_SECRET"',
        secrets=USED,
    )
    returned = [returns(), returns_much(), returns_each.map(every_way()), gives_harmless()]
    told = [prints(), raises(), raises_much(), reports(), *returned, dies(), has_none(), shell, fine]
    found = finds_them()
    names_none.options(depends_on=[found])()
    return finds_them.options(name="after_all", depends_on=told)()
