"""Profiles of devices that were measured here, kept as files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from autokv.errors import RequestError
from autokv.hardware.documents import read_profile
from autokv.hardware.profile import HardwareProfile


def measured_folder() -> Path:
    """``hardware`` in the cache folder, which ``AUTOKV_CACHE_DIR`` sets; it need not exist.

    The rule is that of :class:`autokv.settings.Settings`, which this room does not import.
    """
    chosen = os.environ.get("AUTOKV_CACHE_DIR")
    root = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "autokv"
    return root.expanduser() / "hardware"


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
