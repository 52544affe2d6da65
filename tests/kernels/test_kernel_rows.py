"""Ragged rows: flat and dense forms say the same."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.kernels import Rows

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=5)


@given(lengths=LENGTHS)
@settings(max_examples=80, deadline=None)
def test_flat_and_dense_agree(lengths: list[int]) -> None:
    rows = Rows.of_lengths(torch.tensor(lengths))
    flat = torch.arange(sum(lengths) * 2).view(-1, 2)
    dense = rows.to_dense(flat)
    assert dense.shape == (len(lengths), max(lengths), 2)
    start = 0
    for row, length in enumerate(lengths):
        assert torch.equal(dense[row, :length], flat[start : start + length])
        if length:
            assert (dense[row, length:] == flat[start + length - 1]).all()
        start += length
    assert torch.equal(rows.to_flat(dense), flat)
    assert rows.lengths.tolist() == lengths


@given(lengths=LENGTHS, size=st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_groups_cover_the_rows(lengths: list[int], size: int) -> None:
    groups = Rows.of_lengths(torch.tensor(lengths)).groups(size)
    assert groups.lengths.tolist() == [-(-length // size) for length in lengths]
    assert groups.longest == -(-max(lengths) // size)


@given(lengths=LENGTHS)
@settings(max_examples=40, deadline=None)
def test_offsets_are_held_only_if_rows_differ(lengths: list[int]) -> None:
    rows = Rows.of_lengths(torch.tensor(lengths))
    assert (rows.offsets is None) == (len(set(lengths)) == 1)
    inside = rows.inside()
    assert (inside is None) == (rows.offsets is None)
    if inside is not None:
        assert inside.sum(1).tolist() == lengths
