"""Timestamps: numbers in a unit, or dates; all become nanoseconds."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from autokv.errors import WorkloadError
from autokv.workload.readers.columns import MAX_ARRIVAL_NS

TimeUnit = Literal["s", "ms", "us", "ns", "iso"]
UNITS: tuple[TimeUnit, ...] = get_args(TimeUnit)
NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
TIMESTAMP = re.compile(
    r"(?P<second>\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)(\.(?P<fraction>\d{1,9}))?(?P<zone>Z|[+-]\d\d:\d\d)?", re.ASCII
)
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
    if (unit == "iso") != (default == "iso"):
        kind = "dates" if default == "iso" else "numbers"
        raise WorkloadError(
            f"is {unit!r}, but the timestamps of {where} are {kind}", field="time_unit", remedy="leave it out"
        )
    return unit


def arrow_type(unit: TimeUnit) -> pa.DataType:
    """The type that a column of timestamps is read as."""
    return pa.string() if unit == "iso" else pa.float64()


def nanoseconds(value: float | str, unit: TimeUnit) -> int:
    """One timestamp.

    Raises:
        ValueError: it is none, or lies outside of 1970 to 2191.
    """
    if isinstance(value, str):
        return _date(value)
    scale = NANOSECONDS[unit]
    if not abs(value) <= MAX_ARRIVAL_NS / scale:
        raise ValueError(f"the timestamp {str(value)[:20]} {unit} is out of range; is {unit} its unit?")
    return round(float(value) * scale)


def all_nanoseconds(column: pa.ChunkedArray, unit: TimeUnit) -> NDArray[np.int64]:
    """A column of :func:`arrow_type`.

    Raises:
        ValueError: :func:`nanoseconds` would refuse one of them.
    """
    if unit == "iso":
        return _all_dates(column)
    values = column.to_numpy()
    scale = NANOSECONDS[unit]
    if not (np.abs(values) <= MAX_ARRIVAL_NS / scale).all():
        raise ValueError("timestamps out of range")
    result: NDArray[np.int64] = np.rint(values * scale).astype(np.int64)
    return result


def _date(text: str) -> int:
    match = TIMESTAMP.fullmatch(text)
    if not match:
        raise ValueError(f"{text[:40]!r} is not a timestamp")
    moment = datetime.fromisoformat(match["second"] + (match["zone"] or "Z"))
    return (moment - EPOCH) // timedelta(seconds=1) * 10**9 + int((match["fraction"] or "0").ljust(9, "0"))


def _all_dates(texts: pa.ChunkedArray) -> NDArray[np.int64]:
    # Arrow alone would take a bare date too.
    if not pa.compute.all(pa.compute.match_substring_regex(texts, f"^({TIMESTAMP.pattern})$")).as_py():
        raise ValueError("not all are timestamps")
    try:
        moments = texts.cast(pa.timestamp("ns"))
    except pa.ArrowInvalid:  # they have a zone
        moments = texts.cast(pa.timestamp("ns", "UTC"))
    result: NDArray[np.int64] = moments.cast(pa.int64()).to_numpy()
    return result
