"""Requirements, lock files and environments: one canonical form, and clear words for what has none."""

from __future__ import annotations

import pytest

from penstock.v1 import pipeline_pb2 as pb
from penstock_coordinator.core.plan.environments import environment_name, environment_of
from penstock_coordinator.core.plan.locks import canonical_pylock, canonical_requirements_lock
from penstock_coordinator.core.plan.requirements import BadRequirement, canonical_python, canonical_requirement

HASH = f"--hash=sha256:{'0' * 64}"
OTHER_HASH = f"--hash=sha256:{'a' * 64}"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("pandas", "pandas"),
        ("  Pandas  ", "pandas"),
        ("zope.interface_x--y", "zope-interface-x-y"),
        ("pandas >= 2 , < 3", "pandas<3,>=2"),
        ("pandas (>=2)", "pandas>=2"),
        ("requests[Socks, security]==2.*", "requests[security,socks]==2.*"),
        ("requests[]", "requests"),
        ("torch==2.1.0+CPU", "torch==2.1.0+cpu"),
        ("a===1.0", "a===1.0"),
        ("a~=1.0rc1.post2.dev3", "a~=1.0rc1.post2.dev3"),
        ("a==v1!2.0", "a==1!2.0"),
        ("a; python_version<'3.12'", 'a; python_version < "3.12"'),
        ("a;(os_name=='nt' or sys_platform   not  in 'x')and python_version>='3'",
         'a; (os_name == "nt" or sys_platform not in "x") and python_version >= "3"'),
    ],
)  # fmt: skip
def test_equal_requirements_are_written_alike(text: str, canonical: str) -> None:
    assert canonical_requirement(text) == canonical
    assert canonical_requirement(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is empty"),
        ("a" * 1_025, "past the limit of 1,024"),
        ("-e .", "an editable folder"),
        ("--editable=.", "an editable folder"),
        ("-r more.txt", "an option"),
        ("--index-url https://example.org/simple", "an option"),
        ("pandas @ https://example.org/pandas.whl", "names a URL"),
        ("pandas@file", "names a URL"),
        ("https://example.org/pandas.whl", "names a URL"),
        ("git+ssh://example.org/pandas", "names a URL"),
        ("./pandas", "is a path"),
        ("/tmp/pandas", "is a path"),
        ("~/pandas", "is a path"),
        ("wheels/pandas", "is a path"),
        ("pandas-2.0-py3-none-any.whl", "is a path"),
        ("requirements.txt", "is a path"),
        ("=pandas", "does not begin with the name of a package"),
        ("pandas 2.0", "says no version"),
        ("pandas=2.0", "says no version"),
        ("pandas>=2,,<3", "says no version"),
        ("pandas>=two", "says no version"),
        ("pandas\u00e9", "no printable ASCII"),
        ("pandas\nnumpy", "no printable ASCII"),
        ("pandas[so cks]", "no name of an extra"),
        ("pandas;", "the marker after ';' does not hold"),
        ("pandas; python", "is no variable of markers"),
        ("pandas; os_name == 'nt' or", "it ends too early"),
        ("pandas; os_name 'nt'", "is not expected there"),
        ("pandas; (os_name == 'nt'", "it ends too early"),
        ("pandas; " + "(" * 17 + "os_name == 'nt'" + ")" * 17, "is not expected there"),
        ("pandas; os_name == 'nt", "is no part of a marker"),
        ("pandas; extra == 'x'", "is no variable of markers"),
    ],
)
def test_what_no_agent_can_install_is_refused_with_the_remedy(text: str, told: str) -> None:
    with pytest.raises(BadRequirement, match=r".") as refused:
        canonical_requirement(text)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("3.12", "==3.12.*"), ("3", "==3.*"), ("3.12.4", "==3.12.4"), (">=3.11, <3.14", "<3.14,>=3.11")],
)
def test_versions_of_python(text: str, canonical: str) -> None:
    assert canonical_python(text) == canonical
    assert canonical_python(canonical) == canonical


@pytest.mark.parametrize("text", ["python3.12", "/usr/bin/python3", "cpython-3.12", ">3.x", "3.12.4.5"])
def test_what_is_no_version_of_python(text: str) -> None:
    with pytest.raises(BadRequirement, match="says no version of Python"):
        canonical_python(text)


def test_a_lock_file_is_its_pins_and_hashes() -> None:
    text = f"""# made by a tool
Numpy==2.0 \\
    {OTHER_HASH} \\
    {HASH}
    # via pandas
pandas==2.2.0 ; python_version >= '3.11' {HASH}
"""
    canonical = f'numpy==2.0 {HASH} {OTHER_HASH}\npandas==2.2.0; python_version >= "3.11" {HASH}\n'
    assert canonical_requirements_lock(text) == canonical
    assert canonical_requirements_lock(canonical) == canonical


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("# nothing\n", "names no package"),
        ("numpy==2.0\n", "has no --hash"),
        (f"numpy>=2.0 {HASH}\n", "is not pinned"),
        (f"numpy==2.* {HASH}\n", "is not pinned"),
        (f"numpy==2.0,!=2.1 {HASH}\n", "is not pinned"),
        ("numpy==2.0 --hash=md5:00\n", "is no --hash=sha256"),
        ("--index-url https://example.org\n", "is an option"),
        ("-e .\n", "is an option"),
        (f"numpy @ https://example.org/numpy.whl {HASH}\n", "names a URL"),
    ],
)
def test_lock_files_that_leave_something_open(text: str, told: str) -> None:
    with pytest.raises(BadRequirement, match=r".") as refused:
        canonical_requirements_lock(text)
    assert told in str(refused.value)


PYLOCK = """lock-version = "1.0"
[[packages]]
name = "numpy"
version = "2.0"
wheels = [{ url = "https://example.org/numpy.whl", hashes = { sha256 = "00" } }]
"""


def test_a_pylock_is_kept_as_it_is() -> None:
    assert canonical_pylock(PYLOCK.replace("\n", "\r\n") + "\n\n") == PYLOCK


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lock-version", "is no TOML"),
        ("x = " + "[" * 10_000, "is no TOML"),
        ("a = 1\n", "no `lock-version`"),
        (PYLOCK.replace('hashes = { sha256 = "00" }', "hashes = {}"), "has no SHA-256"),
        (PYLOCK.replace("wheels", "files"), "neither wheels nor an sdist"),
        (PYLOCK.replace('url = "https://example.org/', 'path = "'), "is a path"),
        ('lock-version = "1.0"\n[[packages]]\nname = "a"\ndirectory = { path = "." }\n', "comes from a directory"),
        ('lock-version = "1.0"\n[[packages]]\nname = "a"\nvcs = { url = "u" }\n', "comes from a vcs"),
        ('lock-version = "1.0"\npackages = [1]\n', "has no name"),
    ],
)
def test_pylocks_that_leave_something_open(text: str, told: str) -> None:
    with pytest.raises(BadRequirement, match=r".") as refused:
        canonical_pylock(text)
    assert told in str(refused.value)


def _name(**python: object) -> str:
    environment = environment_of(pb.Environment(python=pb.PythonEnvironment(**python)))  # type: ignore[arg-type]  # a test's shorthand
    assert environment is not None
    return environment_name(environment)


def test_the_name_of_an_environment_changes_with_its_content_alone() -> None:
    name = _name(requirements=["a==1", "b"])
    assert name == _name(requirements=["b", "A ==1", "b"])
    assert name.startswith("python:")
    others = [
        _name(requirements=["a==1"]),
        _name(requirements=["a==1", "b"], python="3.12"),
        _name(lock=f"a==1 {HASH}", lock_format=pb.LOCK_FORMAT_REQUIREMENTS),
        _name(lock=PYLOCK, lock_format=pb.LOCK_FORMAT_PYLOCK),
        _name(),
    ]
    assert len({name, *others}) == len(others) + 1


def test_names_of_environments_are_for_ever() -> None:
    """The cache of values and the agents' folders go by them."""
    assert (
        _name(requirements=["pandas>=2,<3"], python=">=3.11")
        == "python:9ca5d5d35b09c349ec9e5cf72c29e6f9df1a0dc4ef4df0f395944a16574fc56e"
    )


def test_an_empty_environment_is_the_agents_own() -> None:
    assert environment_of(pb.Environment()) is None
