"""Steps that several formats share, on float32 tensors whose last dimension is ``head_dim``."""

from __future__ import annotations

import math
from collections.abc import Callable
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


def hadamard(x: Tensor, size: int) -> Tensor:
    """Rotate blocks of ``size`` channels by Sylvester's orthonormal matrix, which is its own inverse.

    Sums and differences of pairs (the fast Walsh–Hadamard transform): a token's result does not depend on which
    others come with it, as it does in a matrix product.
    """
    import torch

    rotated, half_size = x, 1
    while half_size < size:
        pairs = rotated.reshape(*x.shape[:-1], -1, 2, half_size)
        left, right = pairs[..., 0, :], pairs[..., 1, :]
        rotated = torch.stack([left + right, left - right], -2)
        half_size *= 2
    return rotated.reshape(x.shape) * (1 / math.sqrt(size))


def power_of_two_in(width: int) -> int:
    """The largest power of two that divides ``width``."""
    return width & -width
