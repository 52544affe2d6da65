"""``find``: a profile by what a person calls the device; those that were measured here are kept as files."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from pathlib import Path

from autokv.errors import RequestError
from autokv.files import cache_folder
from autokv.hardware import catalog
from autokv.hardware.documents import SUFFIXES, read_profile
from autokv.hardware.profile import HardwareProfile

HERE = "here"


def find(name: str | Path, device: str = "auto") -> HardwareProfile:
    """The profile that ``name`` means.

    Args:
        name: ``here`` measures this machine; a path is read; else a name of the catalog (``h100-sxm``, ``4090``; case
            and punctuation do not matter, and a part is enough where it fits only one), or of a device that was
            measured here, by its fingerprint or name.
        device: which device ``here`` is: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        RequestError: nothing, or more than one device, is called so, or the file is not a profile.
    """
    text = str(name).strip()
    if text.lower() == HERE:
        return _here(device)
    path = Path(text)
    if path.suffix.lower() in SUFFIXES or (text and path.is_file()):
        return read_profile(path)
    sheets = catalog.sheets()
    chosen = match(text, {slug: f"{slug} {sheet.name}" for slug, sheet in sheets.items()})
    if len(chosen) == 1:
        return sheets[chosen[0]].profile()
    kept = measured_profiles()
    measured = match(text, {key: f"{key} {profile.name}" for key, profile in kept.items()})
    if len(measured) == 1 and not chosen:
        return kept[measured[0]]
    raise _refusal(text, [*chosen, *measured], sheets)


def measured_folder() -> Path:
    """Where profiles that were measured here are kept; it need not exist."""
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


def match(text: str, names: Mapping[str, str]) -> tuple[str, ...]:
    """Keys of the names that ``text`` fits: the key itself, else whole words of a name, else parts of it."""
    words = _words(text)
    whole = "".join(words)
    tests: tuple[Callable[[str], bool], ...] = (
        lambda key: whole == _squeezed(key),
        lambda key: set(words) <= set(_words(names[key])),
        lambda key: all(word in _squeezed(names[key]) for word in words),
        lambda key: whole in _squeezed(names[key]),
    )
    for test in tests if words else ():
        found = tuple(key for key in names if test(key))
        if found:
            return found
    return ()


def _here(device: str) -> HardwareProfile:
    import torch

    from autokv.hardware.measuring import probe

    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return probe(chosen)


def _refusal(text: str, found: Collection[str], sheets: Mapping[str, object]) -> RequestError:
    if found:
        return RequestError(f"{text!r} could be {', '.join(found)}", field="hardware", remedy="say which")
    near = get_close_matches(text.lower(), sheets, n=3, cutoff=0.5)
    remedy = f"did you mean {' or '.join(near)}? " if near else ""
    return RequestError(
        f"no device {text!r} is known",
        field="hardware",
        remedy=f"{remedy}`autokv hardware list` has the names; a profile file or `here` is taken too",
    )


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _squeezed(text: str) -> str:
    return "".join(_words(text))
