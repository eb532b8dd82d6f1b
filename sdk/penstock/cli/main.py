"""The command line's entry: the list of commands, and how errors are shown."""

from __future__ import annotations

import importlib
import math
import os
import sys
import traceback
from typing import NoReturn

import click

from penstock.cli.session import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from penstock.cli.streams import give_up_output, prepare_streams
from penstock.errors import DefinitionError, LoadError, ParameterError, PenstockError, ServiceError, SettingsError

# Command: its module and name there, and the line of `penstock --help`, which imports none of them.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "dev": ("penstock.dev.command", "dev", "Start PostgreSQL, a coordinator and agents on this machine."),
    "run": ("penstock.cli.running", "run", "Run the pipeline in a file, and watch it."),
    "apply": ("penstock.cli.pipelines", "apply", "Create or update a pipeline from a file."),
    "validate": ("penstock.cli.pipelines", "validate", "Check a file without storing anything."),
    "start": ("penstock.cli.running", "start", "Start a pipeline that was applied before."),
    "watch": ("penstock.cli.running", "watch", "Watch a run until it is at rest."),
    "list": ("penstock.cli.looking", "list_command", "List runs or pipelines."),
    "get": ("penstock.cli.looking", "get", "Show a run, a step run or a pipeline."),
    "logs": ("penstock.cli.logs", "logs", "Show what the steps of a run print."),
    "explain": ("penstock.cli.explaining", "explain", "Tell why the steps of a run are not running."),
    "diff": ("penstock.cli.diffing", "diff", "Show what is different between two runs or versions."),
    "cost": ("penstock.cli.costs", "cost", "Show what a run, or many, have cost."),
    "budget": ("penstock.cli.budgets", "budget", "Show or raise what runs may cost."),
    "pause": ("penstock.cli.control", "pause", "Start nothing more of a run for now."),
    "resume": ("penstock.cli.control", "resume", "Let a paused run go on."),
    "retry": ("penstock.cli.control", "retry", "Let what failed run again."),
    "rerun": ("penstock.cli.control", "rerun", "Let a step run again with all that comes after it."),
    "rollback": ("penstock.cli.control", "rollback", "Undo what a run did."),
    "cancel": ("penstock.cli.pipelines", "cancel", "Cancel a run."),
    "bulk": ("penstock.cli.bulk", "bulk", "Cancel, retry or roll back many runs."),
    "dead-letters": ("penstock.cli.dead_letters", "dead_letters", "See, requeue or purge what failed for good."),
    "cache": ("penstock.cli.cache", "cache", "List, show or delete values of the cache."),
    "artifacts": ("penstock.cli.artifacts", "artifacts", "List, show, download and trace what steps made."),
    "delete": ("penstock.cli.pipelines", "delete", "Delete a pipeline."),
    "agents": ("penstock.cli.agents", "agents", "List, show or drain agents."),
    "queues": ("penstock.cli.queues", "queues", "List what waits for agents and runs on them."),
    "coordinators": (
        "penstock.cli.coordinators",
        "coordinators",
        "List coordinators, or give the runs to another one.",
    ),
    "health": ("penstock.cli.health", "health", "Show how the coordinator and its database fare."),
    "secrets": ("penstock.cli.secrets", "secrets", "Keep what steps need and nobody may read."),
    "janitor": ("penstock.cli.janitor", "janitor", "Remove what is kept no longer."),
    "config": ("penstock.cli.configuration", "config", "Show every setting with its value and source."),
    "server": ("penstock.cli.processes", "server", "Run a coordinator."),
    "agent": ("penstock.cli.processes", "agent", "Run an agent."),
}


_CODES = {
    "INVALID_ARGUMENT": "not accepted",
    "NOT_FOUND": "not found",
    "ALREADY_EXISTS": "not accepted",
    "FAILED_PRECONDITION": "not possible now",
    "OUT_OF_RANGE": "not there yet",
    "UNAVAILABLE": "no answer",
    "DEADLINE_EXCEEDED": "no answer in time",
    "RESOURCE_EXHAUSTED": "past a limit",
    "PERMISSION_DENIED": "not allowed",
    "UNAUTHENTICATED": "not allowed",
    "UNIMPLEMENTED": "the coordinator cannot do this",
    "ABORTED": "not stored",
    "INTERNAL": "a fault of the coordinator",
}


class LazyCommands(click.Group):
    """Imports a command when it is called, not when another one is."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _help = COMMANDS[name]
        try:
            found = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "penstock").startswith("penstock"):
                raise
            return _unavailable(name, error)
        if not isinstance(found, click.Command):
            raise TypeError(f"{module}.{attribute} is no command")
        return found

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, _attribute, text) in COMMANDS.items()])

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from penstock.names import nearest

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            context.fail(f"There is no command {args[0]!r} ({nearest(args[0], COMMANDS)}).")
        return super().resolve_command(context, args)


def _unavailable(name: str, error: ModuleNotFoundError) -> click.Command:
    """Stands in for a command that needs an extra which is not installed."""
    extra = "all" if name == "dev" else ""
    missing = (error.name or "").partition(".")[0]

    @click.command(name, context_settings={"ignore_unknown_options": True}, add_help_option=False)
    @click.argument("_rest", nargs=-1)
    def unavailable(_rest: tuple[str, ...]) -> NoReturn:
        raise PenstockError(
            f"`penstock {name}` needs {missing!r}, which is not installed",
            remedy=f"pip install 'penstock[{extra}]'" if extra else f"pip install {missing}",
        )

    return unavailable


@click.command(cls=LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock", message="penstock %(version)s")
@click.option("--address", metavar="HOST:PORT", help="The coordinator; may also stand behind the command.")
@click.option("--config", "config_file", metavar="FILE", help="The configuration file. Default: PENSTOCK_CONFIG.")
@click.pass_context
def cli(context: click.Context, address: str | None, config_file: str | None) -> None:
    """Durable pipelines: define them in Python or YAML, run them on agents.

    Settings come from options, PENSTOCK_ADDRESS and PENSTOCK_API_KEY, and the configuration file
    (`penstock config` shows them). PENSTOCK_DEBUG=1 shows the trace of an error.
    """
    if config_file is not None:
        # For this process, and for those that it starts or becomes.
        os.environ["PENSTOCK_CONFIG"] = config_file
    if address is not None and context.invoked_subcommand in ("dev", "server", "agent"):
        raise click.UsageError(
            f"--address is no option of all commands: see penstock {context.invoked_subcommand} --help"
        )
    context.obj = address


def main() -> NoReturn:
    """Runs the command line and exits. Errors are one line on standard error."""
    prepare_streams()
    try:
        code = cli.main(prog_name="penstock", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except PenstockError as error:
        _show(error)
        code = _exit_code(error)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone: nobody is left to be told.
        give_up_output()
        code = EXIT_FAILED
    except OSError as error:
        _show_system_error(error)
        code = EXIT_FAILED
    sys.exit(code if isinstance(code, int) else 0)


def _exit_code(error: PenstockError) -> int:
    """2 for what the caller gave, 1 for what happened."""
    refused = isinstance(error, ServiceError) and error.code in ("INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS")
    usage = isinstance(error, DefinitionError | LoadError | ParameterError | SettingsError)
    return EXIT_USAGE if usage or refused else EXIT_FAILED


def _show_system_error(error: OSError) -> None:
    """What the machine refuses and no command has an answer for: a full disk, a folder that is gone."""
    _show_trace(error)
    give_up_output()
    place = f": {error.filename}" if error.filename else ""
    click.echo(f"penstock: {error.strerror or type(error).__name__}{place} (PENSTOCK_DEBUG=1 shows where)", err=True)


def _show_trace(error: Exception) -> None:
    if os.environ.get("PENSTOCK_DEBUG") == "1":
        traceback.print_exception(error)


def _show(error: PenstockError) -> None:
    _show_trace(error)
    if isinstance(error, LoadError) and error.user_traceback:
        click.echo(error.user_traceback.rstrip(), err=True)
    click.echo(f"penstock: {_one_line(error)}", err=True)


def _when(error: ServiceError) -> str:
    """When another try makes sense, if the coordinator says it: for people, and for scripts that sleep."""
    return f"; come back in {math.ceil(error.retry_after)} s" if error.retry_after else ""


def _one_line(error: PenstockError) -> str:
    """In words of people: what a code of the API means for whoever typed the command."""
    text = str(error)
    if isinstance(error, ServiceError):
        from penstock.cli.remedies import in_words_of_commands

        code = _CODES.get(error.code, error.code.lower().replace("_", " "))
        text = f"{code}: {in_words_of_commands(error) or text}{_when(error)}"
    return " ".join(text.split())
