"""AutoKV's own integers are what its kernels store, also in groups of a whole head."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from autokv.formats import MinMaxInteger
from autokv.formats.arithmetic import hadamard, power_of_two_in
from autokv.kernels import Rows
from autokv.kernels.hadamard import rotate
from autokv.kernels.quantize_pack import dequantize, quantize_integers


@given(
    bits=st.sampled_from([2, 3, 4, 8]),
    axis=st.sampled_from(["token", "channel"]),
    head_dim=st.sampled_from([16, 80, 96]),
    rotated=st.booleans(),
    tokens=st.integers(1, 40),
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-4, 1.0, 3e4]),
)
@settings(max_examples=60, deadline=None)
def test_it_reads_what_the_kernels_store(
    bits: Literal[2, 3, 4, 8],
    axis: Literal["token", "channel"],
    head_dim: int,
    rotated: bool,
    tokens: int,
    seed: int,
    scale: float,
) -> None:
    x = torch.randn(2, 3, tokens, head_dim, generator=torch.Generator().manual_seed(seed)) * scale
    size = head_dim if axis == "token" else 16
    rows = Rows(6, tokens)
    stored = hadamard(x, power_of_two_in(head_dim)) if rotated else x
    packed = quantize_integers(stored.reshape(6, tokens, head_dim), rows, bits=bits, axis=axis, group_size=size)
    form = MinMaxInteger(
        bits=bits,
        axis=axis,
        group_size=None if axis == "token" else 16,
        rotation="hadamard" if rotated else "none",
    )
    expected = dequantize(packed, rows).view(x.shape)
    if rotated:
        expected = hadamard(expected, power_of_two_in(head_dim))
    assert torch.allclose(form.round_trip(x), expected, rtol=0, atol=1e-5 * scale)
    tensors = (packed.codes, packed.scale, packed.minimum)
    assert 2 * form.nbytes(tokens, 3, head_dim) == sum(each.numel() * each.element_size() for each in tensors)


def test_the_basis_is_the_kernels() -> None:
    x = torch.randn(2, 3, 96, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(hadamard(x, 32), rotate(x), atol=1e-6)
    assert torch.allclose(hadamard(x, 32).norm(dim=-1), x.norm(dim=-1))
    assert torch.allclose(hadamard(hadamard(x, 32), 32), x, atol=1e-6)


def test_what_it_does_not_hold() -> None:
    with pytest.raises(ValidationError, match="of axis 'channel' it is a number of tokens"):
        MinMaxInteger(bits=4, axis="channel")
    with pytest.raises(ValueError, match="group_size 64 does not divide heads of 80 channels"):
        MinMaxInteger(bits=4, axis="token", group_size=64).check(80)
