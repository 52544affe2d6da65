"""Rates of a device that are kept beside its times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autokv.evaluation.costs import MemoryCache
from autokv.hardware import HardwareProfile, Rate
from autokv.hardware.catalog import sheets
from autokv.runs import cost_sources


def probed(rate: float) -> HardwareProfile:
    return replace(sheets()["h100-sxm"].profile(), kind="cpu", copy_gb_per_s=Rate(rate, 0.0, 5))


def test_rates_of_another_clock_than_that_of_the_times_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = MemoryCache()

    def kept(rate: float, processor_time: bool) -> float:
        monkeypatch.setattr(cost_sources, "counts_processor_time", lambda: processor_time)
        return cost_sources.kept_rates(probed(rate), cache).copy_gb_per_s.median

    assert kept(3.0, False) == pytest.approx(3.0)
    assert kept(12.0, True) == pytest.approx(12.0)
    assert kept(7.0, True) == pytest.approx(12.0)
    assert kept(7.0, False) == pytest.approx(3.0)
