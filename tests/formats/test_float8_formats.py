"""8-bit floats: where their scales come from, and torch's casts."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from autokv.formats import FP8E4M3, FP8E5M2
from autokv.formats.float8 import Float8

Scaling = Literal["fixed", "tensor", "head", "token_head"]
SCALINGS: tuple[Scaling, ...] = ("fixed", "tensor", "head", "token_head")
DYNAMIC: tuple[Scaling, ...] = SCALINGS[1:]

KINDS = [(FP8E4M3, torch.float8_e4m3fn, 448.0), (FP8E5M2, torch.float8_e5m2, 57344.0)]


def sample(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 5, 16, generator=torch.Generator().manual_seed(seed)) * 7


@pytest.mark.parametrize(("kind", "dtype", "largest"), KINDS)
def test_every_code_is_read_as_torch_reads_it(kind: type[Float8], dtype: torch.dtype, largest: float) -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    codes = codes[codes.isfinite()].reshape(1, 1, 1, -1)
    assert torch.equal(kind.model_validate({}).round_trip(codes), codes)
    between = (codes + 1e-3 * codes.abs()).clamp(-largest, largest)
    assert torch.equal(kind.model_validate({}).round_trip(between), between.to(dtype).float())


@pytest.mark.parametrize(("kind", "dtype", "largest"), KINDS)
def test_values_beyond_the_largest_saturate(kind: type[Float8], dtype: torch.dtype, largest: float) -> None:
    x = torch.tensor([largest * 3, -largest * 3, largest]).reshape(1, 1, 1, 3)
    assert kind.model_validate({}).round_trip(x).flatten().tolist() == [largest, -largest, largest]


@pytest.mark.parametrize(("kind", "dtype", "largest"), KINDS)
def test_a_given_scale_divides_what_is_stored(kind: type[Float8], dtype: torch.dtype, largest: float) -> None:
    x = sample()
    assert torch.equal(
        kind.model_validate({"scale": 0.3}).round_trip(x), (x / torch.tensor(0.3)).to(dtype).float() * torch.tensor(0.3)
    )
    per_head = kind.model_validate({"scale": (0.5, 2.0, 0.25)}).round_trip(x)
    for head, scale in enumerate((0.5, 2.0, 0.25)):
        assert torch.equal(per_head[:, head], kind.model_validate({"scale": scale}).round_trip(x)[:, head])


@pytest.mark.parametrize(("kind", "dtype", "largest"), KINDS)
@pytest.mark.parametrize(
    ("scaling", "over", "smallest"),
    [("tensor", (0, 1, 2, 3), 0), ("head", (2, 3), 0), ("token_head", (3,), 1e-6)],
)
def test_scales_taken_from_what_is_stored(
    kind: type[Float8], dtype: torch.dtype, largest: float, scaling: Scaling, over: tuple[int, ...], smallest: float
) -> None:
    x = sample()
    x[0, 0, 0] *= 1e-9
    scale = (x.abs().amax(over, keepdim=True) / largest).clamp(min=smallest)
    read = kind.model_validate({"scaling": scaling}).round_trip(x)
    assert torch.allclose(read, (x / scale).clamp(-largest, largest).to(dtype).float() * scale, rtol=0.25, atol=1e-12)
    largest_read = read.abs().amax(over)
    assert torch.allclose(largest_read[largest_read > 1e-5], x.abs().amax(over)[largest_read > 1e-5], rtol=1e-6)


@pytest.mark.parametrize(("kind", "dtype", "largest"), KINDS)
def test_truncation_takes_the_next_code_towards_zero(kind: type[Float8], dtype: torch.dtype, largest: float) -> None:
    form = kind.model_validate({"rounding": "truncate"})
    codes = torch.arange(128, dtype=torch.uint8).view(dtype).float()
    codes = codes[codes.isfinite()]
    for sign in (1, -1):
        assert torch.equal(form.round_trip(sign * codes.reshape(1, 1, 1, -1)).flatten(), sign * codes)
        almost_next = codes[:-1] + (codes[1:] - codes[:-1]) * 0.99
        assert torch.equal(form.round_trip(sign * almost_next.reshape(1, 1, 1, -1)).flatten(), sign * codes[:-1])
    assert float(form.round_trip(torch.full((1, 1, 1, 1), -largest * 2))) == -largest


def test_truncation_stores_what_vllms_own_operator_stores() -> None:
    # Values and the bytes that vLLM 0.32.0 stored of them on a processor, with scale 1.
    x = torch.tensor([0.3, -0.3, 1.9, -7.7, 0.0019, 0.0021, 500.0, -0.06]).reshape(1, 1, 1, 8)
    stored = {FP8E4M3: [41, 169, 63, 207, 0, 1, 126, 151], FP8E5M2: [52, 180, 63, 199, 23, 24, 95, 171]}
    for kind, dtype, _ in KINDS:
        expected = torch.tensor(stored[kind], dtype=torch.uint8).view(dtype).float()
        assert torch.equal(kind.model_validate({"rounding": "truncate"}).round_trip(x).flatten(), expected)


@pytest.mark.parametrize("scaling", ["tensor", "head"])
def test_a_calibrated_format_keeps_the_scales_of_the_prompt(scaling: Scaling) -> None:
    prompt, later = sample()[:1], sample(1)[:1] / 8
    kept = FP8E4M3(scaling=scaling).calibrated(prompt)
    assert kept.scaling == "fixed"
    assert kept.per_token
    assert torch.equal(kept.round_trip(prompt), FP8E4M3(scaling=scaling).round_trip(prompt))
    assert not torch.equal(kept.round_trip(later), FP8E4M3(scaling=scaling).round_trip(later))
    assert FP8E4M3.model_validate_json(kept.model_dump_json()) == kept
    assert FP8E4M3().calibrated(prompt) == FP8E4M3()


@given(exponent=st.integers(-3, 3), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_powers_of_two_commute_with_dynamic_scales(exponent: int, seed: int) -> None:
    x = sample(seed)
    for scaling in DYNAMIC:
        form = FP8E4M3(scaling=scaling)
        assert torch.equal(form.round_trip(x * 2.0**exponent), form.round_trip(x) * 2.0**exponent)


def test_bytes() -> None:
    sizes = {
        scaling: FP8E4M3(scaling=scaling).nbytes(10, 3, 64) for scaling in ("fixed", "tensor", "head", "token_head")
    }
    assert sizes == {"fixed": 1920, "tensor": 1924, "head": 1932, "token_head": 2040}


def test_which_formats_are_written_token_by_token() -> None:
    written = {scaling for scaling in SCALINGS if FP8E5M2(scaling=scaling).per_token}
    assert written == {"fixed", "token_head"}
    x = sample()
    for scaling in written:
        form = FP8E5M2(scaling=scaling)
        one_by_one = torch.cat([form.round_trip(token) for token in x.split(1, 2)], 2)
        assert torch.equal(one_by_one, form.round_trip(x))


def test_scales_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="scale has 2 entries, and the layer has 3 KV heads"):
        FP8E4M3(scale=(1.0, 2.0)).round_trip(sample())
    with pytest.raises(ValidationError, match="scaling 'tensor' takes scales from what is stored"):
        FP8E4M3(scaling="tensor", scale=2.0)
    with pytest.raises(ValidationError):
        FP8E4M3(scale=0.0)
