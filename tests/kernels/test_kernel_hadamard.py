"""The rotation is orthonormal and its own inverse for every width."""

from __future__ import annotations

import math

import pytest
import torch

from autokv.kernels.hadamard import rotate


@pytest.mark.parametrize("width", [1, 7, 16, 48, 64, 80, 96, 128])
def test_orthonormal_and_its_own_inverse(width: int) -> None:
    matrix = rotate(torch.eye(width, dtype=torch.float64))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(width, dtype=torch.float64))
    torch.testing.assert_close(rotate(matrix), torch.eye(width, dtype=torch.float64))
    block = width & -width
    assert matrix.abs().max() == pytest.approx(1 / math.sqrt(block))
    assert torch.count_nonzero(matrix) == width * block


def test_scores_do_not_change_and_outliers_spread() -> None:
    torch.manual_seed(0)
    keys, query = torch.randn(2, 9, 64), torch.randn(2, 3, 64)
    keys[..., 5] += 50
    torch.testing.assert_close(rotate(query) @ rotate(keys).mT, query @ keys.mT, rtol=1e-4, atol=1e-3)
    assert rotate(keys).abs().max() < keys.abs().max() / 4


def test_views_and_empty_tensors() -> None:
    x = torch.randn(2, 9, 12)
    torch.testing.assert_close(rotate(x[:, 3:]), rotate(x)[:, 3:])
    assert rotate(x[:, :0]).shape == (2, 0, 12)
