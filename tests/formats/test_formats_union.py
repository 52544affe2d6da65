"""What holds for every format: the union, zeros, shapes, tokens written one by one, its row in the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from autokv.formats import FORMATS, AnyKVFormat, KVFormat

ADAPTER: TypeAdapter[KVFormat] = TypeAdapter(AnyKVFormat)
PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
EXAMPLES: list[dict[str, Any]] = [
    {"format": "f32"},
    {"format": "f16"},
    {"format": "bf16"},
    {"format": "fp8_e4m3"},
    {"format": "fp8_e4m3", "scaling": "tensor"},
    {"format": "fp8_e4m3", "scaling": "head"},
    {"format": "fp8_e4m3", "scaling": "token_head"},
    {"format": "fp8_e4m3", "rounding": "truncate"},
    {"format": "fp8_e5m2"},
    {"format": "q8_0"},
    {"format": "q5_1"},
    {"format": "q5_0"},
    {"format": "q4_1"},
    {"format": "q4_0"},
    {"format": "iq4_nl"},
    {"format": "int8_per_token_head"},
    {"format": "int4_per_token_head"},
    {"format": "openvino_u8"},
    {"format": "openvino_u4"},
    {"format": "openvino_u4", "group_size": 32},
    {"format": "openvino_u8", "quant_mode": "by_channel"},
    {"format": "static_int8"},
    {"format": "static_int4"},
    {"format": "mxfp8"},
    {"format": "nvfp4"},
    {"format": "mxfp4"},
    {"format": "fp4_mx_block16"},
    {"format": "ultraquant_4bit"},
    {"format": "turboquant_key", "bits": 4},
    {"format": "turboquant_key", "bits": 3},
    {"format": "turboquant_value", "bits": 4},
    {"format": "turboquant_value", "bits": 3},
    {"format": "quanto", "bits": 4},
    {"format": "quanto", "bits": 2},
    {"format": "hqq", "bits": 8},
    {"format": "hqq", "bits": 4},
    {"format": "hqq", "bits": 2},
    {"format": "mlx_affine", "bits": 8},
    {"format": "mlx_affine", "bits": 4},
    {"format": "integer", "bits": 4, "axis": "token"},
    {"format": "integer", "bits": 4, "axis": "channel", "group_size": 32},
]
FORMS = [ADAPTER.validate_python(example) for example in EXAMPLES]
every_form = pytest.mark.parametrize("form", FORMS, ids=str)


def sample(seed: int = 0, tokens: int = 64) -> Tensor:
    return torch.randn(1, 2, tokens, 64, generator=torch.Generator().manual_seed(seed)) ** 3


def spelled(example: dict[str, Any]) -> str:
    """A row's first cell: the name, and the options that are not the default."""
    options = ", ".join(f"{name} {value}" for name, value in example.items() if name != "format")
    return f"`{example['format']}`" + (f", {options}" if options else "")


def row(example: dict[str, Any]) -> str:
    """How the documentation says it."""
    form = ADAPTER.validate_python(example)
    bits = " | ".join(f"{form.bits_per_value(width):.4g}" for width in (64, 128))
    links = re.findall(r"https://\S+?(?=[,;]? |[,;]?$)", form.source)
    source = ", ".join(f"[{link.rsplit('/', 1)[1]}]({link})" for link in links) or form.source
    engines = ", ".join(form.engines) or "none"
    return (
        f"| {spelled(example)} | {form.title} | {engines} | {bits} | {'yes' if form.per_token else 'no'} | {source} |"
    )


def test_every_format_has_an_example_and_a_name_of_its_own() -> None:
    assert {example["format"] for example in EXAMPLES} == set(FORMATS)
    assert all(FORMATS[example["format"]] is type(form) for example, form in zip(EXAMPLES, FORMS, strict=True))
    assert len({form.title for form in FORMS}) == len(FORMATS)


@pytest.mark.parametrize("example", EXAMPLES, ids=spelled)
def test_the_documentation_has_its_row(example: dict[str, Any]) -> None:
    assert row(example) in PAGE.read_text(encoding="utf-8").splitlines()


@every_form
def test_it_travels_as_json(form: KVFormat) -> None:
    assert ADAPTER.validate_json(form.model_dump_json()) == form
    assert hash(form) == hash(form.model_copy())


@every_form
def test_shape_type_and_input_stay(form: KVFormat) -> None:
    x = sample()
    before = x.clone()
    read = form.round_trip(x)
    assert read.shape == x.shape
    assert read.dtype == torch.float32
    assert bool(read.isfinite().all())
    assert torch.equal(x, before)


@every_form
def test_zeros_are_exact(form: KVFormat) -> None:
    assert not form.round_trip(torch.zeros(1, 2, 32, 64)).any()
    x = sample()
    x[:, 1] = 0
    assert not form.round_trip(x)[:, 1].any() or form.format in ("hqq", "quanto")


@every_form
@given(seed=st.integers(0, 9999))
@settings(max_examples=5, deadline=None)
def test_more_than_noise_is_left(form: KVFormat, seed: int) -> None:
    x = torch.randn(1, 2, 32, 64, generator=torch.Generator().manual_seed(seed))
    assert float((form.round_trip(x) - x).norm() / x.norm()) < 0.5


@every_form
def test_per_token_means_that_tokens_can_be_written_one_by_one(form: KVFormat) -> None:
    if not form.per_token:
        pytest.skip("its scales belong to several tokens")
    x = sample(1)
    one_by_one = torch.cat([form.round_trip(token) for token in x.split(1, 2)], 2)
    assert torch.equal(one_by_one, form.round_trip(x))


@every_form
def test_a_token_that_joins_moves_only_its_group(form: KVFormat) -> None:
    x = sample(3, 96)
    older = form.round_trip(x[:, :, :64])
    held = form.append(older, x[:, :, 64:])
    assert held.shape == x.shape
    if form.per_token:
        assert torch.equal(held, form.round_trip(x))
    elif form.group_tokens:
        assert torch.equal(held[:, :, :64], older)
        assert torch.equal(held[:, :, 64:], form.round_trip(x[:, :, 64:]))
    else:
        assert torch.equal(held, form.round_trip(torch.cat([older, x[:, :, 64:]], 2)))


@every_form
def test_bytes_add_up_and_fewer_bits_take_fewer(form: KVFormat) -> None:
    # Groups of tokens begin anew every 32 or 64; scales of a layer are counted once.
    whole, part = form.nbytes(128, 2, 64), form.nbytes(64, 2, 64)
    assert part < whole <= 2 * part
    assert 2 * part - whole <= 4 * 2
    assert form.bits_per_value(64, tokens=64, heads=2) == 8 * part / (64 * 2 * 64)


@pytest.mark.parametrize(
    "example",
    [{"format": name} for name in ("f32", "f16", "bf16", "fp8_e4m3", "fp8_e5m2", "mxfp8", "nvfp4", "fp4_mx_block16")]
    + [{"format": name, "rotation": "none"} for name in ("q4_0", "q4_1", "q5_0", "q5_1")],
    ids=spelled,
)
@given(seed=st.integers(0, 9999))
@settings(max_examples=10, deadline=None)
def test_what_was_read_is_read_again(example: dict[str, Any], seed: int) -> None:
    form = ADAPTER.validate_python(example)
    once = form.round_trip(sample(seed, 4))
    again = form.round_trip(once)
    # Of blocks, the float16 of a scale that is no float16 any more may differ in its last place.
    assert torch.allclose(again, once, rtol=2.0**-9 if "rotation" in example else 0, atol=0)


def test_unknown_formats_and_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="'q4_0'"):
        ADAPTER.validate_python({"format": "q4_k"})
    with pytest.raises(ValidationError, match="Extra inputs"):
        ADAPTER.validate_python({"format": "f16", "bits": 4})
