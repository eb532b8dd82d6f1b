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
        return self.decision(path, is_folder)[1]

    def decision(self, path: Path, is_folder: bool) -> tuple[Path | None, bool]:
        """The folder whose ignore files decide about the path, None if none speak of it; and whether they ignore it."""
        rules: IgnoreRules | None = self
        while rules is not None:
            verdict = rules.verdict(path, is_folder)
            if verdict is not None:
                return rules.folder, verdict
            rules = rules.above
        return None, False

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


def what_to_bring_back(root: Path, file: Path) -> tuple[str, str]:
    """The pattern that undoes why `file` is ignored, and the .penstockignore, as seen from `root`, that it goes into.

    In a folder that is ignored nothing can be brought back but the folder itself: of several it is the topmost.
    """
    rules = rules_of(root)
    above = [folder for folder in reversed(file.parents) if folder != root and folder.is_relative_to(root)]
    for folder in above:
        if rules.ignores(folder, is_folder=True):
            return _bringing_back(root, rules, folder, is_folder=True)
        rules = rules.within(folder)
    return _bringing_back(root, rules, file, is_folder=False)


def _bringing_back(root: Path, rules: IgnoreRules, path: Path, *, is_folder: bool) -> tuple[str, str]:
    decides, _ = rules.decision(path, is_folder)
    # The deepest one that speaks decides: an answer to one above the root can stand in the root's.
    place = decides if decides is not None and decides.is_relative_to(root) else root
    ignore_file = (place / ".penstockignore").relative_to(root).as_posix()
    return f"!{path.relative_to(place).as_posix()}{'/' if is_folder else ''}", ignore_file


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
    except Exception:  # as in `_is_pattern`
        return GitIgnoreSpec.from_lines(filter(_is_pattern, lines))


def _is_pattern(line: str) -> bool:
    """What is none git passes over too."""
    try:
        GitIgnoreSpec.from_lines([line])
    except Exception:  # `[z-a]` raises what the engine of regular expressions does, and there are several
        return False
    return True
