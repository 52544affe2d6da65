"""Timed runs of decode attention: candidates and the 16-bit baseline, interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from autokv.compression import CompressedKV
from autokv.evaluation.snapshot import LayerSnapshot
from autokv.kernels import Backend

ROUNDS = 7
"""Timed rounds; each times every contender once, in turn, so that drift of the machine hits all alike."""


@dataclass(frozen=True)
class Timing:
    """Microseconds of repeated runs."""

    median: float
    spread: float
    """Interquartile range."""
    n: int

    @classmethod
    def of(cls, microseconds: Sequence[float]) -> Timing:
        low, median, high = np.percentile(microseconds, (25, 50, 75))
        return cls(float(median), float(high - low), len(microseconds))


def clock_us(call: Callable[[], object], device: torch.device) -> float:
    """Microseconds of one call, the device's queue drained before and after."""
    _drain(device)
    start = time.perf_counter_ns()
    call()
    _drain(device)
    return (time.perf_counter_ns() - start) / 1e3


def time_decode_attention(
    backend: Backend, layers: Sequence[LayerSnapshot], candidates: Sequence[Sequence[CompressedKV]]
) -> tuple[Timing, list[Timing]]:
    """Time one layer's decode attention of one sequence, averaged over ``layers``.

    Args:
        backend: what runs it.
        layers: layers to time, full precision; the baseline runs over them in 16 bits.
        candidates: for every candidate, its compression of those layers.

    Returns:
        The baseline's timing and every candidate's.
    """
    device = layers[0].keys.device
    dtype = layers[0].keys.dtype if device.type == "cuda" else torch.bfloat16
    runs: list[list[Callable[[], object]]] = []
    for position, layer in enumerate(layers):
        query, keys, values = (tensor.to(dtype) for tensor in (layer.query, layer.keys, layer.values))
        scaling = layer.context.scaling
        contenders: list[Callable[[], object]] = [_bind(backend.attention_16bit, query, keys, values, scaling)]
        contenders += [
            _bind(backend.decode_attention, query, (candidate[position].operands(),), scaling)
            for candidate in candidates
        ]
        runs.append(contenders)
    # One untimed round warms allocators and caches alike for everyone.
    times = [[[clock_us(call, device) for call in contenders] for contenders in runs] for _ in range(ROUNDS + 1)][1:]
    per_layer = np.asarray(times).mean(axis=1)
    timings = [Timing.of(column) for column in per_layer.T]
    return timings[0], timings[1:]


def _bind(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: function(*arguments)


def _drain(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
