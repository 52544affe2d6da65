"""Direct labels beside the points they name, without a legend and without running into each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CHARACTER = 6.8
"""Width of a character of 12-pixel sans-serif text in pixels, on the generous side."""
LINE = 15.0
GAP = 9.0
"""Pixels between a point's centre and its label."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> Box:
        """The box of this size centred on a point."""
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def overlap(self, other: Box) -> float:
        """Shared area in square pixels."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)

    def outside(self, width: float, height: float) -> float:
        """Pixels by which the box leaves the plot."""
        return max(0.0, -self.left, -self.top, self.right - width, self.bottom - height)


@dataclass(frozen=True)
class Label:
    """``text`` at ``dx``, ``dy`` pixels from the point at ``x``, ``y``; ``anchor`` is the text's fixed side."""

    text: str
    x: float
    y: float
    dx: float
    dy: float
    anchor: Literal["start", "middle", "end"]


def place(
    wanted: Sequence[tuple[str, tuple[float, float]]],
    obstacles: Sequence[Box],
    width: float,
    height: float,
    reserved: Sequence[Box] = (),
) -> list[Label]:
    """Place each text near its point, the first ones first, where it covers least; other text is ``reserved``."""
    taken = list(reserved)
    placed: list[Label] = []
    for text, (x, y) in wanted:
        label, box = min(
            (_candidate(text, x, y, dx, dy) for dx, dy in _POSITIONS),
            key=lambda candidate: (
                100 * candidate[1].outside(width, height)
                + 20 * sum(candidate[1].overlap(other) for other in taken)
                + sum(candidate[1].overlap(other) for other in obstacles)
                + abs(candidate[0].dy)
            ),
        )
        taken.append(box)
        placed.append(label)
    return placed


_POSITIONS = [
    (across * GAP, down)
    for down in (0.0, -LINE, LINE, -2 * LINE, 2 * LINE, -3 * LINE, 3 * LINE)
    for across in (1, -1, 0)
    if across or down
]


def _candidate(text: str, x: float, y: float, dx: float, dy: float) -> tuple[Label, Box]:
    size = len(text) * CHARACTER
    left = x + dx if dx > 0 else x + dx - size if dx < 0 else x - size / 2
    anchor: Literal["start", "middle", "end"] = "start" if dx > 0 else "end" if dx < 0 else "middle"
    box = Box(left, y + dy - LINE / 2, left + size, y + dy + LINE / 2)
    return Label(text, x, y, dx, dy, anchor), box
