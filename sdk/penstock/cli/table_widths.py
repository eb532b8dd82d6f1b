"""Which columns of a table a terminal has room for, and how wide each of them is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

GAP = 2
"""Between columns."""
_ID = 36
_ID_END = 12


@dataclass(frozen=True, slots=True)
class Column:
    """A column and how it gives way in a narrow terminal, in this order: it folds, it is shorter, it is left out."""

    title: str
    folds: int = 0
    """Down to so many characters its cells are folded into several lines; 0: they are not."""
    shorter: Callable[[str], str] | None = None
    """A form of the cells that says less and is whole still."""
    leaves: int = 0
    """1 is left out first, then 2; 0 never is."""
    optional: bool = False
    """Without any content it is left out everywhere, also in a pipe."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A column that has its place: its cells as they are shown, and its width."""

    title: str
    cells: list[Text]
    width: int


def id_end(text: str) -> str:
    """The end of an id is what tells it from others, and what commands take."""
    return text[-_ID_END:] if len(text) == _ID else text


def short_time(text: str) -> str:
    """`2026-11-21 12:30:05Z` without the year and the seconds."""
    return f"{text[5:16]}Z" if text.endswith("Z") else text


def cell_width(text: str) -> int:
    return max((cell_len(line) for line in text.split("\n")), default=0)


def fitting(columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int) -> list[Shown]:
    """The columns that fit into the width, with as little given up as can be.

    If not even the last measure is enough, what is left is folded wherever it must be.
    """
    chosen: list[_Candidate] = []
    for chosen in _measures(columns, rows):
        if _least(chosen) <= width:
            break
    return _spread(chosen, width)


class _Candidate:
    def __init__(self, column: Column, cells: list[Text]) -> None:
        self.column = column
        self.cells = cells
        self.width = max([cell_len(column.title), *(cell_width(cell.plain) for cell in cells)])
        self.least = min(self.width, max(column.folds, cell_len(column.title))) if column.folds else self.width

    def shorter(self) -> _Candidate:
        if self.column.shorter is None:
            return self
        return _Candidate(self.column, [Text(self.column.shorter(cell.plain), cell.style) for cell in self.cells])

    @property
    def is_empty(self) -> bool:
        return not any(cell.plain for cell in self.cells)


def _measures(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> Iterator[list[_Candidate]]:
    """Each gives up more than the one before."""
    candidates = [_Candidate(column, [row[at] for row in rows]) for at, column in enumerate(columns)]
    yield candidates
    candidates = [each for each in candidates if not (each.is_empty and each.column.leaves)]
    yield candidates
    candidates = [each.shorter() for each in candidates]
    yield candidates
    for leaving in sorted(column.leaves for column in columns if column.leaves):
        candidates = [each for each in candidates if each.column.leaves != leaving]
        yield candidates


def _least(candidates: Sequence[_Candidate]) -> int:
    return sum(each.least for each in candidates) + GAP * (len(candidates) - 1)


def _spread(candidates: Sequence[_Candidate], width: int) -> list[Shown]:
    """What is left over goes to those that would fold, to each what it needs or an equal share."""
    widths = [each.least for each in candidates]
    left = width - _least(candidates)
    folding = sorted(
        (at for at, each in enumerate(candidates) if each.width > each.least), key=lambda at: _need(candidates, at)
    )
    for number, at in enumerate(folding):
        given = min(_need(candidates, at), max(left, 0) // (len(folding) - number))
        widths[at] += given
        left -= given
    if left < 0 and widths:
        widest = widths.index(max(widths))
        widths[widest] = max(widths[widest] + left, 1)
    return [Shown(each.column.title, each.cells, wide) for each, wide in zip(candidates, widths, strict=True)]


def _need(candidates: Sequence[_Candidate], at: int) -> int:
    return candidates[at].width - candidates[at].least
