"""The code digest: it changes when anything that a function reaches changes, and does not when nothing of it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.code_digest import BundleCode

PROJECT = {
    "flows/__init__.py": '"""The package."""\nVERSION = "1"\n',
    "flows/etl.py": '''"""The flow."""
from __future__ import annotations

import json
import flows.rates
from dataclasses import dataclass

from penstock import pipeline, step

from . import tables
from .cleaning import clean as tidy, unused_import
from .shapes import Row
from flows.constants import *

LIMIT = 10
UNUSED = 11
OTHER = {"a": 1}


@step(retries=2)
def load(name: str, size: int = LIMIT) -> list:
    """Loads."""
    # a comment
    rows = [tidy(row) for row in tables.read(name)]
    return [Row(row).shown() for row in rows][:size] + [PRICE * flows.rates.current()]


@step
def unrelated(x: int) -> int:
    return helper(x) + UNUSED


def helper(x: int) -> int:
    return x + 1


@step
def with_local_import(x: str) -> str:
    from flows import lazily

    def inner(helper: str) -> str:
        return lazily.shout(helper)

    return inner(x)


@pipeline
def etl(name: str) -> None:
    unrelated(load(name))


if __name__ == "__main__":
    print(etl)
''',
    "flows/cleaning.py": """import re

PATTERN = re.compile("a+")
SPARE = re.compile("b+")


def clean(text):
    return strip(PATTERN.sub("", text))


def strip(text):
    return text.strip()


def unused_import(text):
    return SPARE.sub("", text)
""",
    "flows/tables.py": """import csv
from flows import cleaning


def read(name):
    return _open(name)


def _open(name):
    return [name, open(name)]


def write(name):
    return cleaning.unused_import(name)
""",
    "flows/shapes.py": """class Base:
    kind = "base"

    def shown(self):
        return self.text()


class Row(Base):
    def __init__(self, text):
        self._text = text

    def text(self):
        return decorate(self._text)


class Column(Base):
    pass


def decorate(text):
    return f"<{text}>"
""",
    "flows/constants.py": "PRICE = 3\nTAX = 4\n",
    "flows/rates.py": "from .deep import rate\n\n\ndef current():\n    return rate()\n\n\ndef former():\n    return 1",
    "flows/deep/__init__.py": "from .numbers import rate, other_rate\n",
    "flows/deep/numbers.py": "def rate():\n    return 2\n\n\ndef other_rate():\n    return 3\n",
    "flows/lazily.py": "def shout(text):\n    return text.upper()\n\n\ndef whisper(text):\n    return text.lower()\n",
    "data.csv": "1,2\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def digest(folder: Path, files: dict[str, str], function: str = "flows.etl:load", bundle: str = "b") -> str:
    """Of the function in a project with just these files, in a folder that is new each time."""
    root = folder / str(len(list(folder.iterdir())))
    module, _, name = function.partition(":")
    return BundleCode([write(root, files)], bundle).digest(module, name)


def edited(file: str, old: str, new: str) -> dict[str, str]:
    assert old in PROJECT[file], (file, old)
    return {**PROJECT, file: PROJECT[file].replace(old, new)}


REACHED = [
    ("flows/etl.py", "rows = [tidy", "rows = [len and tidy"),
    ("flows/etl.py", "LIMIT = 10", "LIMIT = 12"),
    ("flows/etl.py", "[:size]", "[1:size]"),
    ("flows/etl.py", '"""Loads."""', '"""Loads more."""'),
    ("flows/etl.py", "size: int", "size: str"),
    ("flows/etl.py", "def load(name: str", "async def load(name: str"),
    ("flows/etl.py", "clean as tidy", "strip as tidy"),
    ("flows/etl.py", "from . import tables", "import tables"),
    ("flows/cleaning.py", 'return strip(PATTERN.sub("", text))', 'return strip(PATTERN.sub("-", text))'),
    ("flows/cleaning.py", "text.strip()", "text.lstrip()"),
    ("flows/cleaning.py", '"a+"', '"a*"'),
    ("flows/cleaning.py", "import re\n", "import regex as re\n"),
    ("flows/tables.py", "return [name, open(name)]", "return [name]"),
    ("flows/tables.py", "return _open(name)", "return _open(name + name)"),
    ("flows/shapes.py", 'kind = "base"', 'kind = "root"'),
    ("flows/shapes.py", "return self.text()", "return self.text() or 1"),
    ("flows/shapes.py", 'f"<{text}>"', 'f"[{text}]"'),
    ("flows/shapes.py", "self._text = text", "self._text = text or 1"),
    ("flows/constants.py", "PRICE = 3", "PRICE = 5"),
    ("flows/rates.py", "return rate()", "return rate() + 1"),
    ("flows/deep/numbers.py", "return 2", "return 4"),
    ("flows/deep/__init__.py", "import rate, other_rate", "import other_rate as rate"),
]

# What importing a module runs may change what functions do.
EFFECTS = [
    ("flows/etl.py", "UNUSED = 11", "UNUSED = 11\njson.loads = None"),
    ("flows/etl.py", "UNUSED = 11", "print('at import')"),
    ("flows/etl.py", "UNUSED = 11", "import flows.effects"),
    ("flows/cleaning.py", 'SPARE = re.compile("b+")', "SPARE = 1\nstrip.flag = True"),
    ("flows/__init__.py", 'VERSION = "1"', 'VERSION = "1"\nimport flows.effects'),
    ("flows/lazily.py", "def whisper", "print('not imported')\n\n\ndef whisper"),
]

UNREACHED = [
    ("flows/etl.py", "UNUSED = 11", "UNUSED = 12"),
    ("flows/etl.py", "UNUSED = 11", "UNUSED = 11\nMORE = 13"),
    ("flows/etl.py", 'OTHER = {"a": 1}', 'OTHER = {"a": 2}'),
    ("flows/etl.py", "return helper(x) + UNUSED", "return helper(x) - UNUSED"),
    ("flows/etl.py", "return x + 1", "return x + 2"),
    ("flows/etl.py", "    # a comment\n", "    # another\n\n    # two\n"),
    ("flows/etl.py", "@step(retries=2)", '@step(retries=3, timeout="5m", queue="big")'),
    ("flows/etl.py", "@step(retries=2)\n", "@step\n"),
    ("flows/etl.py", "unrelated(load(name))", "load(name)"),
    ("flows/etl.py", "import json\n", "import json\nimport sys\n"),
    ("flows/etl.py", "clean as tidy, unused_import", "clean as tidy"),
    ("flows/etl.py", "print(etl)", "print(etl.name)"),
    ("flows/etl.py", "name: str, size: int = LIMIT", "name:  str,\n    size: int=LIMIT"),
    ("flows/etl.py", '"""The flow."""', '"""The other flow."""'),
    ("flows/cleaning.py", '"b+"', '"c+"'),
    ("flows/cleaning.py", 'return SPARE.sub("", text)', "return text"),
    ("flows/tables.py", "return cleaning.unused_import(name)", "return name"),
    ("flows/tables.py", "import csv\n", ""),
    ("flows/shapes.py", "class Column(Base):\n    pass", "class Column(Base):\n    kind = 3"),
    ("flows/constants.py", "TAX = 4", "TAX = 5"),
    ("flows/rates.py", "return 1", "return 0"),
    ("flows/deep/numbers.py", "return 3", "return 5"),
    ("flows/deep/__init__.py", "import rate, other_rate", "import rate"),
    ("flows/lazily.py", "text.upper()", "text.title()"),
    ("flows/__init__.py", 'VERSION = "1"', 'VERSION = "2"'),
    ("data.csv", "1,2", "3,4"),
]


@pytest.mark.parametrize(("file", "old", "new"), REACHED + EFFECTS[:5])
def test_it_changes_with_what_is_reached(file: str, old: str, new: str, tmp_path: Path) -> None:
    project = {**PROJECT, "flows/effects.py": "print('at import')\n"}
    changed = {**edited(file, old, new), "flows/effects.py": "print('at import')\n"}
    assert digest(tmp_path, project) != digest(tmp_path, changed)


@pytest.mark.parametrize(("file", "old", "new"), UNREACHED + EFFECTS[5:])
def test_it_stays_when_something_else_changes(file: str, old: str, new: str, tmp_path: Path) -> None:
    assert digest(tmp_path, PROJECT) == digest(tmp_path, edited(file, old, new), bundle="another")


def test_other_functions_have_other_digests(tmp_path: Path) -> None:
    digests = {digest(tmp_path, PROJECT, f"flows.etl:{name}") for name in ("load", "unrelated", "with_local_import")}
    assert len(digests) == 3
    assert all(len(each) == 64 for each in digests)


def test_imports_inside_of_a_function_are_followed(tmp_path: Path) -> None:
    before = digest(tmp_path, PROJECT, "flows.etl:with_local_import")
    assert before != digest(
        tmp_path, edited("flows/lazily.py", "text.upper()", "text.title()"), "flows.etl:with_local_import"
    )
    # `helper` is an argument there, and not the function of the module.
    for file, old, new in [("flows/etl.py", "return x + 1", "return x"), ("flows/lazily.py", "lower", "upper")]:
        assert before == digest(tmp_path, edited(file, old, new), "flows.etl:with_local_import")


def test_the_order_of_functions_says_nothing_and_that_of_assignments_does(tmp_path: Path) -> None:
    first = "def a():\n    return b()\n\n\ndef b():\n    return 1\n"
    second = "def b():\n    return 1\n\n\ndef a():\n    return b()\n"
    assert digest(tmp_path, {"m.py": first}, "m:a") == digest(tmp_path, {"m.py": second}, "m:a")
    first = "x = 1\nx = 2\n\n\ndef a():\n    return x\n"
    second = "x = 2\nx = 1\n\n\ndef a():\n    return x\n"
    assert digest(tmp_path, {"m.py": first}, "m:a") != digest(tmp_path, {"m.py": second}, "m:a")


def both(tmp_path: Path, before: str, after: str, function: str = "m:a", **others: str) -> bool:
    """Whether the digest is the same with either text as the module m."""
    files = {f"{name}.py": text for name, text in others.items()}
    return digest(tmp_path, {**files, "m.py": before}, function) == digest(
        tmp_path, {**files, "m.py": after}, function, bundle="another"
    )


REGISTRY = """
HANDLERS = {}


def handler(name):
    def keep(function):
        HANDLERS[name] = function
        return function

    return keep


@handler("x")
def registered():
    return 1


def a():
    return HANDLERS["x"]()


def b():
    return 2
"""


def test_what_registers_itself_where_the_function_looks_is_reached(tmp_path: Path) -> None:
    changed = REGISTRY.replace("return 1", "return 3")
    assert not both(tmp_path, REGISTRY, changed)
    assert both(tmp_path, REGISTRY, changed, "m:b")
    called = REGISTRY.replace('@handler("x")\n', "").replace("def a()", 'kept = handler("x")(registered)\n\n\ndef a()')
    assert not both(tmp_path, called, called.replace("return 1", "return 3"))


def test_a_decorator_of_a_package_registers_nothing_in_the_bundle(tmp_path: Path) -> None:
    text = "from tenacity import retry\nN = [1]\n\n\n@retry\ndef other():\n    return 1\n\n\ndef a():\n    return N\n"
    assert both(tmp_path, text, text.replace("return 1", "return 2"))
    app = text.replace("N = [1]", "N = retry()").replace("@retry", "@N.task")
    assert not both(tmp_path, app, app.replace("return 1", "return 2"))


def test_a_logger_that_all_use_does_not_tie_them_together(tmp_path: Path) -> None:
    text = """
import logging

LOG = logging.getLogger(__name__)


def table():
    LOG.info("made")
    return [1]


TABLE = table()


def a():
    LOG.info("a")
"""
    assert both(tmp_path, text, text.replace("[1]", "[2]"))
    assert not both(tmp_path, text, text.replace("getLogger(__name__)", "getLogger('x')"))
    kept = text.replace("logging.getLogger(__name__)", "dict(a=1)")
    assert not both(tmp_path, kept, kept.replace("[1]", "[2]"))


def test_a_template_of_the_same_file_is_not_reached_by_its_steps(tmp_path: Path) -> None:
    text = """
from penstock import Pipeline, pipeline, step, template

TABLES = ["x"]
CONFIG = {"a": 1}


@step
def a():
    return TABLES, CONFIG


@template
def made(tables):
    @pipeline
    def inner():
        a()

    return inner


small = made(tables=TABLES)
"""
    assert both(tmp_path, text, text.replace("        a()\n", "        a().after()\n"))
    assert both(tmp_path, text, text.replace("made(tables=TABLES)", "made(tables=[])"))
    assert not both(tmp_path, text, text.replace('["x"]', '["y"]'))


DYNAMIC = [
    "return importlib.import_module(x)",
    "return eval(x)",
    "exec(x)",
    "return __import__(x)",
    "return open(Path(__file__).parent / x)",
    "return sys.modules[x]",
    "return subprocess.run([sys.executable, x])",
    "return Base.__subclasses__()",
    "return globals()[x]",
    "from importlib import resources\n    return resources",
    "return inspect.getsource(x)",
]


@pytest.mark.parametrize("body", DYNAMIC)
def test_dynamic_code_reaches_the_whole_bundle(body: str, tmp_path: Path) -> None:
    imports = "import importlib, sys, subprocess, inspect\nfrom pathlib import Path\n"
    text = f"{imports}\nclass Base: pass\n\ndef a(x):\n    {body}\n"
    files = {"m.py": text, "other.py": "x = 1\n"}
    assert digest(tmp_path, files, "m:a", "one") == digest(tmp_path, files, "m:a", "one")
    assert digest(tmp_path, files, "m:a", "one") != digest(tmp_path, files, "m:a", "two")


def test_a_folder_is_no_installed_package(tmp_path: Path) -> None:
    files = {"m.py": "import runpy\n\n\ndef a():\n    return runpy.run_path('x')\n", "runpy/data.csv": "1"}
    assert digest(tmp_path, files, "m:a", "one") != digest(tmp_path, files, "m:a", "two")


def test_dynamic_code_beside_the_function_does_not_count(tmp_path: Path) -> None:
    text = "import sys\n\n\ndef other(x):\n    return eval(x), sys.modules, __file__\n\n\ndef a():\n    return 1\n"
    assert both(tmp_path, text, text.replace("eval(x)", "x"))


@pytest.mark.parametrize("body", ["return importlib.metadata.version(x)", "return re.compile(x)", "return sys.argv"])
def test_what_only_looks_dynamic(body: str, tmp_path: Path) -> None:
    files = {"m.py": f"import importlib.metadata, re, sys\n\n\ndef a(x):\n    {body}\n"}
    assert digest(tmp_path, files, "m:a", "one") == digest(tmp_path, files, "m:a", "two")


def test_a_module_that_is_used_as_a_value_counts_as_a_whole(tmp_path: Path) -> None:
    text = "import other\n\n\ndef a(x):\n    return getattr(other, x)()\n"
    other = "from third import deep\n\n\ndef b():\n    return 1\n"
    third = "def deep():\n    return 2\n"

    def of(other: str, third: str) -> str:
        return digest(tmp_path, {"m.py": text, "other.py": other, "third.py": third}, "m:a")

    assert of(other, third) != of(other.replace("1", "3"), third)
    assert of(other, third) != of(other, third.replace("2", "3"))


def test_a_class_that_collects_its_subclasses_reaches_the_whole_bundle(tmp_path: Path) -> None:
    text = "class P:\n    def __init_subclass__(cls):\n        pass\n\n\ndef a():\n    return P\n"
    assert digest(tmp_path, {"m.py": text}, "m:a", "one") != digest(tmp_path, {"m.py": text}, "m:a", "two")
    text = "from abc import ABCMeta\n\n\nclass P(metaclass=ABCMeta):\n    pass\n\n\ndef a():\n    return P\n"
    assert digest(tmp_path, {"m.py": text}, "m:a", "one") == digest(tmp_path, {"m.py": text}, "m:a", "two")


def test_names_that_are_bound_in_blocks(tmp_path: Path) -> None:
    text = """
try:
    import fast as quick
except ImportError:
    import slow as quick

if True:
    def chosen():
        return 1
else:
    chosen = None


def a():
    return quick.go(chosen())


def b():
    return 1
"""
    slow = "def go(x):\n    return x\n\n\ndef stop():\n    return 1\n"
    assert not both(tmp_path, text, text.replace("        return 1", "        return 2"), slow=slow)
    assert both(tmp_path, text, text.replace("        return 1", "        return 2"), "m:b", slow=slow)
    files = {"m.py": text, "slow.py": slow}
    assert digest(tmp_path, files, "m:a") != digest(tmp_path, {**files, "slow.py": slow.replace("x\n", "-x\n")}, "m:a")
    assert digest(tmp_path, files, "m:a") == digest(tmp_path, {**files, "slow.py": slow.replace("1", "2")}, "m:a")


def test_modules_that_import_each_other(tmp_path: Path) -> None:
    files = {
        "m.py": "from other import *\nfrom other import back\n\n\ndef a():\n    return back(), unknown\n",
        "other.py": "from m import *\nfrom m import a\n\n\ndef back():\n    return a\n",
    }
    assert len(digest(tmp_path, files, "m:a")) == 64


def test_what_cannot_be_read_counts_as_it_is(tmp_path: Path) -> None:
    text = "import broken\n\n\ndef a():\n    return broken.x\n"
    one = digest(tmp_path, {"m.py": text, "broken.py": "def (\n"}, "m:a")
    assert one != digest(tmp_path, {"m.py": text, "broken.py": "def (  \n"}, "m:a")
    assert digest(tmp_path, {"m.py": text}, "elsewhere:a") == ""


def test_a_function_that_is_not_seen_takes_its_whole_module(tmp_path: Path) -> None:
    text = "from functools import partial\n\n\ndef b():\n    return 1\n\n\nglobals_of = vars()\n"
    assert digest(tmp_path, {"m.py": text}, "m:a") != digest(tmp_path, {"m.py": text.replace("1", "2")}, "m:a")


def test_a_source_folder_and_scripts_are_found_by_their_import_path(tmp_path: Path) -> None:
    root = write(
        tmp_path, {"src/pkg/m.py": "import near\n\n\ndef a():\n    return near.b()\n", "src/near.py": "b = 1\n"}
    )
    code = BundleCode([root, root / "src"], "b")
    before = code.digest("pkg.m", "a")
    (root / "src" / "near.py").write_text("b = 2\n")
    assert BundleCode([root, root / "src"], "b").digest("pkg.m", "a") != before != ""
