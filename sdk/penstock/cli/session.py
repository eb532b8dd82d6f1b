"""What every command shares: the options --address and --json, the client, the output, the exit codes."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from penstock.cli.streams import writes_unicode

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console

    from penstock.client.client import Client

F = TypeVar("F", bound=Callable[..., Any])

# A person waits while nobody answers: long enough for a coordinator that is being restarted, short enough otherwise.
RETRY_FOR = 5.0

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_CANCELLED = 3
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Session:
    address: str | None
    as_json: bool

    def client(self) -> Client:
        from penstock.client.client import Client

        show_warnings()
        return Client(self.address, retry_for=RETRY_FOR)

    def console(self) -> Console:
        from rich.console import Console

        return Console(highlight=False, soft_wrap=not sys.stdout.isatty())

    def say(self, text: str) -> None:
        """For people; nothing with --json."""
        if not self.as_json:
            click.echo(text)

    def emit(self, message: Message) -> None:
        """One line of JSON: the message in protobuf's JSON mapping, with all of its fields."""
        emit_json(message_dict(message))


class _Warnings(logging.Handler):
    """What the client warns of, on standard error: also with --json, which is about standard output."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"Warning: {record.getMessage()}", err=True)


def show_warnings() -> None:
    logger = logging.getLogger("penstock.client")
    if not any(isinstance(each, _Warnings) for each in logger.handlers):
        logger.addHandler(_Warnings(logging.WARNING))


def message_dict(message: Message) -> dict[str, Any]:
    from google.protobuf import json_format

    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


def emit_json(value: Any) -> None:
    # A question mark in place of a character would be another value: JSON has a way to write it in ASCII.
    click.echo(json.dumps(value, ensure_ascii=not writes_unicode(), separators=(",", ":")))


def command_options(function: F) -> F:
    """Adds --address and --json; the command gets a `Session` as its first argument."""

    @functools.wraps(function)
    def wrapper(address: str | None, as_json: bool, **arguments: Any) -> Any:
        return function(Session(address or _address_before(), as_json), **arguments)

    with_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text, one value per line.")
    with_address = click.option(
        "--address",
        metavar="HOST:PORT[,…]",
        help="The coordinator, or several. Default: PENSTOCK_ADDRESS, then 127.0.0.1:7400.",
    )
    return with_json(with_address(wrapper))  # type: ignore[return-value]  # click keeps the function's type


def _address_before() -> str | None:
    """Given before the command: `penstock --address X list`."""
    found: str | None = click.get_current_context().find_root().obj
    return found


def file_options(function: F) -> F:
    """Adds what every command that reads a pipeline's file takes: FILE as `target`, and `chosen` and `settings`."""
    for decorate in (
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="NAME=VALUE",
            help="A structure argument of a template.",
        ),
        click.option("--pipeline", "chosen", metavar="NAME", help="Which pipeline or template of the file."),
        click.argument("target", metavar="FILE[:PIPELINE]"),
    ):
        function = decorate(function)
    return function


def confirm(question: str) -> None:
    """Ask, on standard error. Raises `click.Abort` on a no, and `click.UsageError` if nobody is there to answer."""
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort as nothing:
        if sys.stdin.isatty() or not isinstance(nothing.__context__, EOFError):
            raise
        click.echo(err=True)
        raise click.UsageError("Nobody is there to answer: add --yes.") from None
    if not agreed:
        raise click.Abort


def run_async(main: Callable[[], Awaitable[int | None]]) -> None:
    """Runs a command's coroutine; what it returns is the exit code."""

    async def entry() -> int:
        return await main() or EXIT_OK

    code = asyncio.run(entry())
    if code:
        raise SystemExit(code)
