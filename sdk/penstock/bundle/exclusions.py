"""What never goes into a bundle, and what ignore files keep out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

# Version control, environments, caches of tools, and the data of `penstock dev`.
_FOLDERS = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "__pycache__",
        "node_modules",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".nox",
        ".tox",
        ".penstock",
    }
)

# The later file wins: `!pattern` in .penstockignore brings back what .gitignore leaves out.
_IGNORE_FILES = (".gitignore", ".penstockignore")


def is_left_out(folder: Path) -> bool:
    """Folders that are left out whatever ignore files say: known names, and every virtual environment."""
    return folder.name in _FOLDERS or (folder / "pyvenv.cfg").is_file()


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The ignore files of a folder and of those above it; the deepest one that speaks decides."""

    folder: Path
    spec: GitIgnoreSpec | None
    above: IgnoreRules | None

    def ignores(self, path: Path, is_folder: bool) -> bool:
        rules: IgnoreRules | None = self
        while rules is not None:
            verdict = rules.verdict(path, is_folder)
            if verdict is not None:
                return verdict
            rules = rules.above
        return False

    def verdict(self, path: Path, is_folder: bool) -> bool | None:
        """Of this folder's own ignore files; None if they do not speak of the path."""
        if self.spec is None:
            return None
        name = path.relative_to(self.folder).as_posix()
        if not is_folder:
            return self.spec.check_file(name).include
        result = self.spec.check_file(f"{name}/")
        if result.index is not None and _is_all_inside(self.spec, result.index):
            return self.spec.check_file(name).include
        return result.include

    def within(self, folder: Path) -> IgnoreRules:
        """The rules inside `folder`, a folder in this one."""
        spec = _read(folder)
        return self if spec is None else IgnoreRules(folder, spec, self)


def _is_all_inside(spec: GitIgnoreSpec, index: int) -> bool:
    """`x/**` speaks of what is in x, and not of x, which `!x/keep` may still bring files back from."""
    return str(list(spec.patterns)[index].pattern).rstrip("/").endswith("/**")


def rules_of(root: Path) -> IgnoreRules:
    """The rules of `root`, with those of the folders above it up to the repository it lies in."""
    above: IgnoreRules | None = None
    for folder in _repository_folders(root):
        above = IgnoreRules(folder, _read(folder), above)
    return IgnoreRules(root, _read(root), above)


def _repository_folders(root: Path) -> list[Path]:
    """From the repository's top down to just above `root`; none outside a repository."""
    if (root / ".git").exists():
        return []
    for number, folder in enumerate(root.parents):
        if (folder / ".git").exists():
            return list(reversed(root.parents[: number + 1]))
    return []


def _read(folder: Path) -> GitIgnoreSpec | None:
    lines: list[str] = []
    for name in _IGNORE_FILES:
        file = folder / name
        if file.is_file():
            lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines:
        return None
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError:
        return GitIgnoreSpec.from_lines(filter(_is_pattern, lines))


def _is_pattern(line: str) -> bool:
    """What is none git passes over too."""
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True
