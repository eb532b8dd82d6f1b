"""Which folder becomes the bundle, and under which names its modules are imported.

The root is the nearest folder at or above the file that holds one of `MARKERS`, else the file's own folder. An
agent puts the bundle's root, and `src/` in it, on its import path, so a module's name is its path from there.

A file in a folder without `__init__.py` is a script: whoever wrote it expects what `python FILE` does, that
modules beside it can be imported by their bare names. The bundle therefore gets a generated `__init__.py` in
that folder, which Python runs before the script's module and which puts the folder on the import path.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from penstock.bundle.exclusions import is_left_out
from penstock.errors import DefinitionError

_TAKEN = frozenset(sys.stdlib_module_names) - {"test"} | {"google", "grpc", "penstock"}
"""What nothing may be called that can be imported by its bare name."""
_NO_IDENTIFIER = re.compile(r"\W|^(?=\d)")
MARKERS = ("pyproject.toml", "setup.py", ".git", ".penstockignore")

SCRIPT_FOLDER_INIT = b"""\
# Made by Penstock: modules beside a script are importable by their bare names, as with `python FILE`.
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
"""


@dataclass(frozen=True, slots=True)
class Layout:
    root: Path

    def import_roots(self) -> list[Path]:
        """The folders of the bundle that are on an agent's import path, in order."""
        source = self.root / "src"
        return [self.root, source] if source.is_dir() else [self.root]

    def holds(self, file: Path) -> bool:
        """Whether the file goes into the bundle, as far as folders decide it."""
        if not file.is_relative_to(self.root):
            return False
        parents = file.relative_to(self.root).parents
        folders = [self.root / parent for parent in parents if parent != Path()]
        return not any(folder.name == "site-packages" or is_left_out(folder) for folder in folders)

    def module_of(self, file: Path) -> str:
        """The dotted name under which an agent imports `file`."""
        parts = list(file.relative_to(self._import_root(file)).with_suffix("").parts)
        if parts[-1] == "__init__" and len(parts) > 1:
            parts.pop()
        odd = next((part for part in parts if not part.isidentifier()), None)
        if odd is not None:
            raise DefinitionError(
                f"{file.relative_to(self.root)} cannot be imported: {odd!r} is no name of a module",
                field="module",
                remedy=f"rename it, for example to {_NO_IDENTIFIER.sub('_', odd)!r}",
            )
        if parts[-1] in _TAKEN and (len(parts) == 1 or self.script_folder(file) is not None):
            package = file.name == "__init__.py"
            named = file.parent if package else file
            raise DefinitionError(
                f"{named.relative_to(self.root)}{'/' if package else ''} has the name of a module that Python or"
                " Penstock needs, and one of the two would be imported in place of the other",
                field="module",
                remedy=f"rename it, for example to {parts[-1]}_pipeline{'/' if package else '.py'}",
            )
        return ".".join(parts)

    def script_folder(self, file: Path) -> Path | None:
        """The file's folder, relative to the root, if it must be put on the import path for its script."""
        folder = file.parent
        if folder in self.import_roots() or (folder / "__init__.py").exists():
            return None
        return folder.relative_to(self.root)

    def script_folders(self, files: Iterable[Path]) -> list[Path]:
        found = {self.script_folder(file) for file in files if self.holds(file)}
        return sorted(folder for folder in found if folder is not None)

    def _import_root(self, file: Path) -> Path:
        source = self.root / "src"
        inside = file.is_relative_to(source) and not (source / "__init__.py").exists()
        return source if inside else self.root


def layout_of(file: Path) -> Layout:
    """The layout for the pipeline in `file`, which must be resolved."""
    root = next((folder for folder in file.parents if _is_marked(folder)), file.parent)
    return Layout(root if _is_importable(file, root) else file.parent)


def _is_marked(folder: Path) -> bool:
    return any((folder / marker).exists() for marker in MARKERS)


def _is_importable(file: Path, root: Path) -> bool:
    """A script in a folder whose name is no identifier is a bundle of its own."""
    return all(part.isidentifier() for part in file.parent.relative_to(root).parts)
