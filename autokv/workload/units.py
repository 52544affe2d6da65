"""Signs that timestamps are in another unit than the one they were read in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np

from autokv.workload.readers.columns import Columns
from autokv.workload.readers.times import DATES, NANOSECONDS

FEWEST = 100
"""Requests, below which a rate says nothing."""
MOST_REQUESTS_PER_S = 1000.0
"""More requests a second than one deployment serves: milliseconds that are seconds look so."""
MOST_TOKENS_PER_S = 1e7
"""More input tokens a second than one deployment reads."""
LONGEST_GAP_S = 100.0
"""Mean seconds between requests, above which a trace of many requests looks stretched."""
JUMP = 100
"""A gap so many times as long as all the others together looks like two units in one file."""
SHORTEST_JUMP_NS = 60 * 10**9
"""A shorter gap is never remarked on."""
FEWEST_FALLS = 10
"""Falls to a :data:`JUMP`-th of the row above; fewer may be logs one behind the other."""
FALLING_SHARE = 0.01
"""Likewise, as a share of all rows."""
FACTOR_TOLERANCE = 0.2
"""Dates in two units may be years apart."""
EPOCHS = range(946_684_800, 4_102_444_800)
"""Seconds since 1970 of the years 2000 to 2099."""


def mixed_units(columns: Columns) -> tuple[int, str] | None:
    """(line, what is wrong there), if the timestamps are certainly numbers in two units.

    They are where many are a hundredth of the one above, or where dates become a thousand times as large.
    """
    if columns.unit is None or columns.unit in DATES or columns.own_clocks or not len(columns):
        return None
    arrival = columns.arrival_ns.astype(np.float64)
    falls = np.flatnonzero((arrival[1:] > 0) & (arrival[:-1] >= JUMP * arrival[1:]))
    if len(falls) >= max(FEWEST_FALLS, FALLING_SHARE * len(columns)):
        return int(columns.lines[falls[0] + 1]), "the timestamps keep falling to less than a hundredth"
    low, high = arrival.min(), arrival.max()
    ratio = high / low if low >= EPOCHS.start * NANOSECONDS["ns"] else 1.0
    if any(abs(ratio / factor - 1) < FACTOR_TOLERANCE for factor in (1e3, 1e6, 1e9)):
        first = int(np.flatnonzero((arrival > 2 * low) != (arrival[0] > 2 * low))[0])
        return int(columns.lines[first]), "the timestamps change by a factor of a thousand"
    return None


def perhaps_seconds(columns: Columns) -> float | None:
    """Requests per second, if they are so many that timestamps read in milliseconds are likely to be seconds."""
    if columns.unit != "ms" or len(columns) < FEWEST:
        return None
    first, last = int(columns.arrival_ns.min()), int(columns.arrival_ns.max())
    if first == last or first // 10**9 in EPOCHS:
        return None
    rate = len(columns) / ((last - first) / 1e9)
    return rate if rate > MOST_REQUESTS_PER_S else None


def unit_notes(columns: Columns) -> Iterator[str]:
    """Sentences about timestamps that were read as numbers; none about dates or no timestamps."""
    unit = columns.unit
    if unit is None or unit in DATES or len(columns) < 2:
        return
    arrival = np.sort(columns.arrival_ns)
    span = int(arrival[-1] - arrival[0])
    if not span:
        return
    epoch = _epoch(int(arrival[0]), int(arrival[-1]), unit)
    if epoch is not None:
        yield epoch
        return
    gaps = np.diff(arrival)
    widest = int(gaps.argmax())
    gap = int(gaps[widest])
    if len(columns) > 2 and gap > max(JUMP * (span - gap), SHORTEST_JUMP_NS):
        line = columns.lines[np.flatnonzero(columns.arrival_ns == arrival[widest + 1])[0]]
        yield (
            f"the timestamps jump by {gap / 1e9:.6g} s in line {line}, {JUMP} times what all others span: if part of "
            "them is in another unit, split the file"
        )
    if len(columns) < FEWEST:
        return
    mend = f"if the timestamps are not in {unit}, give their unit (--time-unit)"
    rate = float(columns.input_tokens.sum()) / (span / 1e9)
    mean_gap = span / 1e9 / len(columns)
    if rate > MOST_TOKENS_PER_S:
        yield f"{rate:.3g} input tokens arrive per second: {mend}"
    elif mean_gap > LONGEST_GAP_S:
        yield f"a request arrives every {mean_gap:.4g} s: {mend}"


def _epoch(first: int, last: int, unit: str) -> str | None:
    """A sentence, if all timestamps are dates of this century in a unit that is not ``unit``."""
    for other, scale in NANOSECONDS.items():
        low, high = first / NANOSECONDS[unit] * scale / 1e9, last / NANOSECONDS[unit] * scale / 1e9
        if other != unit and int(low) in EPOCHS and int(high) in EPOCHS and high - low < low / 10:
            date = datetime.fromtimestamp(low, UTC).date()
            return f"the timestamps, read in {unit}, would begin in {date} in {other}: give their unit (--time-unit)"
    return None
