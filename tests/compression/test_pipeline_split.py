"""Kept tokens divided into older ones and window; the bitmap that remembers which they were."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.compression.kept import KeptTokens, decode_kept, encode_kept, split_tokens
from autokv.kernels import backend


@st.composite
def kept_masks(draw: st.DrawFn) -> torch.Tensor:
    """bool ``[1, rows, tokens]``, at least one token a row."""
    tokens, rows = draw(st.integers(1, 21)), draw(st.integers(1, 4))
    chosen = [draw(st.sets(st.integers(0, tokens - 1), min_size=1)) for _ in range(rows)]
    return torch.tensor([[[token in row for token in range(tokens)] for row in chosen]])


@given(mask=kept_masks(), residual=st.integers(0, 8))
@settings(max_examples=100, deadline=None)
def test_split_is_what_slicing_each_row_gives(mask: torch.Tensor, residual: int) -> None:
    _, rows, tokens = mask.shape
    data = torch.randn(rows, tokens, 3)
    split = split_tokens(KeptTokens.from_mask(mask), rows, tokens, residual)
    older, window = split(data, backend("cpu"))
    newest = min(residual, int(mask.sum(-1).min()))
    assert window.shape == (rows, newest, 3)
    assert older.shape[1] == split.older.longest
    for row in range(rows):
        own = data[row, mask[0, row]]
        length = len(own) - newest
        assert split.older.lengths[row] == length
        assert torch.equal(older[row, :length], own[:length])
        assert torch.equal(window[row], own[length:])
        if length:
            assert (older[row, length:] == own[length - 1]).all()


@given(mask=kept_masks())
@settings(max_examples=60, deadline=None)
def test_bitmap_gives_the_positions_back(mask: torch.Tensor) -> None:
    bitmap = encode_kept(KeptTokens.from_mask(mask), mask.shape[-1])
    assert bitmap.dtype == torch.uint8
    assert bitmap.shape == (mask.shape[1], -(-mask.shape[2] // 8))
    for row, kept in enumerate(mask[0]):
        assert decode_kept(bitmap[row]).tolist() == kept.nonzero().flatten().tolist()


def test_without_eviction_nothing_is_gathered() -> None:
    data = torch.randn(2, 10, 3)
    older, window = split_tokens(None, 2, 10, 4)(data, backend("cpu"))
    assert torch.equal(torch.cat([older, window], dim=1), data)
    assert window.shape[1] == 4
    assert split_tokens(None, 2, 3, 4)(data[:, :3], backend("cpu"))[1].shape[1] == 3
