"""The Gram matrix of a row: all that a row's singular directions depend on, head_dim wide however long the row is."""

from __future__ import annotations

from torch import Tensor

from autokv.kernels import Rows


def gram(tokens: Tensor, older: Rows) -> Tensor:
    """``Xᵀ X`` of every row, scaled so that its largest diagonal entry is 1 (0 for a row of zeros).

    ``tokens``: float32 ``[rows, longest, width]``; places beyond a row's end count as zeros. Returns
    ``[rows, width, width]``.
    """
    inside = older.inside()
    if inside is not None:
        tokens = tokens * inside[:, :, None]
    product = tokens.mT @ tokens
    largest = product.diagonal(dim1=1, dim2=2).amax(dim=1)
    return product.div_(largest.masked_fill_(largest == 0, 1)[:, None, None])
