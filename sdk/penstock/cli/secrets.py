"""`secrets`: what steps need to know and nobody may read."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from penstock.cli.session import Session, command_options, confirm, emit_json, message_dict, run_async

if TYPE_CHECKING:
    from penstock.v1 import secret_service_pb2

LARGEST = 1 << 20


@click.group()
def secrets() -> None:
    """Secrets that the coordinator keeps, encrypted, for the steps that name them. No command shows a value."""


@secrets.command("set")
@click.argument("name")
@command_options
def set_secret(session: Session, name: str) -> None:
    """Make a secret, or give it another value. The value is read from the standard input, or asked for: on a command
    line everybody on the machine could read it. The line break at the end of a single line does not count."""
    value = _asked(name) if sys.stdin.isatty() else one_line(_from_stdin())

    async def main() -> None:
        async with session.client() as client:
            secret = await client.set_secret(name, value)
        if session.as_json:
            session.emit(secret)
        session.say(f"the secret {name} is set: attempts that begin from now on get it")

    run_async(main)


def _asked(name: str) -> str:
    value: str = click.prompt(f"Value of {name}", hide_input=True, confirmation_prompt="Once more", err=True)
    return value


def _from_stdin() -> str:
    data = sys.stdin.buffer.read(LARGEST + 1)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise click.UsageError("The value is no text in UTF-8: encode it, for example in base64.") from None


def one_line(value: str) -> str:
    """What `echo` puts behind a value is none of it; a text of several lines is as it is."""
    line = value.removesuffix("\n").removesuffix("\r")
    return value if "\n" in line else line


@secrets.command("list")
@command_options
def list_secrets(session: Session) -> None:
    """List the names, and when each was made and set last."""

    async def main() -> None:
        found: list[secret_service_pb2.Secret] = []
        async with session.client() as client:
            async for secret in client.list_secrets():
                found.append(secret)
        _show(session, found)

    run_async(main)


def _show(session: Session, found: list[secret_service_pb2.Secret]) -> None:
    if session.as_json:
        for secret in found:
            emit_json(message_dict(secret))
        return
    if not found:
        session.say("the coordinator keeps no secrets: `penstock secrets set NAME` makes one")
        return
    from penstock.cli.tables import print_table, time_text

    rows = [(each.name, time_text(each, "create_time"), time_text(each, "update_time"), each.key_id) for each in found]
    print_table(session.console(), ("NAME", "CREATED", "SET", "KEY"), rows)


@secrets.command("delete")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@command_options
def delete_secret(session: Session, name: str, yes: bool) -> None:
    """Delete a secret. Attempts that begin from then on, and name it, fail."""
    if not yes:
        confirm(f"Delete the secret {name}?")

    async def main() -> None:
        async with session.client() as client:
            await client.delete_secret(name)
        session.say(f"the secret {name} is deleted")

    run_async(main)


@secrets.command("rotate")
@command_options
def rotate_secrets(session: Session) -> None:
    """Encrypt all secrets again, with the newest key of the coordinator. Then the older ones can be taken away."""

    async def main() -> None:
        async with session.client() as client:
            rotated = await client.rotate_secrets()
        if session.as_json:
            emit_json({"rotated": rotated})
        session.say(f"{rotated:,} secrets are encrypted with the newest key; the others were already")

    run_async(main)


@secrets.command("new-key")
def new_key() -> None:
    """Make a key for PENSTOCK_SECRETS_KEY of the coordinator, and print it. Asks no coordinator, keeps nothing."""
    import base64
    import os

    click.echo(base64.b64encode(os.urandom(32)).decode())
