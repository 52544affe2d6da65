"""vLLM's integers per token and head, against the same steps in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard as hadamard_of

from autokv.formats import Int4PerTokenHead, Int8PerTokenHead

# What vLLM's seed draws for 16 channels.
SIGNS = [1, -1, 1, 1, -1, -1, -1, -1, 1, -1, -1, 1, 1, -1, 1, -1]


def sample(seed: int, head_dim: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((1, 2, 4, head_dim)).astype(np.float32) ** 3
    x[0, 1, 2] = 0
    return x


@given(seed=st.integers(0, 9999), head_dim=st.sampled_from([16, 64, 80]))
@settings(max_examples=25, deadline=None)
def test_int8_rounds_half_away_from_zero(seed: int, head_dim: int) -> None:
    x = sample(seed, head_dim)
    scale = np.maximum(np.abs(x).max(-1, keepdims=True) / np.float32(127), np.float32(1e-6))
    scaled = x * (np.float32(1) / scale)
    codes = np.clip(np.trunc(scaled + np.where(scaled >= 0, np.float32(0.5), np.float32(-0.5))), -128, 127)
    read = Int8PerTokenHead().round_trip(torch.from_numpy(x)).numpy()
    # Adding ½ rounds once more; the largest number below ½ is the one value where that shows.
    assert np.mean(read != codes * scale) < 0.01
    assert np.abs(read - x).max() <= scale.max() * 0.501


@pytest.mark.parametrize("head_dim", [16, 48])
def test_int4_is_min_max_in_a_basis_with_the_seeds_signs(head_dim: int) -> None:
    x = sample(1, head_dim)
    basis = np.kron(np.eye(head_dim // 16), hadamard_of(16) * np.array(SIGNS))
    rotated = x.astype(np.float64) @ basis.T
    low, high = rotated.min(-1, keepdims=True), rotated.max(-1, keepdims=True)
    scale = np.maximum((high - low) / 15, 1e-6)
    zero = np.clip(np.floor(-low / scale + 0.5), 0, 15)
    codes = np.clip(np.floor(rotated / scale + zero + 0.5), 0, 15)
    expected = (codes - zero) * scale @ basis / 16
    read = Int4PerTokenHead().round_trip(torch.from_numpy(x)).numpy()
    # The zero point takes the lowest 4 of the scale's 24 bits.
    assert np.allclose(read, expected, rtol=0, atol=float(np.abs(x).max()) * 2e-5)


def test_the_scale_of_int4_gives_up_its_lowest_bits() -> None:
    # A head of one value has one coordinate in the Hadamard basis: code 15, zero point 0, scale 16·value/15.
    value = np.float32(0.7)
    x = torch.from_numpy(np.array(SIGNS, dtype=np.float32) * value).reshape(1, 1, 1, 16)
    scale = np.float32(value * 16) / np.float32(15)
    kept = (scale.view(np.int32) & -16).view(np.float32)
    read = Int4PerTokenHead().round_trip(x)[0, 0, 0].numpy() * np.array(SIGNS)
    assert np.allclose(read, kept * 15 / 16, rtol=1e-7)
    assert kept < scale


def test_bytes_have_a_float32_scale() -> None:
    assert Int8PerTokenHead().nbytes(10, 3, 64) == 10 * 3 * 68
    assert Int4PerTokenHead().nbytes(10, 3, 64) == 10 * 3 * 36
    with pytest.raises(ValueError, match="multiple of 2 channels; these have 15"):
        Int4PerTokenHead().check(15)
