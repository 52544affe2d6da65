"""One side of a layer, keys or values, in its compressed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autokv.compression.low_rank import latent_basis, low_rank_residual
from autokv.compression.quantization import SideName, held, quantize, rotates
from autokv.config import LatentLowRank, NoStage, Pipeline, ResidualLowRank
from autokv.kernels import Backend, LowRankResidual, Rows, Side
from autokv.kernels.hadamard import rotate
from autokv.kernels.quantize_pack import dequantize


@dataclass(frozen=True)
class Learned:
    """What was found from other tokens of the same rows; None where it is to be found from the tokens themselves."""

    basis: Tensor | None = None
    """See :attr:`autokv.kernels.Side.basis`."""
    low_rank_right: Tensor | None = None
    """See :attr:`autokv.kernels.LowRankResidual.right`."""
    scale: Tensor | None = None
    """fp8's, float32 ``[rows]``."""


def rank_of(pipeline: Pipeline, name: SideName) -> int:
    """Rank of one side's low-rank stage; 0 without one."""
    low_rank = pipeline.low_rank
    if isinstance(low_rank, NoStage):
        return 0
    return low_rank.key_rank if name == "key" else low_rank.value_rank


def encode(
    tokens: Tensor,
    window: Tensor,
    older: Rows,
    pipeline: Pipeline,
    name: SideName,
    storage_dtype: torch.dtype,
    kernels: Backend,
    learned: Learned = Learned(),
) -> Side:
    """Encode ``tokens`` ``[rows, older.longest, head_dim]``; hold the residual ``window`` ``[rows, n, head_dim]``."""
    quantization, low_rank, rank = pipeline.quantization, pipeline.low_rank, rank_of(pipeline, name)
    basis, residual = None, None
    rotated = rotates(quantization)
    if isinstance(low_rank, LatentLowRank) and rank:
        basis = learned.basis
        if basis is None:
            directions = latent_basis(tokens.float(), older, rank)
            # Rotating the coordinates is the same as rotating the basis, which then costs nothing to undo.
            basis = (rotate(directions) if rotated else directions).half().contiguous()
        rotated = False
        tokens = tokens.float() @ basis.float()
    packed = quantize(tokens, older, quantization, name, storage_dtype, kernels, rotated=rotated, scale=learned.scale)
    if isinstance(low_rank, ResidualLowRank) and rank:
        coordinates = rotate(tokens.float()) if rotated else tokens.float()
        error, right = coordinates - dequantize(packed, older), learned.low_rank_right
        if right is None:
            left, right = low_rank_residual(error, older, rank)
        else:
            left = error @ right.float()
        residual = LowRankResidual(older.to_flat(held(left, storage_dtype)), right)
    return Side(packed, held(window, storage_dtype), rotated, basis, residual)
