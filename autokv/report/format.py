"""Numbers for people, three figures and a unit, never an exponent where a digit will do; and their sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from autokv.evaluation.naming import label, unit

MISSING = "–"
COMMANDS = ("autokv", "pip")
SPANS = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (0.0, "seconds"))


def heading(metric: str) -> str:
    """The label with a capital: ``Attention per layer``."""
    text = label(metric)
    return text if text.startswith("fp8") else f"{text[:1].upper()}{text[1:]}"


def title(metric: str) -> str:
    """Heading and unit: ``Attention per layer (µs)``."""
    return f"{heading(metric)} ({unit(metric) or 'fraction'})"


@dataclass(frozen=True)
class Unit:
    """What a column is printed in: its name, and what a metric's own value is divided by."""

    name: str
    scale: float = 1.0


LONGER = {"µs": ("ms", "s"), "ms": ("s",)}
LONG = 1e4
"""From this on an amount of time is printed in the next longer unit."""


def common_unit(metric: str, values: Iterable[float | None]) -> Unit:
    """One unit for all of ``values``, long times in a longer one; ``fraction`` where a metric has none."""
    found = Unit(unit(metric) or "fraction")
    longest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    for longer in LONGER.get(found.name, ()):
        if longest / found.scale >= LONG:
            found = Unit(longer, 1e3 * found.scale)
    return found


def number(value: float | None) -> str:
    """Three significant figures; thousands grouped; an exponent only below 0.0001 and from ten million on."""
    if value is None:
        return MISSING
    if not math.isfinite(value):
        return "not finite"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-4 or size >= 1e7:
        return f"{value:.1e}"
    decimals = max(0, 2 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"


def quantity(metric: str, value: float | None) -> str:
    """A metric's value and its unit: ``112 µs``, ``0.0123 nats/token``, ``6.4×``."""
    mark = unit(metric)
    if value is None or not mark:
        return number(value)
    return f"{number(value)}{mark}" if mark == "×" else f"{number(value)} {mark}"


def sentence(text: str) -> str:
    """``text`` with a full stop and, unless it begins with a name such as ``fp8`` or with a command, a capital."""
    first = text.partition(" ")[0]
    named = first in COMMANDS or any(character.isdigit() for character in first)
    text = text if named else f"{text[:1].upper()}{text[1:]}"
    return text if text.endswith((".", "!", "?")) else f"{text}."


def unbroken(name: str) -> str:
    """A configuration's short name whose parts keep their number on the line: ``residual 128``."""
    return ", ".join("\u00a0".join(part.rsplit(" ", 1)) for part in name.split(", "))


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 05 s`` or ``2 h 10 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def span(longest_s: float) -> tuple[float, str]:
    """The unit of an axis of time that reaches to ``longest_s``: its seconds and its name."""
    return next((seconds or 1.0, name) for seconds, name in SPANS if longest_s >= 2 * seconds)
