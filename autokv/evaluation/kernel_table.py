"""The kernel table: decode attention over every form of a cache, in microseconds and in shares of the bandwidth.

Nothing gets a figure that is not right: each contender is held against float64 on the very operands that are timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autokv.compression import LayerContext, compress
from autokv.errors import AutoKVError
from autokv.evaluation.baselines import attentions_16bit, fastest_16bit, has_float8
from autokv.evaluation.clock import ColdClock
from autokv.evaluation.kernel_shapes import FORMATS, SHAPES
from autokv.evaluation.memory import free_bytes
from autokv.kernels import Attention, Backend, Operands, held_tensors, select
from autokv.kernels.parity import LIMIT_16BIT, Call, attention_error_at_size

BASELINE = "pytorch 16-bit"
FLOAT8 = "fp8"
MEMORY_SHARE = 0.6
"""Of the memory that is free, for what is timed in turn."""
TOO_LARGE = "does not fit into memory beside its baselines"


@dataclass(frozen=True)
class Point:
    """Where a row is measured: one layer of the model ``shape``, ``batch`` sequences of ``context`` tokens."""

    shape: str
    batch: int
    context: int


@dataclass(frozen=True)
class KernelFigures:
    """One row; what could not be measured is None, and ``reason`` says why."""

    point: Point
    format: str
    kernel: str
    """The backend, or for the baseline the PyTorch attention that was fastest."""
    nbytes: int
    """Bytes that the cache holds, all sequences together."""
    error: float | None = None
    """RMS ratio to float64 on the same operands; None for the baseline."""
    us: Mapping[str, float] | None = None
    """``p5``, ``p50`` and ``p95`` of ``n`` timed runs, cold cache."""
    gb_per_s: float | None = None
    """10⁹ bytes of the cache per second, at the median."""
    copy_share: float | None = None
    """``gb_per_s`` over the bandwidth of a copy on this device."""
    faster_than_16bit: float | None = None
    """Median of the 16-bit baseline over this one's."""
    faster_than_fp8: float | None = None
    """Median over the whole cache in fp8 over this one's."""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Flat, ready for JSON."""
        document = asdict(self)
        return {**document.pop("point"), **document}


@dataclass(frozen=True)
class _Contender:
    format: str
    kernel: str
    nbytes: int
    error: float | None
    build: Callable[[], Callable[[], object]]
    """Makes the batch, and what runs over it."""


class KernelTable:
    """Measures rows on one device.

    Args:
        kernels: what runs the compressed forms.
        device: where.
        copy_gb_per_s: measured bandwidth of a copy, read and write counted; decode attention only reads.
        rounds: timed rounds; each times every contender once, in turn.
    """

    def __init__(self, kernels: Backend, device: torch.device, copy_gb_per_s: float, rounds: int = 15) -> None:
        self._kernels = kernels
        self._device = device
        self._copy = copy_gb_per_s
        self._rounds = rounds
        self._clock = ColdClock(device)

    @torch.inference_mode()
    def measure(self, point: Point, formats: Iterable[str]) -> list[KernelFigures]:
        """The 16-bit baseline's row, then one per format; where the device computes in fp8, that is always among them.

        ``formats`` are names of :data:`autokv.evaluation.kernel_shapes.FORMATS`.
        """
        wanted = list(dict.fromkeys([*([FLOAT8] if has_float8(self._device) else []), *formats]))
        tokens = _Tokens.of(point, self._device)
        baseline = self._baseline(tokens)
        checked = [self._contender(tokens, name) for name in wanted]
        right = [one for one in checked if isinstance(one, _Contender)]
        rows = {one.format: one for one in checked if isinstance(one, KernelFigures)}
        for group in self._groups(baseline, right):
            with suppress(torch.OutOfMemoryError):
                rows |= {row.format: row for row in self._time(point, group)}
        for one in (baseline, *right):
            if one.format not in rows:
                rows[one.format] = _without_figures(point, one, TOO_LARGE)
        return [rows[name] for name in (BASELINE, *wanted)]

    def _baseline(self, tokens: _Tokens) -> _Contender:
        attentions = attentions_16bit(self._kernels, self._device)
        nbytes = tokens.batch * (tokens.keys.nbytes + tokens.values.nbytes)

        def arguments(batch: int) -> tuple[Tensor, Tensor, Tensor, float]:
            keys, values = (tensor.repeat(batch, 1, 1, 1) for tensor in (tokens.keys, tokens.values))
            return tokens.query.repeat(batch, 1, 1), keys, values, tokens.scaling

        tried = arguments(tokens.batch if nbytes <= self._room() else 1)
        name = fastest_16bit(attentions, self._clock, *tried)
        return _Contender(BASELINE, name, nbytes, None, lambda: partial(attentions[name], *arguments(tokens.batch)))

    def _contender(self, tokens: _Tokens, name: str) -> _Contender | KernelFigures:
        """The form ``name``, if the backend is right over it, else the row that says that it is not."""
        context = LayerContext(0, 1, tokens.scaling, kernels=self._kernels)
        try:
            operands = compress(tokens.keys, tokens.values, context, FORMATS[name]).held
            nbytes = tokens.batch * sum(tensor.nbytes for tensor in held_tensors(operands))
            if nbytes > self._room():
                return KernelFigures(tokens.point, name, self._kernels.name, nbytes, reason=TOO_LARGE)
            error = self._error(tokens, operands)
        except (AutoKVError, RuntimeError) as failure:
            reason = str(failure).splitlines()[0] if str(failure) else type(failure).__name__
            return KernelFigures(tokens.point, name, self._kernels.name, 0, reason=reason)
        found = _Contender(name, self._kernels.name, nbytes, error, partial(self._build, tokens, operands))
        if error > LIMIT_16BIT:
            return _without_figures(tokens.point, found, f"wrong: off by {error:.2g} of float64")
        return found

    def _error(self, tokens: _Tokens, operands: Operands) -> float:
        """RMS ratio of one sequence to float64, or of a whole batch to that sequence if that is larger."""
        error = attention_error_at_size(Call(tokens.query, (operands,), tokens.scaling), self._kernels)
        if tokens.batch == 1:
            return error
        alone = self._kernels.decode_attention(tokens.query, (operands,), tokens.scaling).output.double()
        apart = self._build(tokens, operands)().output.double() - alone
        apart = (apart.square().mean(dim=(1, 2)).amax() / alone.square().mean()).sqrt()
        return float("inf") if apart.isnan() else max(error, apart.item())

    def _build(self, tokens: _Tokens, operands: Operands) -> Callable[[], Attention]:
        everyone = torch.zeros(tokens.batch, dtype=torch.int64, device=self._device)
        held = select(operands, everyone) if tokens.batch > 1 else operands
        return partial(self._kernels.decode_attention, tokens.queries, (held,), tokens.scaling)

    def _groups(self, baseline: _Contender, contenders: Sequence[_Contender]) -> Iterable[list[_Contender]]:
        """As many contenders together as memory holds; every group has the baselines."""
        always = [baseline, *(one for one in contenders if one.format == FLOAT8)]
        room = self._room() - sum(one.nbytes for one in always)
        if room < 0:
            return
        waiting = [one for one in contenders if one.format != FLOAT8 and one.nbytes <= room]
        while True:
            group, held = list(always), 0
            while waiting and held + waiting[0].nbytes <= room:
                held += waiting[0].nbytes
                group.append(waiting.pop(0))
            yield group
            if not waiting:
                return

    def _room(self) -> float:
        """Bytes that may be held at once."""
        return free_bytes(self._device) * MEMORY_SHARE

    def _time(self, point: Point, group: Sequence[_Contender]) -> Iterable[KernelFigures]:
        microseconds = self._clock.interleaved([one.build() for one in group], self._rounds)
        timed = {one.format: _percentiles(times) for one, times in zip(group, microseconds, strict=True)}
        for one in group:
            median = timed[one.format]["p50"]
            gb_per_s = one.nbytes / median / 1e3
            yield KernelFigures(
                point,
                one.format,
                one.kernel,
                one.nbytes,
                one.error,
                timed[one.format],
                gb_per_s,
                gb_per_s / self._copy,
                timed[BASELINE]["p50"] / median,
                timed[FLOAT8]["p50"] / median if FLOAT8 in timed else None,
            )


@dataclass(frozen=True)
class _Tokens:
    """One layer's 16-bit tokens of one sequence, random, and the newest query."""

    point: Point
    query: Tensor
    keys: Tensor
    values: Tensor

    @classmethod
    def of(cls, point: Point, device: torch.device) -> _Tokens:
        shape = SHAPES[point.shape]
        generator = torch.Generator(device).manual_seed(point.context)

        def made(*size: int) -> Tensor:
            return torch.randn(1, *size, generator=generator, device=device).bfloat16()

        held = (shape.kv_heads, point.context, shape.head_dim)
        return cls(point, made(shape.kv_heads * shape.group, shape.head_dim), made(*held), made(*held))

    @property
    def batch(self) -> int:
        return self.point.batch

    @property
    def queries(self) -> Tensor:
        """The query of every sequence of the batch."""
        return self.query.repeat(self.batch, 1, 1)

    @property
    def scaling(self) -> float:
        return float(self.query.shape[-1] ** -0.5)


def _without_figures(point: Point, contender: _Contender, reason: str) -> KernelFigures:
    return KernelFigures(point, contender.format, contender.kernel, contender.nbytes, contender.error, reason=reason)


def _percentiles(microseconds: Sequence[float]) -> dict[str, float]:
    low, middle, high = np.percentile(np.asarray(microseconds, dtype=np.float64), (5, 50, 95))
    return {"p5": float(low), "p50": float(middle), "p95": float(high), "n": len(microseconds)}
