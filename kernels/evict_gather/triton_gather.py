"""Compaction in Triton."""

from __future__ import annotations

import torch
from torch import Tensor

from autokv.kernels.autotune import Launch, bucket, choose
from autokv.kernels.evict_gather.triton_kernels import gather_tokens

# 16 bytes a thread at 16-bit widths of 64 and 128.
_LAUNCHES = (Launch.of(warps=4, PLACES=16), Launch.of(warps=8, PLACES=64), Launch.of(warps=2, PLACES=8))


def evict_gather(tokens: Tensor, index: Tensor) -> Tensor:
    """See :attr:`autokv.kernels.backend.Backend.evict_gather`."""
    rows, count = index.shape
    width = tokens.shape[2]
    if tokens.stride(2) != 1:
        tokens = tokens.contiguous()
    gathered = torch.empty(rows, count, width, dtype=tokens.dtype, device=tokens.device)
    if gathered.numel():
        key = (str(tokens.dtype).removeprefix("torch."), width, bucket(rows), bucket(count))
        launch = choose("gather_tokens", key, _LAUNCHES, tokens.device)
        gather_tokens[-(-count // launch["PLACES"]), rows](
            tokens,
            tokens.stride(0),
            tokens.stride(1),
            index.contiguous(),
            count,
            gathered,
            WIDTH=width,
            COLUMNS=bucket(width),
            **launch.arguments(),
        )
    return gathered
