"""Warming up: every kernel of a point is tuned, and a normal run then finds what was kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from autokv.evaluation import clock, warm_up
from autokv.evaluation.kernel_shapes import AttentionShape
from autokv.kernels import autotune
from autokv.kernels.triton_backend import triton_backend

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def test_a_point_is_tuned_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOKV_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(clock, "last_level_cache_bytes", lambda device: 1 << 12)
    monkeypatch.setattr(warm_up, "ROUNDS", 1)
    monkeypatch.setattr(warm_up, "WINDOW", 4)
    kernels = triton_backend(DEVICE)
    (point,) = warm_up.warm_up(kernels, DEVICE, {"small": AttentionShape(1, 1, 64)}, (1,), (32,), ("int4",))
    assert (point.shape, point.batch, point.context) == ("small", 1, 32)
    # Window scores, keys by channel and values by token at least.
    assert point.launches >= 3
    assert autotune.stored_launches(autotune.device_name(DEVICE)) == point.launches
    assert list(warm_up.warm_up(kernels, DEVICE, {"huge": AttentionShape(1 << 20, 1, 256)}, (64,), (65536,))) == []
