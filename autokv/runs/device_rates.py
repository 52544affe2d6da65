"""The rates of a device as they were when its times were measured: kept beside the times, so that both fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from autokv.clocks import PROCESSOR_TIME, counts_processor_time
from autokv.evaluation.costs import CostCache, KernelTime, key_of
from autokv.hardware import HardwareProfile, Rate

NAMES = ("copy_gb_per_s", "float32_gflops", "bfloat16_gflops", "float16_gflops", "launch_us")
"""What times are scaled by."""


def kept_rates(probed: HardwareProfile, cache: CostCache) -> HardwareProfile:
    """``probed`` with the rates that are kept of this device; those of a device seen first are kept from now on.

    A machine that is busy, or warm, probes otherwise from minute to minute: times that were measured at one moment and
    rates of another would give another prediction at every call.

    Args:
        probed: the device, measured now.
        cache: where its times are kept.
    """
    found: dict[str, Any] = {}
    for name in NAMES:
        rate: Rate | None = getattr(probed, name)
        if rate is None:
            continue
        document = _document(probed, name)
        key = key_of(document)
        time = cache.get(key)
        if time is None:
            time = KernelTime(_seconds(name, rate.median), 0.0, rate.n)
            cache.put(key, {**document, "rate": {"median": rate.median, "spread": rate.spread, "n": rate.n}}, time)
        found[name] = Rate(_rate(name, time.seconds), rate.spread, rate.n)
    return replace(probed, **found)


def _document(probed: HardwareProfile, name: str) -> Mapping[str, Any]:
    return {
        "stage": {"kind": "rate of the device", "rate": name},
        "device": probed.fingerprint,
        "threads": probed.threads,
        "torch": probed.torch_version,
        **(PROCESSOR_TIME if probed.kind == "cpu" and counts_processor_time() else {}),
    }


def _seconds(name: str, rate: float) -> float:
    """Of 10⁹ bytes or operations, or of one launch."""
    return rate / 1e6 if name == "launch_us" else 1.0 / rate


def _rate(name: str, seconds: float) -> float:
    return seconds * 1e6 if name == "launch_us" else 1.0 / seconds
