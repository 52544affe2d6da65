"""Devices that are not here, by their makers' data sheets: a YAML file each, named as the device is asked for.

Rates are dense (figures for sparse matrices are twice as high on most sheets) and peaks: nothing attains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from autokv.hardware.documents import DataSheet, read_sheet
from autokv.hardware.profile import HardwareProfile

FOLDER = Path(__file__).parent


@cache
def sheets() -> Mapping[str, DataSheet]:
    """Every data sheet by its name here, sorted.

    Raises:
        RequestError: one of them is wrong; the tests read all.
    """
    return MappingProxyType({path.stem: read_sheet(path) for path in sorted(FOLDER.glob("*.yaml"))})


def sheet_of(profile: HardwareProfile) -> HardwareProfile | None:
    """The data sheet of a device that was measured; None where its name and cores are not those of one."""
    sheet = _sheet_of(profile)
    return None if sheet is None else sheet.profile()


def silicon_name(profile: HardwareProfile) -> str | None:
    """What tables of measured kernel times call a device; None where the catalog does not know."""
    sheet = _sheet_of(profile)
    return None if sheet is None else sheet.silicon


def _sheet_of(profile: HardwareProfile) -> DataSheet | None:
    for sheet in sheets().values():
        if sheet.cores == profile.cores and profile.name in (sheet.name, *sheet.reported_names):
            return sheet
    return None
