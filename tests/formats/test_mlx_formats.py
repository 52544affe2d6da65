"""MLX's affine integers: what MLX 0.32.4 itself stored, and the same steps in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.formats import MLXAffine

FOUR_BITS = [
    15,
    10,
    4,
    14,
    8,
    3,
    13,
    7,
    1,
    11,
    5,
    15,
    10,
    4,
    14,
    8,
    2,
    12,
    6,
    0,
    11,
    5,
    15,
    9,
    3,
    13,
    8,
    2,
    12,
    6,
    0,
    10,
]
THREE_BITS = [7, 5, 2, 7, 4, 1, 6, 3, 0, 6, 3, 7, 5, 2, 7, 4, 1, 6, 3, 0, 5, 2, 7, 5, 2, 7, 4, 1, 6, 3, 0, 5]


@pytest.mark.parametrize(("bits", "scale", "codes"), [(4, -0.390625, FOUR_BITS), (3, -0.78125, THREE_BITS)])
def test_it_reads_what_mlx_read(bits: int, scale: float, codes: list[int]) -> None:
    x = ((torch.arange(32) * 37 % 101 - 50) / 16).reshape(1, 1, 1, 32)
    form = MLXAffine.model_validate({"bits": bits, "group_size": 32})
    assert form.round_trip(x).flatten().tolist() == [code * scale + 3.125 for code in codes]


@given(seed=st.integers(0, 9999), bits=st.sampled_from([2, 3, 4, 5, 6, 8]), offset=st.sampled_from([0.0, 5.0]))
@settings(max_examples=30, deadline=None)
def test_the_largest_magnitude_is_exact_and_zero_is_a_code(seed: int, bits: int, offset: float) -> None:
    x = np.random.default_rng(seed).standard_normal((1, 2, 3, 64)).astype(np.float32) + np.float32(offset)
    form = MLXAffine.model_validate({"bits": bits})
    read = form.round_trip(torch.from_numpy(x)).numpy()
    largest = np.take_along_axis(x, np.abs(x).argmax(-1)[..., None], -1)
    assert np.array_equal(np.take_along_axis(read, np.abs(x).argmax(-1)[..., None], -1), largest)
    # Fitting the scale to zero moves it by half a step over the range at most, which the other end then lacks.
    step = (x.max(-1, keepdims=True) - x.min(-1, keepdims=True)) / (2**bits - 1)
    assert np.abs(read - x).max() <= (step * 1.01 + np.abs(x).max() * 1e-5).max()


def test_bytes_have_a_scale_and_a_bias_per_group() -> None:
    assert MLXAffine(bits=4).nbytes(10, 3, 128) == 30 * (64 + 8)
    assert MLXAffine(bits=8, group_size=32).nbytes(10, 3, 128) == 30 * (128 + 16)
    with pytest.raises(ValueError, match="group_size 64 does not divide heads of 80 channels"):
        MLXAffine(bits=4).check(80)
