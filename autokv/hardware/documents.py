"""Profiles as files: what ``autokv hardware probe`` wrote, or a data sheet written by hand."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from autokv.errors import RequestError
from autokv.hardware.profile import HardwareProfile, invalid
from autokv.hardware.sheet import DataSheet

MAX_PROFILE_BYTES = 1 << 16
SUFFIXES = (".json", ".yaml", ".yml")


def read_profile(path: str | Path) -> HardwareProfile:
    """Read a profile: JSON or YAML, in the form of :class:`HardwareProfile` or of :class:`DataSheet`.

    Raises:
        RequestError: the file cannot be read, or a field is wrong.
    """
    return _profile(_read(Path(path)), str(path))


def parse_profile(data: bytes, where: str) -> HardwareProfile:
    """A profile from the bytes of such a file; ``where`` opens the field in errors.

    Raises:
        RequestError: it is neither JSON nor YAML, it has YAML aliases (a few bytes of them can mean gigabytes), or a
            field is wrong.
    """
    document = _parse(data, where, aliases=False)
    return _profile(document, where)


def read_sheet(path: Path) -> DataSheet:
    """Read a data sheet.

    Raises:
        RequestError: the file cannot be read, or a field is wrong.
    """
    return _sheet(_read(path), str(path))


def _profile(document: object, where: str) -> HardwareProfile:
    if isinstance(document, dict) and "tera_per_s" in document:
        return _sheet(document, where).profile()
    return HardwareProfile.from_dict(document, where)


def _sheet(document: object, where: str) -> DataSheet:
    try:
        return DataSheet.model_validate(document)
    except ValidationError as error:
        raise invalid(error, where) from None


def _read(path: Path) -> object:
    where = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_PROFILE_BYTES + 1)
        if len(data) > MAX_PROFILE_BYTES:
            raise RequestError(f"is larger than {MAX_PROFILE_BYTES} bytes", field=where, remedy="is it a profile?")
    except OSError as error:
        raise RequestError(f"cannot be read ({error.strerror})", field=where, remedy="check the path") from None
    return _parse(data, where)


def _parse(data: bytes, where: str, *, aliases: bool = True) -> object:
    """JSON is YAML."""
    try:
        text = data.decode("utf-8")
        if not aliases and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise RequestError("has YAML aliases", field=where, remedy="write out what they stand for")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RequestError(
            f"is neither JSON nor YAML ({error})", field=where, remedy="write one with autokv hardware probe --output"
        ) from None
