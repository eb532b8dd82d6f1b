"""Maps that go along with other maps: how deep their places are, and who opens with whom.

No recursion: chains of steps that go along item by item are long.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from penstock_coordinator.core.plan.model import MapForm, StepMap


def shapes_of(maps: Sequence[StepMap | None]) -> tuple[list[int], list[int]]:
    """Of each step the depth and the shape, as in `Step`."""
    depths, shapes = [0] * len(maps), [-1] * len(maps)
    for number in range(len(maps)):
        chain: list[tuple[int, StepMap]] = []
        at: int | None = number
        while at is not None and not depths[at]:
            over = maps[at]
            if over is None:
                break
            chain.append((at, over))
            at = over.followed
        for step, over in reversed(chain):
            followed = over.followed
            deeper = over.form is MapForm.NESTED
            depths[step] = 1 if followed is None else depths[followed] + deeper
            shapes[step] = step if followed is None or deeper else shapes[followed]
    return depths, shapes


def followers_of(maps: Sequence[StepMap | None], joined: Sequence[Collection[int]]) -> list[tuple[int, ...]]:
    """By step those that open when it is expanded. `joined` has for each step the upstream that it names elsewhere than
    in its map: one that is among them is waited for as a whole."""
    found: list[list[int]] = [[] for _ in maps]
    for number, over in enumerate(maps):
        followed = None if over is None or over.form is MapForm.UNDONE else over.followed
        if followed is not None and followed not in joined[number]:
            found[followed].append(number)
    return [tuple(followers) for followers in found]


def joiners_of(downstream: tuple[int, ...], followers: tuple[int, ...]) -> tuple[int, ...]:
    """The others of the downstream."""
    if not followers:
        return downstream
    along = frozenset(followers)
    return tuple(number for number in downstream if number not in along)
