"""Profiles of devices that were measured here, kept as files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from autokv.errors import RequestError
from autokv.files import cache_folder
from autokv.hardware.documents import read_profile
from autokv.hardware.profile import HardwareProfile


def measured_folder() -> Path:
    """Where they are kept; it need not exist."""
    return cache_folder("hardware")


def measured_file(profile: HardwareProfile) -> Path:
    """Where the newest measurement of this device is kept."""
    return measured_folder() / f"{profile.fingerprint}.json"


def measured_profiles() -> Mapping[str, HardwareProfile]:
    """Kept profiles by fingerprint, sorted; files that cannot be read are passed over."""
    found = {}
    for path in sorted(measured_folder().glob("*.json")):
        try:
            profile = read_profile(path)
        except RequestError:
            continue
        found[profile.fingerprint] = profile
    return found
