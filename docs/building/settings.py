"""The page of settings, from the fields of ``autokv.settings.Settings``."""

from __future__ import annotations

import os
import types
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ByteSize
from tables import code, table

from autokv.settings import PREFIX, Settings

NAMES = {str: "text", int: "integer", float: "number", ByteSize: "size", bool: "true or false", Path: "path"}
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
DEFAULTS = {"cache_dir": "$XDG_CACHE_HOME/autokv, else ~/.cache/autokv"}
"""What the environment decides, and must not be that of the machine that builds the page."""


def page() -> str:
    """A table with a row for each variable."""
    rows = [
        (
            code(f"{PREFIX}{name.upper()}"),
            _type(field.annotation),
            code(DEFAULTS.get(name, _default(field.default))) or "unset",
            ", ".join(_limits(field.metadata)),
            (field.description or "").replace(repr(os.pathsep), "`:` (`;` on Windows)"),
        )
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(table(("variable", "type", "default", "limits", "meaning"), rows))


def _type(annotation: Any) -> str:
    if get_origin(annotation) is types.UnionType:
        return " or ".join(_type(each) for each in get_args(annotation) if each is not type(None))
    if get_origin(annotation) is tuple:
        return "paths"
    return NAMES[annotation]


def _default(value: object) -> str:
    if value is None or value == ():
        return ""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _limits(metadata: list[Any]) -> list[str]:
    return [
        f"{sign} {getattr(each, name):g}" for each in metadata for name, sign in SIGNS.items() if hasattr(each, name)
    ]
