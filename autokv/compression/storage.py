"""What is held in 16 bits."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.kernels.quantize_pack import HALF_MAX


def held(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of ``tensor`` in 16 bits that owns exactly its memory; what float16 cannot hold saturates."""
    if dtype == torch.float16 and tensor.dtype != torch.float16:
        tensor = tensor.clamp(-HALF_MAX, HALF_MAX)
    return tensor.to(dtype, memory_format=torch.contiguous_format, copy=True)
