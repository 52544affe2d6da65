"""One side of a layer, keys or values, in its compressed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from autokv.compression.low_rank import latent_basis, low_rank_factors
from autokv.compression.quantization import SideName, quantize, rotates
from autokv.compression.storage import held
from autokv.config import LatentLowRank, NoStage, Pipeline, ResidualLowRank
from autokv.kernels import Backend, Rows, Side
from autokv.kernels.hadamard import rotate
from autokv.kernels.quantize_pack import dequantize


@dataclass(frozen=True)
class Learned:
    """What was found from other tokens of the same rows; None where it is to be found from the tokens themselves."""

    basis: Tensor | None = None
    """See :attr:`autokv.kernels.Side.basis`."""
    right: Tensor | None = None
    """See :attr:`autokv.kernels.Side.right`."""
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
    """Encode ``tokens`` ``[rows, older.longest, head_dim]``, and hold ``window`` ``[rows, newest, head_dim]``."""
    quantization, low_rank, rank = pipeline.quantization, pipeline.low_rank, rank_of(pipeline, name)
    window, basis, left, right = held(window, storage_dtype), None, None, None
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
        error, right = coordinates - dequantize(packed, older), learned.right
        if right is None:
            factor, right = low_rank_factors(error, older, rank)
        else:
            factor = error @ right.float()
        left = older.to_flat(held(factor, storage_dtype))
    return Side(packed, window, rotated, basis, left, right)
