"""What is generated behind a short prompt is held as well as a prompt would be, whatever its first tokens look like."""

from __future__ import annotations

import pytest
import torch

from autokv.compression import CompressedKV, LayerContext, compress
from autokv.compression.extend import extend
from autokv.config import CompressionConfig
from autokv.kernels import Float8, backend

HEADS, DIM, BLOCK, BLOCKS = 2, 16, 32, 6


def integers(bits: int, key_axis: str = "channel") -> dict[str, object]:
    return {
        "method": "integer",
        "key": {"bits": bits, "axis": key_axis, "group_size": 16},
        "value": {"bits": bits, "axis": "token", "group_size": 16},
        "residual_tokens": 0,
    }


FORMS: dict[str, dict[str, object]] = {
    "16 bit": {},
    "fp8": {"quantization": {"method": "fp8"}},
    "fp8, rotated": {"quantization": {"method": "fp8", "rotation": "hadamard"}},
    "int8": {"quantization": integers(8)},
    "int4": {"quantization": integers(4)},
    "int2 by token": {"quantization": integers(2, "token")},
    "residual int4": {
        "quantization": integers(4),
        "low_rank": {"method": "residual", "key_rank": 4, "value_rank": 4},
    },
    "residual fp8": {
        "quantization": {"method": "fp8"},
        "low_rank": {"method": "residual", "key_rank": 2, "value_rank": 2},
    },
    "latent": {"low_rank": {"method": "latent", "key_rank": 6, "value_rank": 6}},
    "latent fp8": {
        "quantization": {"method": "fp8"},
        "low_rank": {"method": "latent", "key_rank": 6, "value_rank": 6},
    },
}


def states(tokens: int, seed: int) -> torch.Tensor:
    """Keys and values ``[2, 1, HEADS, tokens, DIM]`` of six strong directions and some noise."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(HEADS, 6, DIM, generator=torch.Generator().manual_seed(0))
    mixed = torch.randn(2, 1, HEADS, tokens, 6, generator=generator) @ directions
    return mixed + 0.05 * torch.randn(2, 1, HEADS, tokens, DIM, generator=generator)


def error(held: CompressedKV, keys: torch.Tensor, values: torch.Tensor) -> float:
    found = held.materialize(torch.float32)
    return max(float((one - true).norm() / true.norm()) for one, true in zip(found, (keys, values), strict=False))


@pytest.mark.parametrize("first", [1e-3, 1.0, 1e3], ids="first token times {}".format)
@pytest.mark.parametrize("prompt", [1, 2, 5, 15])
@pytest.mark.parametrize("form", FORMS)
def test_later_tokens_are_held_as_well_as_a_prompt(form: str, prompt: int, first: float) -> None:
    config = CompressionConfig.parse({"pipeline": FORMS[form]})
    kernels = backend("cpu", "torch")
    context = LayerContext(0, 1, DIM**-0.5, kernels=kernels)
    keys, values = states(prompt, seed=1)
    keys[:, :, 0] *= first
    values[:, :, 0] *= first
    before = compress(keys, values, context, config).held
    # They grow on, beyond whatever the first ones let expect.
    keys, values = states(BLOCK * BLOCKS, seed=2) * torch.linspace(1, 8, BLOCK * BLOCKS)[:, None]
    held = None
    for block in range(BLOCKS):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        new_keys, new_values = (side[:, :, part].flatten(0, 1) for side in (keys, values))
        held = extend(held, new_keys, new_values, before, config.pipeline, torch.float16, kernels)
    assert held is not None
    alone = error(compress(keys, values, context, config), keys, values)
    assert error(CompressedKV(held, None, (BLOCK * BLOCKS,)), keys, values) < 1.5 * alone + 1e-3


def test_a_scale_that_doubles_leaves_the_codes_that_were_there_worth_the_same() -> None:
    config = CompressionConfig.parse({"pipeline": {"quantization": {"method": "fp8"}}})
    kernels = backend("cpu", "torch")
    context = LayerContext(0, 1, DIM**-0.5, kernels=kernels)
    prompt, small = states(40, seed=1), states(BLOCK, seed=2)
    before = compress(prompt[0], prompt[1], context, config).held
    keys, values = small.flatten(1, 2)
    once = extend(None, keys, values, before, config.pipeline, torch.float16, kernels)
    # One head's tokens grow, the other's do not.
    large = states(BLOCK, seed=3)
    large[:, :, 1] *= 50
    keys, values = large.flatten(1, 2)
    twice = extend(once, keys, values, before, config.pipeline, torch.float16, kernels)
    for was, now in ((once.keys.packed, twice.keys.packed), (once.values.packed, twice.values.packed)):
        assert isinstance(was, Float8)
        assert isinstance(now, Float8)
        ratio = now.scale / was.scale
        assert ratio[0] == 1
        assert ratio[1] >= 8
        assert ratio[1].log2() == ratio[1].log2().round()
        codes = (part.view(torch.float8_e4m3fn).float() for part in (was.codes, now.codes))
        old, new = (part.view(HEADS, -1, DIM) for part in codes)
        worth = new[:, :BLOCK] * now.scale[:, None, None] - old * was.scale[:, None, None]
        # Half of the format's smallest step, where numbers fall below its normal ones.
        assert (worth.abs() <= 1.001 * 2.0**-10 * now.scale[:, None, None]).all()
        assert (new.abs() <= 448).all()
