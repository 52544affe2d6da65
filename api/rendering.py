"""Configurations as JSON or YAML, whichever is asked for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import yaml
from fastapi import Header
from pydantic import Field
from pydantic_core import to_json, to_jsonable_python
from starlette.exceptions import HTTPException

from autokv.api.etags import MAX_HEADER
from autokv.api.paging import Query

Format = Literal["json", "yaml"]
MEDIA_TYPES: dict[Format, str] = {"json": "application/json", "yaml": "application/yaml"}
_NAMES: dict[str, Format] = {
    "application/json": "json",
    "application/*": "json",
    "*/*": "json",
    "application/yaml": "yaml",
    "application/x-yaml": "yaml",
    "text/yaml": "yaml",
    "text/x-yaml": "yaml",
    "text/*": "yaml",
}
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

Accept = Annotated[str | None, Header(max_length=MAX_HEADER, include_in_schema=False)]


class FormatQuery(Query):
    """As what."""

    format: Format | None = Field(None, description="instead of what `Accept` asks for")


def chosen(query: FormatQuery, accept: str | None) -> Format:
    """The format that is asked for: JSON by default, YAML on request.

    Raises:
        HTTPException: 406; neither is taken.
    """
    if query.format is not None:
        return query.format
    liked: dict[Format, float] = {}
    for part in (accept or "*/*").split(","):
        media, *parameters = (text.strip().lower() for text in part.split(";"))
        if media in _NAMES:
            name = _NAMES[media]
            liked[name] = max(liked.get(name, 0.0), _quality(parameters))
    best = max(liked, key=lambda name: (liked[name], name == "json"), default=None)
    if best is None or not liked[best]:
        raise HTTPException(406, f"there is {' and '.join(MEDIA_TYPES.values())}, and neither is accepted")
    return best


def rendered(document: Any, form: Format) -> bytes:  # noqa: ANN401 - whatever JSON can hold
    """``document`` (JSON, or pydantic) as text for files; NaN and infinities, which JSON lacks, become null."""
    if form == "json":
        return to_json(document, indent=2, inf_nan_mode="null") + b"\n"
    plain = to_jsonable_python(document, inf_nan_mode="null")
    text: str = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text.encode()


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
