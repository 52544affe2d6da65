"""OpenVINO's integers: what OpenVINO 2026.4.1 itself read back on a processor, and its groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autokv.formats import OpenVINOU4, OpenVINOU8
from autokv.formats.openvino import OpenVINOFormat

# The codes of a token of 32 channels, from the outputs of its attention over one token.
U8 = [0, 94, 189, 26, 120, 214, 51, 145, 240, 76, 171, 8, 102, 196, 33, 128]
U8 += [222, 59, 153, 247, 84, 178, 15, 110, 204, 41, 135, 230, 66, 161, 255, 92]
U4 = [0, 6, 11, 1, 7, 13, 3, 9, 14, 4, 10, 0, 6, 12, 2, 8, 13, 3, 9, 15, 5, 10, 1, 6, 12, 2, 8, 14, 4, 9, 15, 5]
U4_GROUPS = [0, 6, 12, 2, 7, 13, 3, 9, 15, 5, 11, 0, 6, 12, 2, 8, 13, 3, 9, 15, 4, 10, 0, 6, 12, 2, 8, 13, 3, 9, 15, 5]


def sample(seed: int, tokens: int = 7, head_dim: int = 32) -> Tensor:
    return torch.randn(1, 2, tokens, head_dim, generator=torch.Generator().manual_seed(seed)) ** 3


@pytest.mark.parametrize(
    ("form", "codes"),
    [(OpenVINOU8(), U8), (OpenVINOU4(), U4), (OpenVINOU4(group_size=16), U4_GROUPS)],
    ids=["u8", "u4", "u4, groups of 16"],
)
def test_it_reads_what_openvino_read(form: OpenVINOFormat, codes: list[int]) -> None:
    x = ((np.arange(32) * 37 % 101 - 50) / 16).astype(np.float32)
    groups = x.reshape(-1, form.group_size or 32)
    scale = (groups.max(1, keepdims=True) - groups.min(1, keepdims=True)) / np.float32(2**form.bits - 1)
    zero = -groups.min(1, keepdims=True) / scale
    expected = (np.array(codes, dtype=np.float32).reshape(groups.shape) - zero) * scale
    read = form.round_trip(torch.from_numpy(x).reshape(1, 1, 1, 32))
    assert np.array_equal(read.numpy().reshape(groups.shape), expected)


@given(seed=st.integers(0, 9999), size=st.sampled_from([None, 16, 8]))
@settings(max_examples=20, deadline=None)
def test_the_error_is_at_most_half_a_step_of_the_group(seed: int, size: int | None) -> None:
    x = sample(seed)
    for form in (OpenVINOU8(group_size=size), OpenVINOU4(group_size=size)):
        groups = x.reshape(-1, size or 32)
        step = (groups.amax(1, keepdim=True) - groups.amin(1, keepdim=True)) / (2**form.bits - 1)
        error = (form.round_trip(x).reshape(groups.shape) - groups).abs()
        assert bool((error <= step * 0.5001 + 1e-6).all())


@pytest.mark.parametrize("size", [None, 4])
def test_by_channel_a_group_is_some_tokens_of_a_channel(size: int | None) -> None:
    tokens = size or 32
    x = sample(0, tokens * 2 + 2)
    form = OpenVINOU8(quant_mode="by_channel", group_size=size)
    parts = [
        OpenVINOU8().round_trip(x[:, :, start : start + tokens].transpose(2, 3)).transpose(2, 3)
        for start in range(0, x.shape[2], tokens)
    ]
    # A scale is multiplied by 1/255 by channel, and divided by 255 by token.
    same = torch.isclose(form.round_trip(x), torch.cat(parts, 2), rtol=0, atol=1e-5)
    assert float(same.float().mean()) > 0.99
    assert not form.per_token


def test_by_channel_a_group_that_fills_is_stored_anew() -> None:
    # What OpenVINO 2026.4.1 held of one channel after a third and a fourth token joined two.
    form = OpenVINOU8(quant_mode="by_channel")
    x = torch.tensor([0.3674662, 1.3382795, 1.3224574, -2.5121276]).reshape(1, 1, 4, 1)
    after = {3: [0.3674662, 1.3382795, 1.3230511], 4: [0.3719030, 1.3382797, 1.3231801, -2.5121276]}
    held = form.round_trip(x[:, :, :2])
    for count in (3, 4):
        held = form.append(held, x[:, :, count - 1 : count])
        assert held.flatten().tolist() == pytest.approx(after[count], abs=1e-6)
    many = sample(7, 32, 32)
    held = many[:, :, :0]
    for start in range(32):
        held = form.append(held, many[:, :, start : start + 1])
    assert float((held - many).norm()) > float((form.round_trip(many) - many).norm())


def test_bytes_have_a_scale_and_a_zero_point_per_group() -> None:
    assert OpenVINOU8().nbytes(10, 3, 64) == 10 * 3 * (64 + 8)
    assert OpenVINOU4().nbytes(10, 3, 64) == 10 * 3 * (32 + 8)
    assert OpenVINOU4(group_size=32).nbytes(10, 3, 64) == 10 * 3 * (32 + 16)
    assert OpenVINOU8(quant_mode="by_channel").nbytes(33, 3, 64) == 3 * (33 * 64 + 2 * 64 * 8)


def test_constants_are_read_back() -> None:
    for form in (OpenVINOU8(), OpenVINOU4()):
        assert torch.allclose(form.round_trip(torch.full((1, 1, 2, 32), 0.75)), torch.tensor(0.75), atol=5e-5)


def test_groups_that_do_not_divide_the_head() -> None:
    with pytest.raises(ValueError, match="group_size 48 does not divide heads of 64 channels"):
        OpenVINOU8(group_size=48).check(64)
    OpenVINOU8(quant_mode="by_channel", group_size=48).check(64)
