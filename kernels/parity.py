"""A kernel held against float64 on the same operands: the kernel table, benchmarks and tests ask here first."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autokv.kernels.backend import Backend
from autokv.kernels.batch import select
from autokv.kernels.decode_attention import Attention
from autokv.kernels.operands import Operands, Side
from autokv.kernels.reconstruct import reconstruct

LIMIT_16BIT = 5e-3
"""Largest RMS ratio where queries, or what is held, have 16 bits."""
LIMIT_FLOAT32 = 1e-3
"""Largest RMS ratio with float32 queries."""


@dataclass(frozen=True)
class Call:
    """The arguments of one decode attention."""

    query: Tensor
    parts: tuple[Operands, ...]
    scaling: float
    softcap: float | None = None
    sliding_window: int | None = None

    def run(self, backend: Backend) -> Attention:
        return backend.decode_attention(
            self.query, self.parts, self.scaling, softcap=self.softcap, sliding_window=self.sliding_window
        )


def attention_error_at_size(call: Call, backend: Backend) -> float:
    """RMS ratio of ``backend``'s output to float64 attention, or the error of its log-sum-exp if that is larger.

    For a call of any size: the float64 attention is vectorised, one row at a time.
    """
    outputs, lses = [], []
    for row in range(call.parts[0].older.count):
        keys, values = (torch.cat([_row(part, side, row) for part in call.parts]) for side in ("keys", "values"))
        query = call.query.view(call.parts[0].older.count, -1, call.query.shape[-1])[row].double()
        scores = query @ keys.T * call.scaling
        lses.append(scores.logsumexp(dim=-1))
        outputs.append(scores.softmax(dim=-1) @ values)
    shape = call.query.shape
    return difference(call.run(backend), Attention(torch.stack(outputs).view(shape), torch.stack(lses).view(shape[:2])))


def difference(found: Attention, expected: Attention) -> float:
    """RMS ratio of the outputs, or the largest error of the log-sum-exp if that is larger."""
    lse, wanted = found.lse.double().cpu(), expected.lse.double().cpu()
    empty = wanted.isinf()
    if not torch.equal(lse.isinf(), empty):
        return float("inf")
    apart = (lse - wanted)[~empty].abs().max().item() if (~empty).any() else 0.0
    # An error of the log-sum-exp is a relative error of whatever it merges with.
    return max(rms_ratio(found.output, expected.output), apart)


def rms_ratio(found: Tensor, expected: Tensor) -> float:
    """RMS of the difference over the RMS of ``expected``; infinite for NaN."""
    found, expected = found.double().cpu(), expected.double().cpu()
    error = (found - expected).norm() / expected.norm().clamp_min(torch.finfo(torch.float64).tiny)
    return float("inf") if error.isnan() else error.item()


def _row(part: Operands, name: str, row: int) -> Tensor:
    """Float64 ``[tokens, head_dim]``: every token of one row of the side ``name``."""
    device = part.keys.residual_window.device
    one = select(replace(part, batch=part.older.count, kv_heads=1), torch.tensor([row], device=device))
    side: Side = getattr(one, name)
    return torch.cat([reconstruct(side, one.older)[0], side.residual_window[0].float()]).double()
