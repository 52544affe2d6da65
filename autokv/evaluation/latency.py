"""Timed runs of decode attention: candidates, PyTorch's fastest 16-bit attention and fp8, in turn."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from autokv.compression import CompressedKV
from autokv.evaluation.baselines import attentions_16bit, fastest_16bit, float8, has_float8
from autokv.evaluation.clock import ColdClock, Timing
from autokv.evaluation.memory import free_bytes
from autokv.evaluation.snapshot import LayerSnapshot
from autokv.kernels import Backend, Operands, select

MEMORY_SHARE = 0.25
"""Of the memory that is free, for the batches that are timed."""


@dataclass(frozen=True)
class AttentionTimes:
    """One layer's decode attention over ``batch`` sequences of the same context.

    ``float8`` and ``candidates`` are ratios to the baseline's run of the same round, times :attr:`baseline_us`.
    """

    batch: int
    baseline: Timing
    """PyTorch's fastest 16-bit attention over the whole context, as it was timed."""
    baseline_us: float
    """Its time: as it was timed now, or the first time."""
    float8: Timing | None
    """AutoKV's attention over the whole context in fp8; None where the device has no fp8."""
    candidates: tuple[Timing, ...]


class AttentionTimer:
    """Times decode attention on one device.

    Args:
        kernels: what runs it.
        device: where.
        fp8: time attention over an fp8 cache as well; None does so where the device has fp8.
    """

    def __init__(self, kernels: Backend, device: torch.device, *, fp8: bool | None = None) -> None:
        self._kernels = kernels
        self._device = device
        self._fp8 = has_float8(device) if fp8 is None else fp8
        self._clock = ColdClock(device)
        self._attentions_16bit = attentions_16bit(kernels, device)

    def time(
        self,
        layers: Sequence[LayerSnapshot],
        candidates: Sequence[Sequence[CompressedKV]],
        batch: int,
        baseline_us: MutableMapping[int, float] | None = None,
    ) -> AttentionTimes:
        """Time one layer's decode attention, averaged over ``layers``, which are run one behind the other.

        Args:
            layers: layers to time, full precision, of one sequence; a batch is that sequence many times over, each in
                memory of its own.
            candidates: for every candidate, its compression of those layers; no compression is timed by AutoKV's own
                attention.
            batch: sequences to attend over at once; fewer if memory holds no more.
            baseline_us: by batch, what the baseline took when it was first timed over these layers; the other times
                are given as if it took that now. What is timed for the first time is added.
        """
        batch = min(batch, _affordable(layers, len(candidates) + 2, self._device))
        passes = [self._baseline(layers, batch)]
        if self._fp8:
            passes.append(self._pass(layers, [float8(layer) for layer in layers], batch))
        passes += [self._pass(layers, [one.held for one in compressed], batch) for compressed in candidates]
        microseconds = self._clock.interleaved(passes)
        baseline, *others = ([time / len(layers) for time in times] for times in microseconds)
        timed = Timing.of(baseline)
        usual = ({} if baseline_us is None else baseline_us).setdefault(batch, timed.median)
        timings = [Timing.beside(times, baseline, usual) for times in others]
        first = len(timings) - len(candidates)
        return AttentionTimes(batch, timed, usual, timings[0] if self._fp8 else None, tuple(timings[first:]))

    def _baseline(self, layers: Sequence[LayerSnapshot], batch: int) -> Callable[[], None]:
        operands = []
        for layer in layers:
            keys, values = (
                tensor.to(self._dtype(tensor)).repeat(batch, 1, 1, 1) for tensor in (layer.keys, layer.values)
            )
            operands.append((self._query(layer, batch), keys, values, layer.context.scaling))
        name = fastest_16bit(self._attentions_16bit, self._clock, *operands[0])
        attend = self._attentions_16bit[name]
        return _in_turn([partial(attend, *arguments) for arguments in operands])

    def _pass(self, layers: Sequence[LayerSnapshot], held: Sequence[Operands], batch: int) -> Callable[[], None]:
        calls = []
        for layer, operands in zip(layers, held, strict=True):
            repeated = operands
            if batch > 1:
                repeated = select(operands, torch.zeros(batch, dtype=torch.int64, device=self._device))
            calls.append(
                partial(
                    self._kernels.decode_attention,
                    self._query(layer, batch),
                    (repeated,),
                    layer.context.scaling,
                    softcap=layer.context.softcap,
                )
            )
        return _in_turn(calls)

    def _query(self, layer: LayerSnapshot, batch: int) -> Tensor:
        return layer.query.to(self._dtype(layer.query)).repeat(batch, 1, 1)

    def _dtype(self, tensor: Tensor) -> torch.dtype:
        """A GPU runs the model's own 16 bits; CPUs emulate float16."""
        usable = self._device.type == "cuda" and tensor.dtype == torch.float16
        return tensor.dtype if usable else torch.bfloat16


def _in_turn(calls: Sequence[Callable[[], object]]) -> Callable[[], None]:
    def run() -> None:
        for call in calls:
            call()

    return run


def _affordable(layers: Sequence[LayerSnapshot], contenders: int, device: torch.device) -> int:
    """The largest batch, at least 1, whose ``contenders`` fit into a share of the free memory."""
    one = 2 * contenders * sum(layer.keys.numel() + layer.values.numel() for layer in layers)
    return max(1, int(free_bytes(device) * MEMORY_SHARE) // one)
