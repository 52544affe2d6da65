"""The choice of a backend, and what every backend must do."""

from __future__ import annotations

import pytest
import torch

from autokv.errors import RequestError
from autokv.kernels import BACKENDS, Operands, Plain, Rows, Side, backend


def naive(query: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor], scaling: float) -> torch.Tensor:
    """One batch item; ``keys[h]``: float64 ``[tokens, head_dim]``."""
    group = query.shape[0] // len(keys)
    outputs = []
    for head, one in enumerate(query.double()):
        weights = torch.exp(keys[head // group] @ one * scaling)
        outputs.append(values[head // group].T @ weights / weights.sum())
    return torch.stack(outputs)


def test_every_device_has_a_default_and_any_other_can_be_named() -> None:
    assert backend("cpu").name == "cpu"
    assert backend("cpu", "reference").name == "reference"


def test_an_unknown_backend_is_refused_by_its_setting() -> None:
    with pytest.raises(RequestError, match="AUTOKV_KERNELS: no kernels are called 'cuda'; use one of torch"):
        backend("cpu", "cuda")


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kv_heads", [1, 2, 6])
def test_16bit_attention(name: str, dtype: torch.dtype, kv_heads: int) -> None:
    torch.manual_seed(1)
    keys, values = torch.randn(2, 2, kv_heads, 17, 24).to(dtype)
    query = torch.randn(2, 6, 24)
    output = backend("cpu", name).attention_16bit(query, keys, values, 0.3)
    assert output.dtype == query.dtype
    for item in range(2):
        expected = naive(query[item], [*keys[item].double()], [*values[item].double()], 0.3)
        assert (output[item] - expected).norm() / expected.norm() < 5e-3


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("lengths", [[5, 5], [0, 4], [1, 9]])
@pytest.mark.parametrize("newest", [0, 3])
def test_ragged_rows_and_a_window(name: str, lengths: list[int], newest: int) -> None:
    torch.manual_seed(2)
    if newest == 0 and 0 in lengths:
        lengths = [1, *lengths[1:]]
    tokens = torch.randn(2, sum(lengths), 16).half()
    windows = torch.randn(2, 2, newest, 16).half()
    sides = [Side(Plain(flat), window) for flat, window in zip(tokens, windows, strict=True)]
    operands = Operands(1, 2, 16, Rows.of_lengths(torch.tensor(lengths)), *sides)
    query = torch.randn(1, 4, 16)
    output = backend("cpu", name).decode_attention(query, [operands], 0.25).output
    rows = [
        [torch.cat([part, window[row]]).double() for row, part in enumerate(flat.split(lengths))]
        for flat, window in zip(tokens, windows, strict=True)
    ]
    expected = naive(query[0], rows[0], rows[1], 0.25)
    assert (output[0] - expected).norm() / expected.norm() < 5e-3
