"""The commands of a coordinator.

python -m penstock_coordinator [server]     run it until SIGTERM or SIGINT
python -m penstock_coordinator migrate      bring the database's schema up to date
python -m penstock_coordinator config       show every setting with its source
python -m penstock_coordinator rotate-signing-key   sign with a new key from now on
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from pydantic import ByteSize, SecretStr

from penstock_coordinator.core.run.spans import microseconds
from penstock_coordinator.settings import (
    Settings,
    SettingsError,
    ShownSetting,
    add_flags,
    flags_of,
    load_settings,
    read_span,
    shown_settings,
)
from penstock_coordinator.settings_reading import Secret, is_to_serve

if TYPE_CHECKING:
    from collections.abc import Sequence

KEY_OVERLAP = "30d"
CANNOT_START = 2


def to_serve(arguments: Sequence[str]) -> tuple[dict[str, object], bool, list[str]]:
    """What `settings_reading.Given` is made of, of the arguments of the command `server`. Raises `SystemExit`, with the
    user told why."""
    parsed = _parsed(arguments)
    try:
        settings = load_settings(flags_of(parsed), parsed.config_file)
    except SettingsError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(CANNOT_START) from None
    return plain(settings), parsed.migrates, parsed.former


def plain(settings: Settings) -> dict[str, object]:
    """The settings by name, and nothing in them that needs what has read them."""
    return {name: _plain(getattr(settings, name)) for name in Settings.model_fields}


def _plain(value: object) -> object:
    match value:
        case SecretStr():
            return Secret(value.get_secret_value())
        case ByteSize():
            return int(value)
    return value


def look_after(arguments: Sequence[str]) -> int:
    """Any other command. The exit code: 0, 1 if it ended by a fault, 2 if it cannot be done."""
    parsed = _parsed(arguments)
    flags = flags_of(parsed)
    try:
        settings = load_settings(flags, parsed.config_file)
        if parsed.command == "config":
            _show(shown_settings(settings, flags, parsed.config_file), as_json=parsed.json)
            return 0
        return _work(parsed, settings)
    except SettingsError as error:
        sys.stderr.write(f"error: {error}\n")
        return CANNOT_START


def _work(parsed: argparse.Namespace, settings: Settings) -> int:
    from penstock_coordinator.main import rotate_signing_key, run
    from penstock_coordinator.opening import update_schema

    if parsed.command == "migrate":
        return run(settings, update_schema(settings))
    others_live = microseconds(read_span(parsed.expire_after))
    return run(settings, rotate_signing_key(settings, others_live))


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    named = not is_to_serve(arguments) or (bool(arguments) and arguments[0] == "server")
    return _parser().parse_args(arguments if named else ["server", *arguments])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="penstock server", description="Run a coordinator, or look after its database and settings."
    )
    # Without abbreviations: --database-url, which there is not, would be taken for --database-url-file.
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    server = commands.add_parser("server", help="run the coordinator (the default)", allow_abbrev=False)
    server.add_argument(
        "--no-migrate",
        dest="migrates",
        action="store_false",
        help="do not bring the schema up to date first: refuse to start if it is not",
    )
    server.add_argument(
        "--take-over-from",
        dest="former",
        action="append",
        default=[],
        metavar="ID",
        help="take the live runs of a coordinator of an earlier release, which is stopped for good (its id is in its"
        " data folder, and in the log of the others)",
    )
    add_flags(server)
    add_flags(commands.add_parser("migrate", help="bring the database's schema up to date", allow_abbrev=False))
    rotate = commands.add_parser(
        "rotate-signing-key", help="sign credentials and addresses with a new key from now on", allow_abbrev=False
    )
    rotate.add_argument(
        "--expire-after",
        default=KEY_OVERLAP,
        metavar="SPAN",
        help="what the former keys signed is accepted for so long, longer than any attempt runs"
        f" (default {KEY_OVERLAP}; 0s: a key was stolen)",
    )
    add_flags(rotate)
    config = commands.add_parser("config", help="show every setting with its source", allow_abbrev=False)
    config.add_argument("--json", action="store_true", help="as a JSON object per line")
    add_flags(config)
    return parser


def _show(shown: Sequence[ShownSetting], *, as_json: bool) -> None:
    for setting in shown:
        if as_json:
            told = {"name": setting.name, "variable": setting.variable, "value": setting.value}
            line = json.dumps({**told, "source": setting.source, "description": setting.description})
        else:
            line = f"{setting.variable}={setting.value}  ({setting.source}; {setting.description})"
        sys.stdout.write(line + "\n")
