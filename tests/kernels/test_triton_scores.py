"""Window scores and compaction in Triton against float64 and one-token copies."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from autokv.kernels.backend import REFERENCE
from autokv.kernels.evict_gather.triton_kernels import evict_gather
from autokv.kernels.window_scores import triton_kernels
from autokv.kernels.window_scores.triton_kernels import window_scores

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def error(query: torch.Tensor, keys: torch.Tensor, softcap: float | None = None) -> float:
    """RMS ratio to float64."""
    found = window_scores(query.to(DEVICE), keys.to(DEVICE), 0.2, softcap=softcap).cpu()
    expected = REFERENCE.window_scores(query, keys, 0.2, softcap=softcap)
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("window", "tokens"), [(1, 1), (1, 70), (5, 130), (130, 130)])
def test_scores(window: int, tokens: int, dtype: torch.dtype) -> None:
    torch.manual_seed(tokens)
    query, keys = torch.randn(2, 6, window, 24).to(dtype), torch.randn(2, 2, tokens, 24).to(dtype)
    assert error(query, keys) < 1e-5
    assert error(query, keys, softcap=3.0) < 1e-5


def test_what_is_received_is_what_the_queries_gave() -> None:
    query, keys = torch.randn(1, 6, 40, 32), torch.randn(1, 2, 90, 32)
    received = window_scores(query.to(DEVICE), keys.to(DEVICE), 0.2).cpu()
    assert torch.allclose(received.sum(dim=-1), torch.full((1, 2), 40.0), atol=1e-3)


def test_tokens_are_split_where_queries_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_kernels, "MIN_CHUNK", 64)
    query, keys = torch.randn(1, 2, 3, 16), torch.randn(1, 1, 333, 16)
    assert error(query * 4, keys) < 1e-5


@pytest.mark.filterwarnings("ignore:overflow")  # which the soft cap's formula allows
def test_large_scores_and_capped_infinities() -> None:
    query, keys = torch.randn(1, 2, 9, 16) * 300, torch.randn(1, 1, 70, 16) * 30
    assert error(query, keys) < 1e-4
    assert error(query, keys, softcap=5.0) < 1e-5


def test_scores_of_views_and_of_mixed_types() -> None:
    query, keys = torch.randn(2, 5, 4, 32).transpose(1, 2), torch.randn(2, 70, 2, 32).transpose(1, 2)
    assert error(query, keys) < 1e-5
    assert error(query, keys.half()) < 1e-5


@pytest.mark.parametrize("width", [7, 64, 80])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gather(width: int, dtype: torch.dtype) -> None:
    buffer = torch.randn(3, 60, width).to(dtype)
    tokens, index = buffer[:, 5:], torch.randint(55, (3, 37))
    found = evict_gather(tokens.to(DEVICE), index.to(DEVICE)).cpu()
    assert torch.equal(found, REFERENCE.evict_gather(tokens, index))


def test_gather_of_nothing() -> None:
    found = evict_gather(torch.randn(3, 6, 8, device=DEVICE), torch.empty(3, 0, dtype=torch.int64, device=DEVICE))
    assert found.shape == (3, 0, 8)
