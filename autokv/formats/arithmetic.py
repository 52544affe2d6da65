"""Steps that several formats share, on float32 tensors whose last dimension is ``head_dim``."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def blocks(x: Tensor, size: int) -> Tensor:
    """``[..., head_dim]`` as ``[..., head_dim / size, size]``."""
    return x.reshape(*x.shape[:-1], -1, size)


def over_groups_of_tokens(x: Tensor, size: int, each: Callable[[Tensor], Tensor]) -> Tensor:
    """``each`` of every ``[..., size, head_dim]`` of ``x`` ``[..., tokens, head_dim]``; the last may have fewer."""
    import torch

    return torch.cat([each(group) for group in torch.split(x, size, -2)], -2)


def half(x: Tensor) -> Tensor:
    """``x`` rounded to float16, in float32."""
    return x.half().float()


def reciprocal(x: Tensor) -> Tensor:
    """``1 / x``, and 0 where ``x`` is 0."""
    import torch

    return torch.where(x == 0, x, x.reciprocal())


def fused_multiply_add(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """``a·b + c`` rounded once, as one machine instruction does it; the product is exact in float64."""
    return (a.double() * b.double() + c.double()).float()


def round_half_away(x: Tensor) -> Tensor:
    """``x`` rounded to the nearest integer, ties away from zero (C's ``roundf``)."""
    import torch

    whole = x.trunc()
    return torch.where((x - whole).abs() >= 0.5, whole + x.sign(), whole)


@lru_cache(maxsize=16)
def _hadamard_matrix(size: int) -> Tensor:
    import torch

    matrix = torch.ones(1, 1)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix.mul_(size**-0.5)


def hadamard(x: Tensor, size: int) -> Tensor:
    """Rotate blocks of ``size`` channels by Sylvester's orthonormal matrix, which is its own inverse."""
    return blocks(x, size).matmul(_hadamard_matrix(size).to(x.device)).view(x.shape)


def power_of_two_in(width: int) -> int:
    """The largest power of two that divides ``width``."""
    return width & -width
