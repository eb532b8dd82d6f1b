"""`artifacts`: what steps made, where it came from and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.cli.remedies import known_pipeline
from penstock.cli.run_ids import find_run
from penstock.cli.session import Session, command_options, run_async

if TYPE_CHECKING:
    from penstock.client.client import Client
    from penstock.v1 import artifact_service_pb2

SHORT_DIGEST = 12
"""Hex digits of a digest that tables show: enough to tell artifacts apart, not to name one."""


@click.group()
def artifacts() -> None:
    """Values too large to be inline, files and folders that steps made.

    ARTIFACT is an id as `list` gives it, also with the end of a run's id in it (`9f8c21d0:42:0`), or a digest
    (`sha256:…`): then the newest with these bytes is meant.
    """


@artifacts.command("list")
@click.option("--run", "run_id", default="", metavar="RUN", help="Only those that this run made.")
@click.option("--step", default="", metavar="STEP", help="Only those of the step of this name, with its items.")
@click.option("--digest", default="", metavar="DIGEST", help="Only those with these bytes.")
@click.option("--pipeline", default="", metavar="NAME", help="Only those of this pipeline.")
@click.option("--name", default="", metavar="NAME", help="Only those of this name.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@command_options
def list_artifacts(session: Session, limit: int, **chosen: str) -> None:
    """List artifacts, the newest first."""

    async def main() -> None:
        found: list[artifact_service_pb2.Artifact] = []
        async with session.client() as client:
            if chosen["run_id"]:
                chosen["run_id"] = await find_run(client, chosen["run_id"])
            async for artifact in client.artifacts.list(**chosen):
                found.append(artifact)
                if len(found) == limit:
                    break
            if not found and chosen["pipeline"]:
                await known_pipeline(client, chosen["pipeline"])
        _show_list(session, found)

    run_async(main)


@artifacts.command("get")
@click.argument("artifact_id", metavar="ARTIFACT")
@command_options
def get_artifact(session: Session, artifact_id: str) -> None:
    """Show an artifact: what it is, and what made it."""

    async def main() -> None:
        async with session.client() as client:
            found = await client.artifacts.get(await _named(client, artifact_id))
        _show(session, found)

    run_async(main)


@artifacts.command("download")
@click.argument("artifact_id", metavar="ARTIFACT")
@click.option(
    "--output",
    "-o",
    "path",
    type=click.Path(path_type=Path),
    help="The file; default: the artifact's name, in this folder.",
)
@click.option("--force", is_flag=True, help="In place of a file that is there.")
@command_options
def download(session: Session, artifact_id: str, path: Path | None, force: bool) -> None:
    """Bring an artifact's bytes into a file, which is there when they are whole and have the digest. A folder comes as
    a tar archive."""

    async def main() -> None:
        async with session.client() as client:
            found = await client.artifacts.get(await _named(client, artifact_id))
            target = path or _default_path(found)
            if target.is_dir():
                target = target / _default_path(found)
            if target.exists() and not force:
                raise click.ClickException(f"{target} is there already: name another file (-o), or add --force")
            try:
                await client.artifacts.download(found.id, target)
            except OSError as error:
                raise click.ClickException(f"cannot write {target}: {error.strerror or error}") from None
        if session.as_json:
            session.emit(found)
        session.say(f"{target}: {found.size_bytes:,} bytes, {found.digest}")

    run_async(main)


@artifacts.command("lineage")
@click.argument("artifact_id", metavar="ARTIFACT")
@click.option("--up", is_flag=True, help="Only what it was made from.")
@click.option("--down", is_flag=True, help="Only what was made of it.")
@click.option("--depth", type=click.IntRange(1, 100), default=10, show_default=True, help="So many steps away.")
@command_options
def lineage(session: Session, artifact_id: str, up: bool, down: bool, depth: int) -> None:
    """Show which steps an artifact came from, with what they took, and which took it, with what they made."""

    async def main() -> None:
        from penstock.v1 import artifact_service_pb2 as pb

        direction = pb.LINEAGE_DIRECTION_UNSPECIFIED
        if up != down:
            direction = pb.LINEAGE_DIRECTION_UP if up else pb.LINEAGE_DIRECTION_DOWN
        async with session.client() as client:
            named = await _named(client, artifact_id)
            found = await client.artifacts.lineage(named, direction=direction, depth=depth)
        if session.as_json:
            session.emit(found)
            return
        _show_lineage(session, found)

    run_async(main)


async def _named(client: Client, text: str) -> str:
    """With the whole id of the run."""
    run, colon, rest = text.partition(":")
    if not colon or run == "sha256":
        return text
    return f"{await find_run(client, run)}:{rest}"


def _default_path(found: artifact_service_pb2.Artifact) -> Path:
    from penstock.v1 import artifact_service_pb2 as pb

    name = Path(found.name).name or "artifact"
    of_value = f".{found.codec}" if found.codec and not Path(name).suffix else ""
    ending = {pb.ARTIFACT_KIND_DIR: ".tar", pb.ARTIFACT_KIND_VALUE: of_value}.get(found.kind, "")
    return Path(name if name.endswith(ending) else name + ending)


def _kind(found: artifact_service_pb2.Artifact) -> str:
    from penstock.v1 import artifact_service_pb2 as pb

    kind = pb.ArtifactKind.Name(found.kind).removeprefix("ARTIFACT_KIND_").lower()
    return f"{kind} ({found.codec})" if found.codec else kind


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHORT_DIGEST]


def _show_list(session: Session, found: list[artifact_service_pb2.Artifact]) -> None:
    if session.as_json:
        for each in found:
            session.emit(each)
        return
    from penstock.cli.tables import print_table, time_text

    rows = [
        (
            each.id,
            each.name,
            _kind(each),
            f"{each.size_bytes:,}",
            each.pipeline,
            each.display_name,
            _short(each.digest),
            time_text(each, "create_time"),
        )
        for each in found
    ]
    if rows:
        columns = ("ARTIFACT", "NAME", "KIND", "BYTES", "PIPELINE", "STEP", "DIGEST", "MADE")
        print_table(session.console(), columns, rows)
    else:
        session.say("There is no such artifact.")


def _show(session: Session, found: artifact_service_pb2.Artifact) -> None:
    if session.as_json:
        session.emit(found)
        return
    from penstock.cli.tables import print_table, time_text

    told = {
        "artifact": found.id,
        "name": found.name,
        "kind": _kind(found),
        "bytes": f"{found.size_bytes:,}",
        "digest": found.digest,
        "media type": found.media_type,
        "metadata": found.metadata_json,
        "made": time_text(found, "create_time"),
        "run": found.run_id,
        "pipeline": f"{found.pipeline}@{found.pipeline_version}" if found.pipeline_version else found.pipeline,
        "step": f"{found.display_name}, attempt {found.attempt}",
        "code": found.code_digest,
    }
    print_table(session.console(), ("WHAT", "VALUE"), [(name, value) for name, value in told.items() if value])


def _show_lineage(session: Session, found: artifact_service_pb2.GetLineageResponse) -> None:
    session.say(f"{found.artifact.name}  {found.artifact.digest}")
    if found.up:
        session.say("made by:")
    for step in found.up:
        _show_step(session, step, took_first=False)
    if found.down:
        session.say("taken by:")
    for step in found.down:
        _show_step(session, step, took_first=True)
    if found.truncated:
        session.say("There is more, further away: see --depth.")


def _show_step(session: Session, step: artifact_service_pb2.LineageStep, *, took_first: bool) -> None:
    indent = "  " * step.depth
    version = f"@{step.pipeline_version}" if step.pipeline_version else ""
    code = f", code {step.code_digest[:SHORT_DIGEST]}" if step.code_digest else ""
    session.say(
        f"{indent}{step.pipeline}{version} {step.display_name}, attempt {step.attempt}{code}, run {step.run_id}"
    )
    took = [f"{indent}  took {each.name}: {_short(each.digest)}" for each in step.inputs]
    made = [f"{indent}  made {each.name}: {_short(each.digest)}" for each in step.made]
    for line in (took + made) if took_first else (made + took):
        session.say(line)
