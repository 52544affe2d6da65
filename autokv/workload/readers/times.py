"""Timestamps: numbers in a unit, or dates; all become nanoseconds."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import MAX_ARRIVAL_NS

TimeUnit = Literal["s", "ms", "us", "ns", "iso", "mdy", "dmy"]
UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_TIME = (
    r"[ T](?P<hour>[01]?\d|2[0-3]):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,12}))?)?"
    r" ?(?P<zone>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?"
)
_YEAR, _MONTH, _DAY = r"(?P<year>\d{4})", r"(?P<month>\d\d?)", r"(?P<day>\d\d?)"
PATTERNS = {
    "iso": f"{_YEAR}[-/]{_MONTH}[-/]{_DAY}{_TIME}",
    "mdy": f"{_MONTH}[-/.]{_DAY}[-/.]{_YEAR}{_TIME}",
    "dmy": f"{_DAY}[-/.]{_MONTH}[-/.]{_YEAR}{_TIME}",
}
"""Units of dates: by the order of year, month and day. A time without a zone is UTC; a fraction has up to 12 digits,
of which 9 count."""
DATES = {unit: re.compile(pattern, re.ASCII) for unit, pattern in PATTERNS.items()}
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def is_number(text: str) -> bool:
    """Whether the text is a decimal number."""
    return NUMBER.fullmatch(text) is not None


def checked_unit(unit: TimeUnit | None, default: TimeUnit, where: str) -> TimeUnit:
    """The unit that a format's timestamps are read in.

    Raises:
        WorkloadError: there is no such unit, or it is one of numbers where the format has dates, or the reverse.
    """
    if unit is None:
        return default
    if unit not in UNITS:
        raise WorkloadError(
            f"{str(unit)[:40]!r} is no unit", field="time_unit", remedy=f"use one of {', '.join(UNITS)}"
        )
    if (unit in DATES) != (default in DATES):
        kind = "dates" if default in DATES else "numbers"
        raise WorkloadError(
            f"is {unit!r}, but the timestamps of {where} are {kind}", field="time_unit", remedy="leave it out"
        )
    return unit


def unit_of(value: float | str | None) -> TimeUnit | None:
    """The unit that a timestamp is in by its looks; ``None`` for a date whose month and day could be exchanged.

    A number is seconds, unless it is so large that it can only be a date of this age in a smaller unit.
    """
    if isinstance(value, str) and not is_number(value.strip()):
        if DATES["mdy"].fullmatch(value.strip()):
            return None
        return "iso"
    size = abs(float(value or 0))
    return next((unit for unit in ("s", "ms", "us") if size <= MAX_ARRIVAL_NS / NANOSECONDS[unit]), "ns")


def arrow_type(unit: TimeUnit) -> pa.DataType:
    """The type that a column of timestamps is read as."""
    return pa.string() if unit in DATES else pa.float64()


def nanoseconds(value: float | str, unit: TimeUnit) -> int:
    """One timestamp: a number in ``unit``, also one that is written as text, or a date.

    Raises:
        ValueError: it is none, or lies outside of 1970 to 2191.
    """
    if unit in DATES:
        return _date(str(value), unit)
    if isinstance(value, str):
        if not is_number(value.strip()):
            raise ValueError(f"{value[:40]!r} is not a timestamp in {unit}")
        value = float(value)
    scale = NANOSECONDS[unit]
    if not abs(value) <= MAX_ARRIVAL_NS / scale:
        raise ValueError(f"the timestamp {str(value)[:20]} {unit} is out of range; is {unit} its unit?")
    return round(float(value) * scale)


def all_nanoseconds(column: pa.ChunkedArray, unit: TimeUnit) -> NDArray[np.int64]:
    """A column of :func:`arrow_type`.

    Raises:
        ValueError: :func:`nanoseconds` would refuse one of them.
    """
    if unit in DATES:
        return _all_dates(column, unit)
    values = column.to_numpy()
    scale = NANOSECONDS[unit]
    if not (np.abs(values) <= MAX_ARRIVAL_NS / scale).all():
        raise ValueError("timestamps out of range")
    result: NDArray[np.int64] = np.rint(values * scale).astype(np.int64)
    return result


def _date(text: str, unit: str) -> int:
    match = DATES[unit].fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text[:40]!r} is not a timestamp")
    year, month, day, hour, minute, second, fraction, zone = (
        match[name] or "" for name in ("year", "month", "day", "hour", "minute", "second", "fraction", "zone")
    )
    zone = zone if zone[:1] in ("+", "-") else "+00"
    moment = datetime.fromisoformat(
        f"{year}-{month.zfill(2)}-{day.zfill(2)}T{hour.zfill(2)}:{minute}:{second or '00'}{zone}"
    )
    return (moment - EPOCH) // timedelta(seconds=1) * 10**9 + int(fraction[:9].ljust(9, "0"))


def _all_dates(texts: pa.ChunkedArray, unit: str) -> NDArray[np.int64]:
    trimmed = pc.utf8_trim_whitespace(texts.combine_chunks())
    # No other digits than ASCII's, as in RE2.
    parts = pc.extract_regex(trimmed, f"^(?:{PATTERNS[unit]})$")
    if parts.null_count:
        raise ValueError("not all are timestamps")

    def part(name: str) -> pa.Array:
        return pc.struct_field(parts, name)

    def two(name: str) -> pa.Array:
        return pc.utf8_lpad(part(name), 2, padding="0")

    zone = part("zone")
    stated = pc.is_in(pc.utf8_slice_codeunits(zone, 0, 1), value_set=pa.array(["+", "-"]))
    date = pc.binary_join_element_wise(part("year"), two("month"), two("day"), "-")
    time = pc.binary_join_element_wise(two("hour"), part("minute"), two("second"), ":")
    fraction = pc.utf8_rpad(pc.utf8_slice_codeunits(part("fraction"), 0, 9), 9, padding="0")
    whole = pc.binary_join_element_wise(date, "T", time, ".", fraction, pc.if_else(stated, zone, "Z"), "")
    result: NDArray[np.int64] = whole.cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return result
