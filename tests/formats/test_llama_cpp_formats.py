"""llama.cpp's blocks against ggml's own Python package, bit for bit, and their rotation."""

from __future__ import annotations

from typing import Literal

import gguf
import numpy as np
import pytest
import torch
from gguf.quants import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.linalg import hadamard as hadamard_of
from torch import Tensor

from autokv.formats import IQ4NL, Q4_0, Q8_0, llama_cpp
from autokv.formats.llama_cpp import LLAMA_CPP

BLOCKS = sorted(LLAMA_CPP)
UNROTATED = {name: kind.model_validate({"rotation": "none"}) for name, kind in LLAMA_CPP.items()}
SEEDS = st.integers(0, 2**31 - 1)


def sample(seed: int, head_dim: int = 64, scale: float = 1.0) -> Tensor:
    """Heavy-tailed values ``[1, 2, 5, head_dim]`` with a block of zeros and a constant block."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 2, 5, head_dim, generator=generator) ** 3 * scale
    x[0, 0, 0, :32] = 0
    x[0, 1, 4, -32:] = -0.75 * scale
    return x


def by_gguf(name: str, x: Tensor) -> np.ndarray:
    kind = gguf.GGMLQuantizationType[name.upper()]
    return np.asarray(dequantize(quantize(x.numpy(), kind), kind))


@pytest.mark.parametrize("name", [name for name in BLOCKS if name != "iq4_nl"])
@given(seed=SEEDS, head_dim=st.sampled_from([32, 64, 96]), scale=st.sampled_from([1e-3, 1.0, 40.0]))
@settings(max_examples=15, deadline=None)
def test_unrotated_blocks_are_ggmls_bit_for_bit(name: str, seed: int, head_dim: int, scale: float) -> None:
    x = sample(seed, head_dim, scale)
    read = UNROTATED[name].round_trip(x).numpy()
    assert np.array_equal(read, by_gguf(name, x))


@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_iq4_nl_reads_values_of_ggmls_table_at_the_best_scale(seed: int) -> None:
    x = sample(seed)
    blocks = x.reshape(-1, 32).double().numpy()
    read = IQ4NL(rotation="none").round_trip(x).reshape(-1, 32).double().numpy()
    table = np.array(gguf.quants.IQ4_NL.kvalues, dtype=np.float64)
    for block, back in zip(blocks, read, strict=True):
        if not block.any():
            assert not back.any()
            continue
        first = block[np.abs(block).argmax()] / table[0]
        levels = table[np.abs(block[:, None] / first - table).argmin(1)]
        scale = (block**3 * levels).sum() / (block**2 * levels**2).sum()
        assert np.allclose(back, levels * np.float64(np.float16(scale)), rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", BLOCKS)
def test_bytes_are_ggmls_blocks(name: str) -> None:
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]]
    form = LLAMA_CPP[name].model_validate({})
    assert form.nbytes(7, 3, 128) == 7 * 3 * 128 // values * size
    assert form.bits_per_value(64) == 8 * size / values


@pytest.mark.parametrize(
    ("head_dim", "key", "value"),
    [(32, 1, 1), (64, 64, 64), (96, 1, 1), (128, 128, 64), (192, 64, 64), (256, 256, 64), (576, 64, 64)],
)
def test_keys_and_values_are_rotated_as_llama_cpp_does(head_dim: int, key: int, value: int) -> None:
    assert llama_cpp("q4_0", "key").rotated_channels(head_dim) == key
    assert llama_cpp("q4_0", "value").rotated_channels(head_dim) == value
    assert llama_cpp("q4_0", "key", rotated=False).rotated_channels(head_dim) == 1


@pytest.mark.parametrize(("side", "size"), [("key", 128), ("value", 64)])
def test_a_rotated_format_is_the_block_between_two_rotations(side: Literal["key", "value"], size: int) -> None:
    x = sample(3, 128)
    basis = np.kron(np.eye(128 // size), hadamard_of(size)) / size**0.5
    rotated = torch.from_numpy(x.double().numpy() @ basis.T).float()
    expected = by_gguf("q8_0", rotated).astype(np.float64) @ basis
    read = llama_cpp("q8_0", side).round_trip(x)
    # A value between two codes may fall on either side: the rotation's sums are in another order.
    step = float(rotated.abs().amax()) / 127
    assert np.abs(read.numpy() - expected).max() < 2 * step / size**0.5
    assert np.median(np.abs(read.numpy() - expected)) < 1e-5


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("rotated", [True, False])
def test_queries_meet_keys_in_q8_0_of_the_same_basis(name: str, rotated: bool) -> None:
    query = sample(4, 128)
    form = llama_cpp(name, "key", rotated=rotated)
    assert torch.equal(form.query_round_trip(query), llama_cpp("q8_0", "key", rotated=rotated).round_trip(query))


@pytest.mark.parametrize("name", BLOCKS)
def test_rotation_lessens_the_error_of_an_outlier_channel(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 1, 200, 64, generator=generator)
    x[..., 5] += 25
    errors = {
        rotation: float(
            (LLAMA_CPP[name].model_validate({"rotation": rotation}).round_trip(x) - x)[
                ..., torch.arange(64) != 5
            ].norm()
        )
        for rotation in ("none", "hadamard")
    }
    assert errors["hadamard"] < errors["none"]


@pytest.mark.parametrize(("name", "levels"), [("q8_0", 254), ("q4_1", 15), ("q5_1", 31)])
@given(seed=SEEDS)
@settings(max_examples=15, deadline=None)
def test_the_error_is_half_a_step_and_what_float16_adds(name: str, levels: int, seed: int) -> None:
    x = sample(seed).reshape(1, 2, 10, 32)
    spread = (
        x.abs().amax(-1, keepdim=True) * 2 if name == "q8_0" else x.amax(-1, keepdim=True) - x.amin(-1, keepdim=True)
    )
    allowed = spread / levels / 2 + (x.abs().amax(-1, keepdim=True) + spread) * 2.0**-10 + 2.0**-14
    assert bool(((UNROTATED[name].round_trip(x) - x).abs() <= allowed).all())


@pytest.mark.parametrize("name", BLOCKS)
def test_zeros_and_constants_are_exact(name: str) -> None:
    form = UNROTATED[name]
    assert not form.round_trip(torch.zeros(1, 1, 3, 64)).any()
    constant = torch.full((1, 1, 3, 64), 0.75)
    read = form.round_trip(constant)
    # 127 and 113 do not divide it exactly, and the scale is a float16.
    assert torch.allclose(read, constant, rtol=2.0**-11, atol=0)
    assert name not in ("q4_1", "q5_1", "q4_0", "q5_0") or torch.equal(read, constant)


def test_what_it_does_not_hold() -> None:
    with pytest.raises(ValueError, match=r"q4_0 holds heads of a multiple of 32 channels; these have 80"):
        Q4_0().check(80)
    with pytest.raises(ValueError, match="multiple of 32"):
        Q4_0().round_trip(torch.zeros(1, 1, 1, 80))
    with pytest.raises(ValueError, match="multiple of 32"):
        Q4_0().nbytes(1, 1, 80)
    with pytest.raises(ValueError, match=r"rotation_channels 128 does not divide heads of 192 channels"):
        Q8_0(rotation_channels=128).check(192)
    with pytest.raises(ValidationError, match="power of two"):
        Q8_0(rotation_channels=96)
