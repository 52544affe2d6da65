"""Profiles as files: what ``autokv hardware probe`` wrote, or a data sheet written by hand."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from autokv.documents import parse_document, read_document
from autokv.errors import RequestError
from autokv.hardware.profile import HardwareProfile, invalid
from autokv.hardware.sheet import DataSheet

MAX_PROFILE_BYTES = 1 << 16
SUFFIXES = (".json", ".yaml", ".yml")
REMEDY = "write one with `autokv hardware probe --output FILE`"


def read_profile(path: str | Path) -> HardwareProfile:
    """Read a profile: JSON or YAML, in the form of :class:`HardwareProfile` or of :class:`DataSheet`.

    Raises:
        RequestError: the file cannot be read, or a field is wrong.
    """
    return _profile(_read(path), str(path))


def parse_profile(data: bytes, where: str) -> HardwareProfile:
    """A profile from the bytes of such a file; ``where`` opens the field in errors.

    Raises:
        RequestError: it is neither JSON nor YAML, it has YAML aliases (a few bytes of them can mean gigabytes), or a
            field is wrong.
    """
    return _profile(parse_document(data, where, error=RequestError, remedy=REMEDY, aliases=False), where)


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


def _read(path: str | Path) -> object:
    return read_document(path, error=RequestError, remedy=REMEDY, limit=MAX_PROFILE_BYTES)
