"""Bundles: the same tree is the same bytes, and nothing leaves or enters that should not."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.bundle import archive, tree
from penstock.bundle.archive import Bundle, build_bundle
from penstock.bundle.layout import layout_of
from penstock.errors import BundleError, DefinitionError


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def names(bundle: Bundle) -> list[str]:
    return members(bundle).getnames()


def members(bundle: Bundle) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(bundle.data), mode="r:gz")


FILES = {"b.py": "b", "a/c.py": "c" * 100_000, "a.py": "a", "Z/ü.py": "z", "empty": "", "x" * 120 + "/long.py": "l"}


def test_the_digest_depends_on_the_tree_alone(tmp_path: Path) -> None:
    first = write(tmp_path / "one", FILES)
    second = write(tmp_path / "two", dict(reversed(FILES.items())))
    for path in second.rglob("*"):
        os.utime(path, (1, 1))
        if path.is_file():
            path.chmod(0o600)
    one, two = build_bundle(first), build_bundle(second)
    assert one.data == two.data
    assert one.digest == hashlib.sha256(one.data).hexdigest()
    # For ever: a new digest of an unchanged tree would make new versions of everybody's pipelines.
    assert one.digest == "4fe1f64c8d0a1e95f2d0ad54ce2e8259435f2204b299936751dce7dccaa26b71"


def test_the_archive_is_plain_and_anonymous(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    (tmp_path / "a.py").chmod(0o4775)
    with members(build_bundle(tmp_path)) as opened:
        found = {member.name: member for member in opened.getmembers()}
        assert list(found) == sorted(FILES, key=str.encode)
        assert {(each.uid, each.gid, each.uname, each.gname, each.mtime) for each in found.values()} == {
            (0, 0, "", "", 0)
        }
        assert {name for name, each in found.items() if each.mode == 0o755} == {"a.py"}
        assert {each.mode for name, each in found.items() if name != "a.py"} == {0o644}
        assert all(each.isreg() for each in found.values())
        content = opened.extractfile("a/c.py")
        assert content is not None
        assert content.read() == b"c" * 100_000


def test_other_programs_read_the_archive(tmp_path: Path) -> None:
    write(tmp_path / "tree", FILES)
    packed = tmp_path / "bundle.tar.gz"
    packed.write_bytes(build_bundle(tmp_path / "tree").data)
    listed = subprocess.run(["tar", "-tzf", packed], check=True, capture_output=True, text=True).stdout
    assert len(listed.splitlines()) == len(FILES)


def test_ignore_files_of_all_levels_are_respected(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".gitignore": "*.log\n/build/\ndata/**\n!data/keep.csv\n",
            "main.py": "",
            "x.log": "",
            "build/out": "",
            "pkg/build/kept": "",
            "data/big.csv": "",
            "data/keep.csv": "",
            "pkg/.gitignore": "!important.log\nsecret.py\n",
            "pkg/important.log": "",
            "pkg/other.log": "",
            "pkg/secret.py": "",
            "pkg/deep/secret.py": "",
            ".penstockignore": "docs/\n!generated.log\n",
            "docs/index.md": "",
            "generated.log": "",
        },
    )
    assert names(build_bundle(tmp_path)) == [
        ".gitignore",
        ".penstockignore",
        "data/keep.csv",
        "generated.log",
        "main.py",
        "pkg/.gitignore",
        "pkg/build/kept",
        "pkg/important.log",
    ]


def test_a_line_of_an_ignore_file_that_is_no_pattern_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "[z-a]\n!\n*.log\n", "main.py": "", "x.log": ""})
    assert names(build_bundle(tmp_path)) == [".gitignore", "main.py"]


PATTERNS = ["*.log", "/a", "a/", "b/**", "**/c", "!b/keep", "a/*", "!a/b", "d", "!d/x.log", "**", "!*.py"]
PATHS = ["a/b/c", "a/keep", "b/keep", "b/a/keep", "c/x.py", "d/x.log", "x.log", "a.py", "b/c/d/x.py", "b/x.py"]


@given(
    st.lists(st.sampled_from(PATTERNS), max_size=4),
    st.lists(st.sampled_from(PATTERNS), max_size=3),
    st.sets(st.sampled_from(PATHS), min_size=1),
)
@settings(max_examples=60, deadline=None)
def test_ignore_files_mean_what_git_means(top: list[str], inner: list[str], paths: set[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder), dict.fromkeys(paths, ""))
        write(root, {".gitignore": "\n".join(["!.gitignore", *top, "!.gitignore"]), "b/.gitignore": "\n".join(inner)})
        git = ["git", "-C", folder]
        subprocess.run([*git, "init", "-q"], check=True)
        arguments = ["ls-files", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run([*git, *arguments], check=True, capture_output=True, text=True).stdout
        assert {file.name for file in tree.list_files(root)} == set(listed.split("\0")[:-1])


def test_ignore_files_above_the_root_count_inside_a_repository(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "above\n", "repo/.gitignore": "*.tmp\n", "repo/.git/HEAD": ""})
    write(tmp_path, {"repo/part/pyproject.toml": "", "repo/part/a.tmp": "", "repo/part/above": ""})
    assert names(build_bundle(tmp_path / "repo" / "part")) == ["above", "pyproject.toml"]


def test_environments_and_caches_never_go_in(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.py": "",
            ".gitignore": "!.git\n!node_modules\n",
            ".git/config": "",
            "__pycache__/main.pyc": "",
            "pkg/__pycache__/x.pyc": "",
            ".venv/bin/python": "",
            "my-env/pyvenv.cfg": "",
            "my-env/lib/x.py": "",
            "node_modules/x/index.js": "",
            ".penstock/postgres/base": "",
        },
    )
    assert names(build_bundle(tmp_path)) == [".gitignore", "main.py"]


def test_a_link_to_a_file_of_the_tree_is_shipped_as_the_file(tmp_path: Path) -> None:
    write(tmp_path, {"real.py": "content"})
    (tmp_path / "link.py").symlink_to("real.py")
    with members(build_bundle(tmp_path)) as opened:
        assert opened.getmember("link.py").isreg()
        content = opened.extractfile("link.py")
        assert content is not None
        assert content.read() == b"content"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("/etc/passwd", "leads out of the tree"),
        ("../outside", "leads out of the tree"),
        ("nowhere", "leads nowhere"),
        ("link", "leads nowhere"),
        ("folder", "leads to a folder"),
    ],
)
def test_other_links_are_refused_by_name(tmp_path: Path, target: str, message: str) -> None:
    root = write(tmp_path / "root", {"main.py": "", "folder/x.py": ""})
    (tmp_path / "outside").write_text("secret")
    (root / "link").symlink_to(target)
    with pytest.raises(BundleError, match=message) as caught:
        build_bundle(root)
    assert caught.value.field == "link"
    assert ".penstockignore" in caught.value.remedy
    write(root, {".penstockignore": "link\n"})
    assert "link" not in names(build_bundle(root))


def test_an_environment_is_left_out_as_a_link_too(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"pyvenv.cfg": "", "bin/python": ""})
    root = write(tmp_path / "root", {"main.py": ""})
    (root / ".venv").symlink_to(tmp_path / "elsewhere")
    (root / "env").symlink_to("../elsewhere")
    (root / "node_modules").symlink_to("nowhere")
    assert names(build_bundle(root)) == ["main.py"]


def test_a_link_out_of_the_tree_is_told_with_its_end(tmp_path: Path) -> None:
    root = write(tmp_path / "root", {"main.py": ""})
    write(tmp_path, {"data/x": ""})
    (root / "data").symlink_to("../data")
    with pytest.raises(BundleError, match=f"to {tmp_path}/data"):
        build_bundle(root)


def test_a_tree_under_a_link_is_itself_followed(tmp_path: Path) -> None:
    write(tmp_path / "real", {"main.py": ""})
    (tmp_path / "alias").symlink_to("real")
    assert names(build_bundle(tmp_path / "alias")) == ["main.py"]


def test_sockets_and_pipes_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": ""})
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket"))
        assert names(build_bundle(tmp_path)) == ["main.py"]


def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": ""})
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.py")).write_text("")
    with pytest.raises(BundleError, match="no UTF-8"):
        build_bundle(tmp_path)


def test_an_empty_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no file to ship"):
        build_bundle(tmp_path)


def test_too_many_bytes_name_the_largest_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_BYTES", 10_000)
    write(tmp_path, {"small.py": "x", "data/large.bin": "x" * 9_000, "data/other.bin": "x" * 2_000})
    with pytest.raises(BundleError, match=r"largest: data/large\.bin \(8\.8 KiB\), data/other\.bin"):
        build_bundle(tmp_path)


def test_an_archive_past_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 10_000)
    write(tmp_path, {f"{number}.py": "" for number in range(30)})
    with pytest.raises(BundleError, match="the archive has"):
        build_bundle(tmp_path)


def test_too_many_files_name_the_fullest_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_FILES", 10)
    write(tmp_path, {"main.py": "", **{f"cache/{number}": "" for number in range(12)}})
    with pytest.raises(BundleError, match=r"more than 10 files; most are in: cache \(12\)"):
        build_bundle(tmp_path)


@pytest.mark.parametrize(
    ("files", "file", "root", "module", "script_folder"),
    [
        ({}, "flow.py", ".", "flow", None),
        ({"pyproject.toml": ""}, "flow.py", ".", "flow", None),
        ({"pyproject.toml": ""}, "scripts/flow.py", ".", "scripts.flow", "scripts"),
        ({"pyproject.toml": ""}, "a/b/flow.py", ".", "a.b.flow", "a/b"),
        ({"setup.py": "", "pkg/__init__.py": ""}, "pkg/flow.py", ".", "pkg.flow", None),
        ({"pyproject.toml": "", "src/pkg/__init__.py": ""}, "src/pkg/flow.py", ".", "pkg.flow", None),
        ({"pyproject.toml": ""}, "src/flow.py", ".", "flow", None),
        ({"pyproject.toml": ""}, "src/tools/flow.py", ".", "tools.flow", "src/tools"),
        ({"pyproject.toml": "", "pkg/__init__.py": ""}, "pkg/__init__.py", ".", "pkg", None),
        ({"pyproject.toml": "", "part/.penstockignore": ""}, "part/flow.py", "part", "flow", None),
        ({"pyproject.toml": ""}, "my-scripts/flow.py", "my-scripts", "flow", None),
        ({".git/HEAD": ""}, "flow_1.py", ".", "flow_1", None),
    ],
)
def test_roots_and_module_names(
    tmp_path: Path, files: dict[str, str], file: str, root: str, module: str, script_folder: str | None
) -> None:
    write(tmp_path, {file: "", **files})
    path = tmp_path / file
    layout = layout_of(path)
    assert layout.root == (tmp_path / root)
    assert layout.module_of(path) == module
    found = layout.script_folder(path)
    assert (found and found.as_posix()) == script_folder


@pytest.mark.parametrize(
    ("file", "proposed"), [("flow.v2.py", "flow_v2"), ("my-flow.py", "my_flow"), ("2nd.py", "_2nd")]
)
def test_a_file_that_is_no_module_is_to_be_renamed(tmp_path: Path, file: str, proposed: str) -> None:
    write(tmp_path, {file: ""})
    layout = layout_of(tmp_path / file)
    with pytest.raises(DefinitionError, match=f"for example to '{proposed}'"):
        layout.module_of(tmp_path / file)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("queue/__init__.py", "queue/ has the name of a module .*rename it, for example to queue_pipeline/"),
        ("scripts/http.py", r"scripts/http\.py has the name of a module .* for example to http_pipeline\.py"),
    ],
)
def test_what_would_stand_in_for_a_module_of_python_is_named_as_it_is(tmp_path: Path, file: str, message: str) -> None:
    write(tmp_path, {"pyproject.toml": "", file: ""})
    with pytest.raises(DefinitionError, match=message):
        layout_of(tmp_path / file).module_of(tmp_path / file)


def test_in_a_package_a_module_is_called_as_one_likes(tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": "", "pkg/__init__.py": "", "pkg/http.py": ""})
    assert layout_of(tmp_path / "pkg" / "http.py").module_of(tmp_path / "pkg" / "http.py") == "pkg.http"


def test_modules_of_a_bundle_import_as_an_agent_does_it(tmp_path: Path) -> None:
    """The bundle's root and `src/` are on the import path, and nothing else."""
    root = write(
        tmp_path / "project",
        {
            "pyproject.toml": "",
            "scripts/flow.py": "import sibling\nimport core\nfrom library import deep\nVALUE = sibling.VALUE",
            "scripts/sibling.py": "VALUE = 3",
            "core.py": "",
            "src/library/__init__.py": "",
            "src/library/deep.py": "",
        },
    )
    layout = layout_of(root / "scripts" / "flow.py")
    bundle = build_bundle(layout.root, layout.script_folders([root / "scripts" / "flow.py"]))
    unpacked = tmp_path / "unpacked"
    with members(bundle) as opened:
        opened.extractall(unpacked)
    program = (
        f"import sys, importlib; sys.path[:0] = [{str(unpacked)!r}, {str(unpacked / 'src')!r}]\n"
        "print(importlib.import_module('scripts.flow').VALUE)"
    )
    printed = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True)
    assert printed.stdout == "3\n"
    assert not (root / "scripts" / "__init__.py").exists()


@pytest.mark.parametrize(
    ("first", "second"),
    [("a.py", "A.py"), ("src/a.py", "Src/b.py"), ("\u00e4.py", "a\u0308.py"), ("\u00c4.py", "a\u0308.py")],
)
def test_names_that_are_one_file_on_some_machines_are_not_shipped(tmp_path: Path, first: str, second: str) -> None:
    for name in (first, second):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")
    with pytest.raises(BundleError, match="rename one of them") as caught:
        build_bundle(tmp_path)
    assert caught.value.field
