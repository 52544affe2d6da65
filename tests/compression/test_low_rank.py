"""Low rank: near what a full SVD finds, exact at full rank, each row for itself."""

from __future__ import annotations

import pytest
import torch

from autokv.compression.low_rank import latent_basis, low_rank_residual
from autokv.kernels import Rows


def decaying(rows: int, tokens: int, width: int, seed: int = 0) -> torch.Tensor:
    """Singular values that fall by a constant factor."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(rows, tokens, width, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(rows, width, width, generator=generator)).Q
    found: torch.Tensor = left * 10 * 0.7 ** torch.arange(width) @ right
    return found


def optimal(x: torch.Tensor, rank: int) -> torch.Tensor:
    found: torch.Tensor = torch.linalg.svdvals(x.double())[:, rank:].norm(dim=1)
    return found


@pytest.mark.parametrize("rank", [1, 3, 8, 16])
def test_residual_is_near_the_best_rank(rank: int) -> None:
    error = decaying(2, 50, 16)
    left, right = low_rank_residual(error, Rows(2, 50), rank)
    assert right.dtype == torch.float16
    remaining = (error - left @ right.float().mT).norm(dim=(1, 2))
    assert (remaining <= optimal(error, rank) * 1.05 + 1e-3 * error.norm(dim=(1, 2))).all()


@pytest.mark.parametrize("rank", [1, 5, 16])
def test_latent_is_the_best_rank(rank: int) -> None:
    x = decaying(2, 50, 16)
    basis = latent_basis(x, Rows(2, 50), rank)
    torch.testing.assert_close(basis.mT @ basis, torch.eye(rank).expand(2, -1, -1), rtol=1e-4, atol=1e-4)
    remaining = (x - x @ basis @ basis.mT).norm(dim=(1, 2))
    assert (remaining <= optimal(x, rank) * 1.001 + 1e-5 * x.norm(dim=(1, 2))).all()
    coordinates = (x @ basis).norm(dim=1)
    assert (coordinates[:, :-1] >= coordinates[:, 1:] * 0.999).all()


def test_rank_above_the_tokens_and_no_tokens() -> None:
    x = decaying(2, 16, 16)[:, :3]
    basis = latent_basis(x, Rows(2, 3), 8)
    torch.testing.assert_close(x @ basis @ basis.mT, x, rtol=1e-4, atol=1e-4)
    left, right = low_rank_residual(x[:, :0], Rows(2, 0), 4)
    assert left.shape == (2, 0, 4)
    assert right.isfinite().all()
    assert latent_basis(x[:, :0], Rows(2, 0), 4).isfinite().all()


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e15])
def test_any_magnitude_stays_finite(scale: float) -> None:
    x = decaying(1, 20, 16) * scale
    left, right = low_rank_residual(x, Rows(1, 20), 16)
    torch.testing.assert_close(left @ right.float().mT, x, rtol=1e-2, atol=float(x.abs().max()) * 2e-3)
    basis = latent_basis(x, Rows(1, 20), 16)
    torch.testing.assert_close(x @ basis @ basis.mT, x, rtol=1e-2, atol=float(x.abs().max()) * 1e-4)


def test_a_ragged_row_depends_on_its_own_tokens_only() -> None:
    lengths = [6, 30]
    flat = torch.cat([decaying(1, 16, 16, 1)[0, :6], decaying(1, 30, 16, 2)[0]])
    rows = Rows.of_lengths(torch.tensor(lengths))
    dense = rows.to_dense(flat)
    left, right = low_rank_residual(dense, rows, 3)
    basis = latent_basis(dense, rows, 3)
    for row, part in enumerate(flat.split(lengths)):
        alone, alone_right = low_rank_residual(part[None], Rows(1, len(part)), 3)
        torch.testing.assert_close(
            left[row, : len(part)] @ right[row].float().mT, alone[0] @ alone_right[0].float().mT, rtol=1e-2, atol=1e-2
        )
        alone_basis = latent_basis(part[None], Rows(1, len(part)), 3)[0]
        torch.testing.assert_close(basis[row] @ basis[row].T, alone_basis @ alone_basis.T, rtol=1e-3, atol=1e-3)


def test_the_same_input_gives_the_same_factors() -> None:
    error = decaying(1, 30, 16)
    first, second = (low_rank_residual(error.clone(), Rows(1, 30), 4) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
