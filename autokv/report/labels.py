"""Direct labels beside the points they name, without a legend and without running into each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CHARACTER = 6.8
"""Width of a character of 12-pixel sans-serif text in pixels, on the generous side."""
LINE = 15.0
GAP = 10.0
"""Pixels between a point's centre and its label."""
BESIDE = 14.0
"""Pixels beyond the plot's right end that a label may take."""
BEFORE = 3.0
"""Pixels between a text's side and its leader."""
REACH = 9
"""Lines by which a label may move up or down to find room."""
CLASH = 1e3
"""Cost of a pixel of a text under another text or under a leader; no distance costs as much."""
TRIES = 3
"""Orders in which the texts are placed, for each text, before the best of them is taken."""


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

    @classmethod
    def of(cls, one: tuple[float, float], other: tuple[float, float]) -> Box:
        """The box between two opposite corners."""
        (a, b), (c, d) = one, other
        return cls(min(a, c), min(b, d), max(a, c), max(b, d))

    def overlap(self, other: Box) -> float:
        """Shared area in square pixels."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, wide) * max(0.0, high)

    def crossed(self, start: tuple[float, float], end: tuple[float, float]) -> float:
        """Pixels of the straight line from ``start`` to ``end`` that lie within (Liang and Barsky, 1984)."""
        (x, y), along, down = start, end[0] - start[0], end[1] - start[1]
        enters, leaves = 0.0, 1.0
        for step, far in (
            (-along, x - self.left),
            (along, self.right - x),
            (-down, y - self.top),
            (down, self.bottom - y),
        ):
            if step == 0:
                if far < 0:
                    return 0.0
            elif step < 0:
                enters = max(enters, far / step)
            else:
                leaves = min(leaves, far / step)
        return max(0.0, leaves - enters) * math.hypot(along, down)

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

    @property
    def box(self) -> Box:
        """What the text covers."""
        size = len(self.text) * CHARACTER
        left = self.x + self.dx - {"start": 0.0, "middle": size / 2, "end": size}[self.anchor]
        return Box(left, self.y + self.dy - LINE / 2, left + size, self.y + self.dy + LINE / 2)

    @property
    def leader(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """Ends of the line that ties a label to its point, short of the text; ``None`` where they are near."""
        if abs(self.dy) <= LINE and abs(self.dx) <= GAP:
            return None
        box = self.box
        if abs(self.dy) > LINE / 2:
            end = min(max(self.x, box.left), box.right), box.bottom if self.dy < 0 else box.top
        else:
            end = self.x + self.dx - math.copysign(BEFORE, self.dx), self.y + self.dy
        return (self.x, self.y), end


def place(
    wanted: Sequence[tuple[str, tuple[float, float]]],
    obstacles: Sequence[Box],
    width: float,
    height: float,
    reserved: Sequence[Box] = (),
) -> list[Label]:
    """Place each text near its point, the first ones first, where it covers least.

    No text lies over other text, over another text's leader, over a ``reserved`` box or beyond the plot while there is
    any place where it does not; ``obstacles`` it only avoids. A text that found no such place goes first, and all are
    placed again.
    """
    order = list(range(len(wanted)))
    best: list[Label] = []
    least = float("inf")
    for _ in range(TRIES * len(wanted)):
        labels, costs = _in_order(wanted, order, obstacles, width, height, reserved)
        if sum(costs.values()) < least:
            best, least = [labels[index] for index in sorted(labels)], sum(costs.values())
        worst = max(costs, key=costs.__getitem__, default=None)
        if worst is None or costs[worst] < CLASH:
            break
        order.remove(worst)
        order.insert(0, worst)
    return best


def _in_order(
    wanted: Sequence[tuple[str, tuple[float, float]]],
    order: Sequence[int],
    obstacles: Sequence[Box],
    width: float,
    height: float,
    reserved: Sequence[Box],
) -> tuple[dict[int, Label], dict[int, float]]:
    """A label for each text that has a place, none moved once it is placed, and what each costs, by its number."""
    taken = list(reserved)
    placed: dict[int, Label] = {}
    costs: dict[int, float] = {}
    for index in order:
        text, (x, y) = wanted[index]
        best, least = None, float("inf")
        for far, (dx, dy, anchor) in _POSITIONS:
            if far >= least:  # and those that follow are farther still
                break
            label = Label(text, x, y, dx, dy, anchor)
            box = label.box
            cost = far + 1e4 * box.outside(width + BESIDE, height) + sum(box.overlap(other) for other in obstacles)
            cost += CLASH * sum(box.overlap(other) for other in taken)
            if cost < least:
                cost += CLASH * sum(_crossing(label, other) for other in placed.values())
            if cost < least:
                best, least = label, cost
        if best is not None:
            taken.append(best.box)
            placed[index], costs[index] = best, least
    return placed, costs


def _crossing(one: Label, other: Label) -> float:
    """Pixels of either's leader within the other's text."""
    pairs = ((one.box, other.leader), (other.box, one.leader))
    return sum(box.crossed(*leader) for box, leader in pairs if leader is not None)


_ACROSS: tuple[tuple[float, Literal["start", "middle", "end"]], ...] = (
    (GAP, "start"),
    (-GAP, "end"),
    (0.0, "middle"),
    (3 * GAP, "start"),
    (-3 * GAP, "end"),
    (6 * GAP, "start"),
    (-6 * GAP, "end"),
    (12 * GAP, "start"),
    (-12 * GAP, "end"),
)
_POSITIONS = sorted(
    (
        (2 * (abs(down * LINE) + max(0.0, abs(across) - GAP)), (across, down * LINE, anchor))
        for down in range(-REACH, REACH + 1)
        for across, anchor in _ACROSS
        if across or down
    ),
    key=lambda one: one[0],
)
"""How far each is from the point, and where it is."""
