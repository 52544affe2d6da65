"""Profiles as files: what ``autokv hardware probe`` wrote, or a data sheet written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from autokv.documents import parse_document, read_document
from autokv.errors import RequestError
from autokv.hardware.profile import Count, HardwareProfile, Kind, Name, Positive, Rate, invalid

MAX_PROFILE_BYTES = 1 << 16
SUFFIXES = (".json", ".yaml", ".yml")
_GIB = 1 << 30
REMEDY = "write one with `autokv hardware probe --output FILE`"


class Rates(BaseModel):
    """Peak rates in 10¹² operations per second, dense."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    float32: Positive
    bfloat16: Positive
    float16: Positive | None = None
    float8: Positive | None = None
    int8: Positive | None = None


class DataSheet(BaseModel):
    """The form of a catalog file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    kind: Kind
    cores: Count
    """CPU cores, or multiprocessors of a GPU."""
    memory_gib: Positive
    bandwidth_gb_per_s: Positive
    """Peak memory bandwidth, 10⁹ bytes per second."""
    tera_per_s: Rates
    link_gb_per_s: Positive | None = None
    """Host to device, one way."""
    capabilities: list[Annotated[str, Field(min_length=1, max_length=40)]] = Field(default_factory=list)
    reported_names: list[Name] = Field(default_factory=list)
    """What drivers and operating systems call the device."""
    silicon: Annotated[str, Field(min_length=1, max_length=60)] | None = None
    """What tables of measured kernel times call the device, see :mod:`autokv.hardware.silicon`."""
    reference: Annotated[str, Field(min_length=1, max_length=2000)]
    """Title and address of the data sheet."""
    notes: Annotated[str, Field(max_length=2000)] = ""
    """How values were derived that the data sheet does not say."""

    def profile(self) -> HardwareProfile:
        """As a profile, marked as a data sheet's."""
        rates = self.tera_per_s
        return HardwareProfile(
            name=self.name,
            kind=self.kind,
            cores=self.cores,
            memory_bytes=int(self.memory_gib * _GIB),
            capabilities=tuple(sorted(self.capabilities)),
            torch_version="",
            threads=0,
            copy_gb_per_s=_stated(self.bandwidth_gb_per_s),
            float32_gflops=_stated(rates.float32 * 1e3),
            bfloat16_gflops=_stated(rates.bfloat16 * 1e3),
            source="data sheet",
            float16_gflops=_given(rates.float16, 1e3),
            float8_gflops=_given(rates.float8, 1e3),
            int8_gops=_given(rates.int8, 1e3),
            link_gb_per_s=_given(self.link_gb_per_s),
            reference=" ".join(f"{self.reference} {self.notes}".split()),
        )


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


def _stated(value: float) -> Rate:
    return Rate(value, 0.0, 0)


def _given(value: float | None, unit: float = 1.0) -> Rate | None:
    return None if value is None else _stated(value * unit)
