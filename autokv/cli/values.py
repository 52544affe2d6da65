"""Values of options: bounds, labels and sizes."""

from __future__ import annotations

import re

from autokv.errors import RequestError

UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12} | {
    unit: 1 << (10 * power) for power, unit in enumerate(("b", "kib", "mib", "gib", "tib"))
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


def bounds(given: list[str] | None, option: str) -> dict[str, float] | None:
    """``NAME=VALUE`` of every use of an option, several of them between commas or spaces.

    Raises:
        RequestError: one is not of that form.
    """
    found = {}
    for item in (item for text in given or () for item in re.split(r"[,\s]+", text.strip())):
        name, sign, value = item.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            sign = ""
        if not sign:
            raise RequestError(f"{item!r} is not NAME=VALUE", field=option, remedy="such as kl_divergence=0.05")
    return found or None


def label_map(text: str, option: str) -> dict[str, str]:
    """``NAME=VALUE`` of every label between commas.

    Raises:
        RequestError: one is not of that form.
    """
    from pydantic import TypeAdapter, ValidationError

    from autokv.wire import Labels

    items = [item.strip() for item in text.split(",") if item.strip()]
    try:
        return TypeAdapter(Labels).validate_python(dict(item.split("=", 1) for item in items))
    except (ValidationError, ValueError):
        raise RequestError(
            f"{text!r} is not NAME=VALUE,…", field=option, remedy="such as zone=a,tier=b: letters, digits and ._-/"
        ) from None


def byte_size(text: str, option: str) -> float:
    """Bytes of ``2GiB``, ``500 MB`` or ``1e9``.

    Raises:
        RequestError: it is not a positive size.
    """
    try:
        size = float(text)
    except ValueError:
        match = _SIZE.fullmatch(text.strip().lower())
        unit = UNITS.get(match[2]) if match else None
        size = float(match[1]) * unit if match and unit else 0.0
    if not 0 < size < float("inf"):
        raise RequestError(f"{text!r} is not a size", field=option, remedy="such as 2GiB or 500MB")
    return size
