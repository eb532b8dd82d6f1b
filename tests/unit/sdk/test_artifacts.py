"""`Artifact` and its codecs, without an agent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pandas  # type: ignore[import-untyped]  # it has no types
import pytest

from penstock import Artifact, ArtifactFile, command, pipeline, register_codec
from penstock.artifacts import exchange
from penstock.artifacts.codecs import codec_of
from penstock.errors import ArtifactError, DefinitionError

DIGEST = "sha256:" + "0" * 64


def stored(path: Path, **more: Any) -> dict[str, Any]:
    return {"digest": DIGEST, "size": path.stat().st_size, "kind": "file", "name": path.name, **more}


def given(path: Path, **more: Any) -> Any:
    return exchange.restore(stored(path, **more), str(path), "load", False)


def test_the_library_is_light() -> None:
    """No codec's library is imported before a value of it is met."""
    script = (
        "import sys, penstock; penstock.Artifact; penstock.register_codec;"
        "print({'pandas', 'polars', 'pyarrow', 'numpy', 'grpc', 'google.protobuf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("name", "content", "value"),
    [
        ("a.json", b'{"a": [1]}', {"a": [1]}),
        ("a.csv", b"a,b\n", "a,b\n"),
        ("a.txt", "ä".encode(), "ä"),
        ("a.bin", b"\xff", b"\xff"),
        ("a", b"x", b"x"),
    ],
)
def test_a_file_is_loaded_by_its_ending(tmp_path: Path, name: str, content: bytes, value: Any) -> None:
    (tmp_path / name).write_bytes(content)
    assert given(tmp_path / name).load() == value
    assert given(tmp_path / name).load("bytes") == content


def test_a_parquet_or_numpy_file_is_loaded(tmp_path: Path) -> None:
    pandas.DataFrame({"a": [1]}).to_parquet(tmp_path / "a.parquet")
    assert list(given(tmp_path / "a.parquet").load()["a"]) == [1]
    assert given(tmp_path / "a.parquet").load("polars-parquet").rows() == [(1,)]
    numpy.save(tmp_path / "a.npy", numpy.ones(3))
    assert given(tmp_path / "a.npy").load().tolist() == [1, 1, 1]


def test_what_is_stored_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")
    artifact = given(path, metadata={"rows": 1})
    assert (artifact.size, artifact.digest, artifact.metadata) == (1, DIGEST, {"rows": 1})
    assert artifact.open("r").read() == "x"
    with pytest.raises(ArtifactError, match="would change an artifact"):
        artifact.open("w")
    with pytest.raises(ArtifactError, match="never loaded as a pickle"):
        artifact.load("pickle")
    folder = exchange.restore(stored(path, kind="dir"), str(tmp_path), "load", False)
    for use in (folder.open, folder.load):
        with pytest.raises(ArtifactError, match="is a folder"):
            use()


@pytest.mark.parametrize("name", ["..", "a/b", "a\\b", "a\nb", "x" * 256])
def test_names_are_one_part_of_a_path(name: str) -> None:
    with pytest.raises(ArtifactError, match="no name of an artifact"):
        Artifact.file("x", name=name)


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [({"a": object()}, "no JSON form"), ({"a": "x" * 20_000}, "20,0"), ({"$artifact": 1}, "Penstock's own")],
)
def test_metadata_is_small_json(metadata: dict[str, Any], problem: str) -> None:
    with pytest.raises(ArtifactError, match=problem):
        Artifact.file("x", metadata=metadata)


def test_the_newest_codec_of_a_type_wins_and_subclasses_count() -> None:
    class Base:
        pass

    class Derived(Base):
        pass

    def write(value: Any, path: Path) -> None:
        path.write_text("x")

    first = register_codec("first-of-base", Base, write=write, read=lambda path: Base())
    assert codec_of(Derived()) is first
    second = register_codec("second-of-base", [Base, "no.such.module.Type"], write=write, read=lambda path: Base())
    assert codec_of(Derived()) is second
    assert codec_of(object()) is None
    with pytest.raises(ArtifactError, match="cannot have the name 'json'"):
        register_codec("json", Base, write=write, read=lambda path: None)


def test_an_array_of_objects_is_no_pickle(tmp_path: Path) -> None:
    codec = codec_of(numpy.array([object()]))
    assert codec is not None
    with pytest.raises(ArtifactError, match="would need a pickle"):
        codec.write(numpy.array([object()]), tmp_path / "x")


def test_a_codec_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("x")
    with pytest.raises(ArtifactError, match="no codec 'theirs' here"):
        given(path, kind="value", codec="theirs")


def test_commands_name_paths_below_their_folder() -> None:
    def drawn(**more: Any) -> Any:
        @pipeline
        def flow() -> None:
            command("c", shell="true", **more)

        return flow.spec().steps[0].command

    action = drawn(inputs={"a": 1}, input_files={"a": "in/a"}, outputs={"m": ArtifactFile("out")})
    assert dict(action.input_files) == {"a": "in/a"}
    assert (action.outputs[0].file, action.outputs[0].artifact) == ("out", True)
    for more in ({"outputs": {"m": ArtifactFile("/etc")}}, {"inputs": {"a": 1}, "input_files": {"a": "../x"}}):
        with pytest.raises(DefinitionError, match="no path below the working folder"):
            drawn(**more)
    with pytest.raises(DefinitionError, match="no input 'b'"):
        drawn(inputs={"a": 1}, input_files={"b": "x"})


def test_pickles_are_allowed_by_name() -> None:
    def train() -> None:
        pass

    @pipeline(allow_pickle=["train", "train"], bundle=False)
    def flow() -> None:
        command("c", shell="true")

    assert list(flow.spec().allow_pickle) == ["train"]
    with pytest.raises(DefinitionError, match="allow_pickle"):
        pipeline(allow_pickle="train")(train)
    with pytest.raises(DefinitionError, match="defaults: 3 is no dict"):
        pipeline(defaults=3)(train)  # type: ignore[call-overload]
