"""Packing: every width, every number of bits, and the byte layout itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autokv.kernels.quantize_pack.packing import pack, packed_bytes, unpack
from autokv.kernels.reference import unpack_token

BITS = st.sampled_from([2, 3, 4, 8])


@given(bits=BITS, width=st.integers(1, 133), rows=st.integers(0, 3), tokens=st.integers(0, 5), seed=st.integers(0, 99))
@settings(max_examples=150, deadline=None)
def test_unpack_undoes_pack(bits: int, width: int, rows: int, tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 1 << bits, (rows, tokens, width), dtype=torch.uint8, generator=generator)
    packed = pack(codes, bits)
    assert packed.shape == (rows, tokens, packed_bytes(width, bits))
    assert torch.equal(unpack(packed, bits, width), codes)


@given(bits=BITS, width=st.integers(1, 80), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_layout_is_the_documented_one(bits: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 1 << bits, (width,), dtype=torch.uint8, generator=generator)
    assert unpack_token(pack(codes, bits).tolist(), bits, width) == codes.tolist()


def test_bytes_by_hand() -> None:
    codes = torch.tensor([1, 2, 3, 0, 5, 6, 7, 4], dtype=torch.uint8)
    assert pack(codes, 8).tolist() == codes.tolist()
    assert pack(codes, 4).tolist() == [0x51, 0x62, 0x73, 0x40]
    assert pack(codes & 3, 2).tolist() == [0b11_01_11_01, 0b00_10_00_10]
    # Low bits 1 2 3 0 1 2 3 0 in two bytes, then the high bits of channels 4 to 7 in one.
    assert pack(codes, 3).tolist() == [0b11_01_11_01, 0b00_10_00_10, 0b11110000]


@pytest.mark.parametrize(
    ("bits", "width", "expected"), [(8, 7, 7), (4, 7, 4), (2, 7, 2), (3, 7, 3), (3, 64, 24), (3, 9, 6)]
)
def test_padding_is_at_most_seven_channels(bits: int, width: int, expected: int) -> None:
    assert packed_bytes(width, bits) == expected
